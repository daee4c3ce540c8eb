"""Clock, random state, alarms and checkpoints around a small model."""

import json
import re
import types
import zipfile

import keras
import numpy as np
import pytest

from tsi_keras.training import callbacks
from tsi_keras.training.averaging import averaged_weights
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.run_lock import RunLock
from tsi_keras.training.schedule import OfConsumedBatches
from tsi_keras.training.schedule import StepDecay
from tsi_keras.training.state import latest_state
from tsi_keras.training.state import load_state
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.folder_lock import LOCK

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


def small_model(optimizer=None):
    """A compiled model with dropout."""
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(4, name="body")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="classifier")(x))
    model.compile(optimizer or GroupedSGD(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, epochs, *extra):
    model.fit(X, X[:, :2], epochs=epochs, shuffle=False, verbose=0, callbacks=extra)


def test_clock_leaves_out_compilation_and_validation(monkeypatch):
    now = 0.0
    fake = types.SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr(callbacks, "time", fake)
    clock = callbacks.Clock(batch_size=10)
    clock.set_model(small_model())
    clock.set_params({"steps": 3})
    speeds = []
    for epoch, durations in enumerate([[60, 2, 2], [5, 2, 3]]):
        clock.on_epoch_begin(epoch)
        for batch, seconds in enumerate(durations):
            now += seconds
            clock.on_train_batch_end(batch)
        now += 100
        logs = {}
        clock.on_epoch_end(epoch, logs)
        speeds.append(logs["clips_per_second"])
    assert speeds == [20 / 4, 30 / 10]
    assert logs["seconds"] == 110
    assert logs["learning_rate"] == pytest.approx(0.01)


def dropout_states(seed, epochs):
    model = small_model()
    reseed = callbacks.ReseedEveryEpoch(seed)
    reseed.set_model(model)
    states = []
    for epoch in epochs:
        fit(model, 1)
        reseed.on_epoch_begin(epoch)
        states += [
            tuple(v.numpy()) for v in model.variables if v.name.startswith("seed")
        ]
    return states


def test_random_state_depends_on_seed_and_epoch_only():
    first = dropout_states(1, [0, 1, 2])
    assert len(set(first)) == 3
    assert dropout_states(1, [2]) == first[2:]
    assert not set(dropout_states(2, [0, 1, 2])) & set(first)


def diverge(*extra):
    """The message of a training whose loss is no number in the third step."""
    model = small_model(GroupedSGD(1e30, clip_norm=None))
    with pytest.raises(callbacks.TrainingDiverged) as error:
        fit(model, 50, *extra)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_loss_that_is_no_number_is_an_error(tmp_path):
    message = diverge(callbacks.StopWhenNotFinite(tmp_path))
    assert re.search(r"^The loss became (inf|nan) in epoch \d, step 1 ", message)
    assert "learning rate 1e+30)." in message
    assert message.endswith("no state was saved before.")


def test_videos_of_the_bad_batch_are_named():
    def batch_ids(epoch, step):
        return [f"video-{epoch}-{step}", "other"]

    message = diverge(callbacks.StopWhenNotFinite(None, batch_ids))
    epoch = int(re.search(r"in epoch (\d+)", message)[1]) - 1
    assert f", with the videos video-{epoch}-0, other. Lower" in message
    message = diverge(callbacks.StopWhenNotFinite(None, batch_ids, exact=False))
    assert ", with about the videos video-" in message
    assert "only train.deterministic=true" in message


def test_loss_that_is_no_number_tells_how_to_go_on(tmp_path):
    weights = tmp_path / "last.keras"
    alarm = callbacks.StopWhenNotFinite(tmp_path, weights=weights)
    message = diverge(alarm)
    assert (
        "in a new run (--resume keeps the recipe): take another --output; no" in message
    )
    weights.touch()
    message = diverge(alarm)
    assert f"take another --output and --model.weights={weights}, the last" in message
    with pytest.raises(callbacks.TrainingDiverged, match="--model.weights="):
        alarm.on_epoch_end(2, {"val_loss": float("nan")})


class Rates(keras.callbacks.Callback):
    """Writes down the learning rate that every epoch begins with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize("parts", [1, 2])
def test_milestones_do_not_wait_for_skipped_batches(parts):
    """The first batches overflow: float32 ends at 3.4e38."""
    schedule = OfConsumedBatches(StepDecay(0.5, [2, 4], 0.5))
    inner = GroupedSGD(schedule, accumulation_steps=parts)
    model = small_model(ReplicaLossScale(inner, initial_scale=2.0**127))
    rates = Rates()
    for epoch in range(3):
        model.fit(
            100 * X,
            -X[:, :2],
            batch_size=4 // parts,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[callbacks.CountSkippedBatches(2), rates],
        )
    assert model.optimizer.iterations.numpy() < 6
    assert schedule.skipped.numpy() > 0
    assert rates.seen == [0.5, 0.25, 0.125]
    # What is saved and restored is as it is without such a schedule.
    plain = GroupedSGD(StepDecay(0.5, [2]), accumulation_steps=parts)
    plain = small_model(ReplicaLossScale(plain)).optimizer
    assert len(model.optimizer.variables) == len(plain.variables)


def test_schedule_of_consumed_batches_is_serializable():
    schedule = OfConsumedBatches(StepDecay(0.5, [2, 4], 0.5))
    config = keras.optimizers.schedules.serialize(schedule)
    restored = keras.optimizers.schedules.deserialize(config)
    assert restored.get_config() == schedule.get_config()
    assert [float(restored(np.int64(step))) for step in (1, 2, 4)] == [0.5, 0.25, 0.125]


def test_training_ends_when_the_folder_is_taken(tmp_path):
    class Taken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            (tmp_path / LOCK).write_text(json.dumps(other))
            lock._beat()

    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    with RunLock(tmp_path) as lock:
        lock.acquire()
        other = lock._owner._asdict() | {"token": "another"}
        stop = callbacks.StopWhenTaken(lock)
        with pytest.raises(InputError, match="was taken over by process"):
            fit(small_model(), 3, stop, Taken(), count)
    assert steps == [0]


def test_nothing_is_saved_over_finite_weights(tmp_path):
    """The weights are lost one step before the loss shows it."""
    model = small_model(GroupedSGD(0.01, clip_norm=None))
    state = SaveState(tmp_path / "state", minutes=0)
    models = SaveModels(tmp_path / "last.keras")
    state.sealed = models.publish
    alarm = callbacks.StopWhenNotFinite(tmp_path / "state")
    fit(model, 2, alarm, models, state)
    good = latest_state(tmp_path / "state")
    weight = first_weight(tmp_path / "last.keras")

    class Poison(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.layers[1].kernel
            kernel.assign(kernel * np.nan)

    with pytest.raises(callbacks.TrainingDiverged, match="no longer finite") as error:
        fit(model, 3, alarm, Poison(), models, state)
    assert str(good.path) in str(error.value)
    assert latest_state(tmp_path / "state") == good
    assert load_state(good).is_finite()
    assert first_weight(tmp_path / "last.keras") == weight


def test_validation_loss_counts_too(tmp_path):
    alarm = callbacks.StopWhenNotFinite(tmp_path)
    alarm.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    alarm.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(callbacks.TrainingDiverged, match="validation loss .* epoch 3"):
        alarm.on_epoch_end(2, {"loss": 1.0, "val_loss": float("nan")})


def test_best_is_kept_and_last_follows(tmp_path):
    model = small_model()
    saver = SaveModels(
        tmp_path / "last.keras",
        tmp_path / "best.keras",
        value=0.2,
        details={"versions": {"keras": "3"}},
    )
    saver.set_model(model)
    kept = []
    for epoch, value in enumerate([0.1, 0.5, 0.5, 0.4]):
        model.layers[1].set_weights([np.full((4, 4), epoch), np.zeros(4)])
        saver.on_epoch_end(epoch, {"val_top1": value, "seconds": 3.0})
        saver.publish(epoch + 1)
        best = tmp_path / "best.keras"
        kept.append(first_weight(best) if best.is_file() else None)
        assert first_weight(tmp_path / "last.keras") == epoch
        facts = json.loads((tmp_path / "last.json").read_text())
        assert facts == {
            "epoch": epoch + 1,
            "metrics": {"val_top1": value},
            "sha256": file_sha256(tmp_path / "last.keras"),
            "versions": {"keras": "3"},
        }
    assert kept == [None, 1, 1, 1]
    facts = json.loads((tmp_path / "best.json").read_text())
    assert facts["epoch"] == 2
    assert facts["sha256"] == file_sha256(tmp_path / "best.keras")
    assert {p.name for p in tmp_path.iterdir()} == {
        "best.json",
        "best.keras",
        "last.json",
        "last.keras",
    }


def test_saved_models_have_the_averaged_weights(tmp_path):
    model = small_model(GroupedSGD(0.5, ema_decay=0.9))
    models = SaveModels(tmp_path / "last.keras")
    fit(model, 3, models)
    models.publish(3)
    raw = model.layers[1].kernel.numpy()[0, 0]
    with averaged_weights(model):
        average = model.layers[1].kernel.numpy()[0, 0]
    assert first_weight(tmp_path / "last.keras") == average != raw


def first_weight(path):
    """A weight of a saved model; the file must not need the training code."""
    with zipfile.ZipFile(path) as file:
        assert "tsi_keras" not in file.read("config.json").decode()
    return keras.saving.load_model(path).layers[1].get_weights()[0][0, 0]
