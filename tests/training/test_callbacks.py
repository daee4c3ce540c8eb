"""Clock, random state, alarms and checkpoints around a small model."""

import types
import zipfile

import keras
import numpy as np
import pytest

from tsi_keras.training import callbacks
from tsi_keras.training.checkpoints import Backup
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import latest_state
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.utils.errors import InputError

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


def test_loss_that_is_no_number_is_an_error():
    model = small_model(GroupedSGD(1e30, clip_norm=None))
    with pytest.raises(callbacks.TrainingDiverged) as error:
        fit(model, 50, callbacks.StopWhenNotFinite())
    assert "epoch " in str(error.value)
    assert "learning rate 1e+30" in str(error.value)


@pytest.mark.parametrize("wrap", [lambda inner: inner, ReplicaLossScale])
def test_backup_goes_on_where_it_was(tmp_path, wrap):
    undisturbed = small_model(wrap(GroupedSGD(0.01)))
    start = undisturbed.get_weights()
    seeds = callbacks.ReseedEveryEpoch(0)
    fit(undisturbed, 4, seeds)

    model = small_model(wrap(GroupedSGD(0.01)))
    model.set_weights(start)
    fit(model, 3, seeds, Backup(tmp_path / "state"))
    path, epoch = latest_state(tmp_path / "state")
    assert (path.name, epoch) == ("epoch-00003.weights.h5", 3)
    assert list(path.parent.iterdir()) == [path]

    resumed = small_model(wrap(GroupedSGD(0.01)))
    history = keras.callbacks.History()
    fit(resumed, 4, seeds, Backup(tmp_path / "state"), history)
    assert history.epoch == [3]
    assert resumed.optimizer.iterations.numpy() == 4
    for expected, found in zip(
        undisturbed.optimizer.variables, resumed.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(expected.numpy(), found.numpy())
    for expected, found in zip(
        undisturbed.get_weights(), resumed.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(expected, found)


def test_damaged_state_is_one_line(tmp_path):
    (tmp_path / "epoch-00001.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="epoch-00001.* cannot be read") as error:
        fit(small_model(), 2, Backup(tmp_path))
    assert "\n" not in str(error.value)


def test_no_state_yet(tmp_path):
    assert latest_state(tmp_path / "nowhere") is None


def test_best_is_kept_and_last_follows(tmp_path):
    model = small_model()
    saver = SaveModels(tmp_path / "last.keras", tmp_path / "best.keras", value=0.2)
    saver.set_model(model)
    kept = []
    for epoch, value in enumerate([0.1, 0.5, 0.5, 0.4]):
        model.layers[1].set_weights([np.full((4, 4), epoch), np.zeros(4)])
        saver.on_epoch_end(epoch, {"val_top1": value})
        best = tmp_path / "best.keras"
        kept.append(first_weight(best) if best.is_file() else None)
        assert first_weight(tmp_path / "last.keras") == epoch
    assert kept == [None, 1, 1, 1]
    assert {p.name for p in tmp_path.iterdir()} == {"best.keras", "last.keras"}


def first_weight(path):
    """A weight of a saved model; the file must not need the training code."""
    with zipfile.ZipFile(path) as file:
        assert "tsi_keras" not in file.read("config.json").decode()
    return keras.saving.load_model(path).layers[1].get_weights()[0][0, 0]
