"""What a training shows: samples, curves, rates, confusion, Weights & Biases."""

import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.tiny_classifier import X
from tests.training.tiny_classifier import Y
from tests.training.tiny_classifier import batches
from tests.training.tiny_classifier import small_model
from tsi_keras.evaluation.metrics import confusion_matrix
from tsi_keras.training import monitoring
from tsi_keras.training.config import Config
from tsi_keras.training.curves import DrawCurves
from tsi_keras.training.curves import draw_curves
from tsi_keras.training.monitoring import Details
from tsi_keras.training.monitoring import DrawConfusion
from tsi_keras.training.monitoring import DrawSamples
from tsi_keras.training.monitoring import LogLearningRates
from tsi_keras.training.monitoring import monitoring_callbacks
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.weights_and_biases import LogToWandb
from tsi_keras.training.weights_and_biases import import_wandb
from tsi_keras.utils.clip_sheet import fitted
from tsi_keras.utils.errors import InputError

NAMES = ["down", "left", "up"]


def events(folder, tag=None):
    """Tags by kind, or the events of one tag."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return found.Tags()["tensors"] if tag is None else found.Tensors(tag)


def picture(event):
    """The pixels of an image event."""
    width, height, *encoded = event.tensor_proto.string_val
    pixels = tf.io.decode_png(encoded[0]).numpy()
    assert pixels.shape[:2] == (int(height), int(width))
    return pixels


# Curves


def colours(path):
    """Which curves' colours a picture has, from top to bottom and left to right."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = np.abs(pixels - [0x48, 0x78, 0xA8]).max(-1) < 3
    red = np.abs(pixels - [0xC4, 0x4E, 0x38]).max(-1) < 3
    thirds = [blue, red]
    return [
        [bool(part.any()) for part in np.array_split(mask, 3, axis=1)]
        for mask in thirds
    ]


def test_curves_of_what_there_is(tmp_path):
    rows = [
        {"epoch": 0.0, "loss": 2.0, "top1": 0.2, "learning_rate": 0.1},
        {"epoch": 1.0, "loss": 1.0, "top1": 0.5, "learning_rate": 0.0},
    ]
    path = draw_curves(rows, tmp_path / "curves.png")
    assert colours(path) == [[True] * 3, [False] * 3]
    rows[1] |= {"val_loss": 1.5, "val_top1": 0.4}
    assert colours(draw_curves(rows, path)) == [[True] * 3, [True, True, False]]
    assert [item.name for item in tmp_path.iterdir()] == ["curves.png"]


def test_curves_go_on_with_a_resumed_run(tmp_path):
    past = [{"epoch": 0.0, "loss": 2.0}]
    curves = DrawCurves(tmp_path / "curves.png", past)
    curves.on_epoch_end(1, {"loss": 1.0})
    before = curves.path.read_bytes()
    curves.on_epoch_end(2, {"loss": 0.5})
    assert curves.path.read_bytes() != before
    assert [row["epoch"] for row in curves.rows] == [0, 1, 2]
    assert past == [{"epoch": 0.0, "loss": 2.0}]


def test_curves_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="curves.png cannot be written"):
        draw_curves([], tmp_path / "file" / "curves.png")


# TensorBoard


@pytest.mark.parametrize("scaled", [False, True])
def test_learning_rates_by_group(tmp_path, scaled):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([6], [0.1, 0.01])
    optimizer = GroupedSGD(schedule)
    model = small_model(ReplicaLossScale(optimizer) if scaled else optimizer)
    rates = LogLearningRates(Details(tmp_path))
    model.fit(batches(), epochs=3, shuffle=False, verbose=0, callbacks=[rates])
    rates.close()
    tags = events(tmp_path)
    groups = {"weights", "biases", "head weights", "head biases"}
    assert {tag.removeprefix("learning_rate/") for tag in tags} == groups
    found = [
        tf.make_ndarray(event.tensor_proto)
        for event in events(tmp_path, "learning_rate/head weights")
    ]
    # Keras lowers the rate after the boundary, so not yet in the second epoch.
    np.testing.assert_allclose(found, [0.5, 0.5, 0.05], rtol=1e-6)


def test_optimizer_without_groups_has_one_rate(tmp_path):
    rates = LogLearningRates(Details(tmp_path))
    model = small_model(keras.optimizers.SGD(0.25))
    model.fit(batches(), shuffle=False, verbose=0, callbacks=[rates])
    assert events(tmp_path) == ["learning_rate/all"]


def sample_data(value=200):
    """Four clips of four grey frames, brighter from frame to frame."""
    frames = np.zeros((4, 4, 20, 20, 3), np.uint8)
    frames += np.arange(value - 40, value + 1, 10, dtype=np.uint8)[1:, None, None, None]
    return tf.data.Dataset.from_tensors((frames, [0, 1, 2, 2])).repeat()


def test_samples_at_the_start(tmp_path, monkeypatch):
    names = []

    def spy(text, width, size):
        names.append(text)
        return fitted(text, width, size)

    monkeypatch.setattr(monitoring, "fitted", spy)
    path, details = tmp_path / "samples.png", Details(tmp_path / "events")
    samples = DrawSamples(sample_data, NAMES, path, details, clips=3)
    small_model().fit(
        batches(), shuffle=False, epochs=2, verbose=0, callbacks=[samples]
    )
    assert names == ["down", "left", "up"]
    with Image.open(path) as image:
        pixels = np.asarray(image)
    # Three rows of 128 pixels; frames in order of time.
    assert (pixels[:, -40, 0] == 200).sum() == 3 * 128
    row = pixels[28 + 64, 258:, 0]
    assert list(dict.fromkeys(row[row < 255])) == [170, 180, 190, 200]
    (event,) = events(tmp_path / "events", "samples")
    np.testing.assert_array_equal(picture(event), pixels)


def test_samples_of_a_resumed_run_stay(tmp_path):
    path = tmp_path / "samples.png"
    DrawSamples(sample_data, NAMES, path).on_train_begin()
    before = path.read_bytes()
    DrawSamples(lambda: sample_data(100), NAMES, path).on_train_begin()
    assert path.read_bytes() == before


def test_confusion_of_every_validation(tmp_path, monkeypatch):
    drawn = []

    def spy(matrix, names, title):
        drawn.append((matrix, title))
        return monitoring.Figure(figsize=(1, 1))

    monkeypatch.setattr(monitoring, "confusion_figure", spy)
    confusion = DrawConfusion(NAMES, Details(tmp_path))
    model = small_model()
    for _ in range(2):
        fitting = {"shuffle": False, "verbose": 0, "callbacks": [confusion]}
        model.fit(batches(), validation_data=batches().take(3), **fitting)
        expected = model.predict(X[:12], verbose=0).argmax(-1)
        np.testing.assert_array_equal(
            drawn[-1][0], confusion_matrix(Y[:12], expected, 3)
        )
    assert drawn[-1][1] == "val, epoch 1"
    # Without validation the matrix would be that of the training.
    model.fit(batches(), **fitting)
    assert len(drawn) == len(events(tmp_path, "confusion")) == 2


def test_confusion_is_a_picture(tmp_path):
    model = small_model()
    confusion = DrawConfusion(NAMES, Details(tmp_path))
    model.fit(
        batches(),
        shuffle=False,
        validation_data=batches(),
        verbose=0,
        callbacks=[confusion],
    )
    (event,) = events(tmp_path, "confusion")
    assert min(picture(event).shape[:2]) > 200


# Weights & Biases


class FakeWandb(types.ModuleType):
    """Records what is asked of it."""

    def __init__(self):
        super().__init__("wandb")
        self.calls = []

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def log(self, values, step):
        self.calls.append(("log", step, values))

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code))


def test_epochs_go_to_wandb(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log = LogToWandb("actions", tmp_path / "first", {"train": {"epochs": 2}})
    history = small_model().fit(
        batches(), shuffle=False, epochs=2, verbose=0, callbacks=[log]
    )
    log.close()
    (_, options), *logged, end = wandb.calls
    assert options["project"] == "actions"
    assert (options["name"], options["dir"]) == ("first", str(tmp_path / "first"))
    assert options["config"] == {"train": {"epochs": 2}}
    assert options["resume"] == "auto"
    assert [step for _, step, _ in logged] == [0, 1]
    assert [values["epoch"] for *_, values in logged] == [1, 2]
    assert [values["loss"] for *_, values in logged] == history.history["loss"]
    assert end == ("finish", 0)


def test_broken_off_run_of_wandb_is_marked(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log = LogToWandb("actions", tmp_path, {})
    log.close()
    assert wandb.calls == []
    log.on_train_begin()
    log.close()
    assert wandb.calls[-1] == ("finish", 1)


def test_wandb_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb.*Received: 'x'$"):
        import_wandb("x")


# All together


def test_what_a_run_gets(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    arguments = (run, NAMES, [], sample_data)
    kinds = [type(item).__name__ for item in monitoring_callbacks(Config(), *arguments)]
    assert kinds == ["LogLearningRates", "DrawSamples", "DrawConfusion", "DrawCurves"]
    # A worker that is not the chief only helps to sum the confusion up.
    (helper,) = monitoring_callbacks(Config(), *arguments, chief=False)
    assert (type(helper), helper.details) == (DrawConfusion, None)

    config = Config.model_validate({"train": {"wandb": "actions"}})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="`train.wandb`"):
        monitoring_callbacks(config, *arguments)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    *_, last = monitoring_callbacks(config, *arguments)
    assert last.config == config.model_dump()
    assert list(tmp_path.iterdir()) == []


def test_text_that_fits_nowhere_is_cut_off():
    assert fitted("abc", 1, 12)[0] == "…"
    assert fitted("abc", 1000, 12)[0] == "abc"
