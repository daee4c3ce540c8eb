"""A training that is cut off anywhere and resumed is the one that was not."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.training.averaging import EvaluateAverages
from tsi_keras.training.callbacks import CountSkippedBatches
from tsi_keras.training.callbacks import ReseedEveryEpoch
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.resuming import fit_from
from tsi_keras.training.schedule import OfConsumedBatches
from tsi_keras.training.state import latest_state

EPOCHS, STEPS = 3, 3
OPTIMIZERS = {
    "plain": lambda rate: GroupedSGD(rate),
    # Three steps an epoch: every second update takes a step from either epoch.
    "accumulated": lambda rate: GroupedSGD(rate, accumulation_steps=2, ema_decay=0.8),
    "loss_scale": lambda rate: ReplicaLossScale(GroupedSGD(rate)),
    # The first steps overflow and bring no update.
    "skipping": lambda rate: ReplicaLossScale(
        GroupedSGD(OfConsumedBatches(rate)), initial_scale=2.0**127
    ),
}


def make_data(first_epoch, first_step):
    """Endless batches that are a function of their number."""

    def batches():
        number = first_epoch * STEPS + first_step
        while True:
            rng = np.random.default_rng(number)
            x = rng.normal(size=(4, 3)).astype("float32")
            yield x, rng.integers(0, 3, 4).astype("int32")
            number += 1

    signature = (tf.TensorSpec((4, 3)), tf.TensorSpec((4,), "int32"))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


VALIDATION = make_data(1000, 0).take(2)
VALIDATION = VALIDATION.apply(tf.data.experimental.assert_cardinality(2))


def make_model(optimizer="plain", strategy=None):
    """Dropout, BatchNormalization, several metrics, a rate that changes every step."""
    keras.utils.set_random_seed(3)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        inputs = keras.Input((3,))
        x = keras.layers.Dense(4)(inputs)
        x = keras.layers.BatchNormalization(synchronized=True)(x)
        x = keras.layers.Dropout(0.3)(x)
        outputs = keras.layers.Dense(3, name="classifier")(x)
        model = keras.Model(inputs, outputs)
        model.compile(
            OPTIMIZERS[optimizer](
                keras.optimizers.schedules.CosineDecay(0.1, EPOCHS * STEPS)
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="top1")],
        )
        model.optimizer.build(model.trainable_variables)
    return model


class Cut(Exception):
    """What ends a training in the tests."""


class Witness(keras.callbacks.Callback):
    """Writes down what it is called with, and cuts the training off at a moment."""

    def __init__(self, cut=None):
        super().__init__()
        self.cut = cut
        self.seen = []

    def note(self, *moment, **more):
        self.seen.append((*moment, more))
        if moment == self.cut:
            raise Cut

    def on_train_begin(self, logs=None):
        self.note("begin", params=self.params)

    def on_train_end(self, logs=None):
        self.note("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.note("epoch", epoch, rate=float(self.model.optimizer.learning_rate))

    def on_train_batch_begin(self, batch, logs=None):
        self.note("before", self.epoch, batch)

    def on_train_batch_end(self, batch, logs=None):
        self.note("step", self.epoch, batch, **logs)

    def on_test_batch_end(self, batch, logs=None):
        self.note("test", self.epoch, batch, **logs)

    def on_epoch_end(self, epoch, logs=None):
        self.note("over", epoch, **logs)


def run(model, folder, cut=None, validation=VALIDATION):
    """Train to the end, or to the cut; returns what the witness saw."""
    witness = Witness(cut)
    models = SaveModels(folder / "last.keras")
    state = SaveState(folder / "backup", minutes=0, sealed=models.publish)
    callbacks = [
        ReseedEveryEpoch(1),
        CountSkippedBatches(STEPS),
        keras.callbacks.CSVLogger(folder / "log.csv", append=True),
        models,
        state,
        witness,
        EvaluateAverages(),
    ]
    try:
        fit_from(
            model,
            latest_state(folder / "backup"),
            make_data,
            steps_per_epoch=STEPS,
            epochs=EPOCHS,
            callbacks=callbacks,
            validation_data=validation,
        )
    except Cut:
        callbacks[-1].close()
        # As a killed process loses it.
        callbacks[2].csv_file.close()
    return witness.seen


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """`optimizer -> (model, what its witness saw, folder)`, each trained once."""
    runs = {}

    def get(optimizer):
        if optimizer not in runs:
            folder = tmp_path_factory.mktemp("undisturbed")
            model = make_model(optimizer)
            runs[optimizer] = model, run(model, folder), folder
        return runs[optimizer]

    return get


CUTS = {
    "first step": ("step", 0, 0),
    "middle": ("step", 1, 1),
    "last step": ("step", 1, 2),
    "validation": ("test", 1, 0),
    "last validation": ("test", 2, 1),
    "epoch": ("over", 0),
    "last epoch": ("over", 2),
    "before any step": ("epoch", 0),
}


def check_same(model, expected):
    """All variables of two trainings are equal bit for bit."""
    for group in (model.variables, model.optimizer.variables):
        assert group
    for one, other in (
        (model.variables, expected.variables),
        (model.optimizer.variables, expected.optimizer.variables),
    ):
        for found, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())


@pytest.mark.parametrize("cut", CUTS)
def test_resumed_run_is_the_undisturbed_one(tmp_path, undisturbed, cut):
    expected, witnessed, folder = undisturbed("plain")
    begun = run(make_model(), tmp_path, CUTS[cut])
    assert begun[-1][:-1] == CUTS[cut]
    model = make_model()
    # Other weights than the run began with: all must come from the state.
    shift = 0 if cut == "before any step" else 1
    model.set_weights([weight + shift for weight in model.get_weights()])
    resumed = run(model, tmp_path)
    check_same(model, expected)
    # The callbacks see the rest of one run, with its numbers and metrics.
    steps = [event for event in resumed if event[0] in ("step", "over")]
    assert steps == [event for event in witnessed if event in steps]
    done = [event for event in begun if event[0] == "step"]
    assert done + [e for e in steps if e[0] == "step" and e not in done] == [
        event for event in witnessed if event[0] == "step"
    ]
    if cut != "last epoch":
        assert resumed[0] == witnessed[0]
        assert resumed[1] in witnessed
    assert [e[0] for e in resumed].count("begin") == 1
    assert [e[0] for e in resumed].count("end") == 1 and resumed[-1][0] == "end"
    validations = [event for event in resumed if event[0] == "test"]
    assert validations == [event for event in witnessed if event in validations]


def test_the_log_is_the_same(tmp_path, undisturbed):
    _, _, folder = undisturbed("plain")
    run(make_model(), tmp_path, ("step", 1, 1))
    run(make_model(), tmp_path, ("test", 1, 1))
    run(make_model(), tmp_path, ("step", 2, 0))
    run(make_model(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert rows == list(csv.DictReader((folder / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize("optimizer", ["accumulated", "loss_scale", "skipping"])
@pytest.mark.parametrize("cut", ["middle", "validation"])
def test_other_optimizers(tmp_path, undisturbed, optimizer, cut):
    expected, witnessed, _ = undisturbed(optimizer)
    updates = expected.optimizer.iterations.numpy()
    assert optimizer != "skipping" or 0 < updates < EPOCHS * STEPS
    run(make_model(optimizer), tmp_path, CUTS[cut])
    model = make_model(optimizer)
    resumed = run(model, tmp_path)
    check_same(model, expected)
    assert resumed[-2] == witnessed[-2]
    assert resumed[1] in witnessed


def test_without_validation(tmp_path, undisturbed):
    expected, _, _ = undisturbed("plain")
    run(make_model(), tmp_path, ("step", 1, 2), validation=None)
    # The end of the steps is the end of the epoch here.
    assert latest_state(tmp_path / "backup")[1:] == (1, 2)
    model = make_model()
    run(model, tmp_path, validation=None)
    check_same(model, expected)


def test_two_replicas(tmp_path):
    strategy = make_strategy("mirrored")
    expected = make_model(strategy=strategy)
    (tmp_path / "undisturbed").mkdir()
    witnessed = run(expected, tmp_path / "undisturbed")
    run(make_model(strategy=strategy), tmp_path, ("step", 1, 0))
    second = run(make_model(strategy=strategy), tmp_path, ("test", 1, 0))
    model = make_model(strategy=strategy)
    resumed = run(model, tmp_path)
    check_same(model, expected)
    assert [event for event in second + resumed if event[0] == "step"] == [
        event for event in witnessed if event[0] == "step"
    ][4:]
    assert [event for event in resumed if event[0] == "over"] == [
        event for event in witnessed if event[0] == "over"
    ][1:]


def test_every_so_many_minutes(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    model = make_model()
    model.fit(make_data(0, 0), steps_per_epoch=1, shuffle=False, verbose=0)
    state = SaveState(tmp_path, minutes=2)
    state.set_model(model)
    state.set_params({"steps": 5})
    state.on_train_begin()
    state.on_epoch_begin(0)
    moments = []
    for batch, seconds in enumerate([100, 19, 1, 119, 10]):
        now += seconds
        state.on_train_batch_end(batch)
        found = latest_state(tmp_path)
        moments.append(found and found.step)
    # 120 s passed after the third step; the fifth is followed by the epoch's end.
    assert moments == [None, None, 3, 3, 3]
    state.on_test_begin()
    assert latest_state(tmp_path)[1:] == (0, 5)
    state.on_epoch_end(0)
    assert latest_state(tmp_path)[1:] == (1, 0)


def test_models_wait_for_the_state(tmp_path):
    """Neither a kill before the state nor one after it lets the two disagree."""
    folder = tmp_path / "before"
    folder.mkdir()
    model = make_model()
    model.fit(make_data(0, 0), steps_per_epoch=1, shuffle=False, verbose=0)
    models = SaveModels(folder / "last.keras", folder / "best.keras")
    models.set_model(model)
    names = []
    models.on_epoch_end(0, {"val_top1": 0.5})
    names.append({path.name for path in folder.iterdir()})
    models.publish(0)
    names.append({path.name for path in folder.iterdir()})
    models.on_epoch_end(0, {"val_top1": 0.6})
    models.publish(1)
    names.append({path.name for path in folder.iterdir()})
    aside = {
        f".{n}-00001.{kind}" for n in ("best", "last") for kind in ("json", "keras")
    }
    assert names == [aside, set(), {name.replace("-00001", "")[1:] for name in aside}]
