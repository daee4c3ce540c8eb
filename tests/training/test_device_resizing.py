"""Training on crops that the device resizes comes out as on resized clips."""

import copy
import csv
from dataclasses import replace

import keras
import numpy as np
import pytest

from pipelines import train as command
from pipelines._command import run
from tests.training import worker_training
from tests.training.comparing import assert_same_training
from tests.training.comparing import one_device
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.models import load_classifier
from tsi_keras.training.device_resizing import resizing
from tsi_keras.training.distribution import make_strategy

CLIPS = worker_training.CLIPS
ON_DEVICE = replace(CLIPS, resize_on="device")
RECIPE = """
model: {temporal: none, depth: 18, base_width: 4, num_frames: 2}
data: {crop_size: 32, short_side: 36}
train: {epochs: 2, milestones: [1], batch_size: 4, accumulation_steps: 2}
"""


@pytest.mark.parametrize(
    "distribution",
    [pytest.param("one_device", marks=pytest.mark.slow), "mirrored"],
)
def test_equals_resizing_on_the_host(data_dir, tmp_path, distribution):
    strategy = make_strategy(distribution)
    found = worker_training.train(strategy, "tiny", data_dir, tmp_path, ON_DEVICE)
    assert_same_training(found, one_device("tiny", data_dir))


def plain_model() -> keras.Model:
    """A model that knows nothing of this package."""
    frames = keras.Input((4, 32, 32, 3))
    x = keras.layers.GlobalAveragePooling3D()(frames)
    return keras.Model(frames, keras.layers.Dense(3, name="head")(x))


def batch(data_dir, clips):
    """A training batch and what it is resized to."""
    arguments = {"batch_size": 4, "training": True, "repeat": True, "seed": 2}
    data = make_dataset(data_dir, "train", clips, deterministic=True, **arguments)
    return next(iter(data.take(1)))


def test_a_model_of_ones_own(data_dir):
    """Any Keras model, compiled as anybody does, without our trainer."""
    losses = []
    for clips in (CLIPS, ON_DEVICE):
        keras.utils.set_random_seed(1)
        model = resizing(plain_model(), clips)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        x, y = batch(data_dir, clips)
        losses.append(model.train_on_batch(x, y))
    assert losses[0] == losses[1]
    # What is no crop is taken as it is.
    x, y = batch(data_dir, CLIPS)
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()


@pytest.mark.parametrize("make", ["tiny", "plain"])
def test_files_and_copies_are_of_the_models_class(tmp_path, make):
    model = worker_training.NETWORKS["tiny"]() if make == "tiny" else plain_model()
    resizing(model, ON_DEVICE).save(tmp_path / "m.keras")
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    for other in (keras.saving.load_model(tmp_path / "m.keras"), copy.deepcopy(model)):
        assert type(other) is type(model)
        np.testing.assert_allclose(other(clips), model(clips), rtol=1e-5, atol=1e-6)


def test_the_last_call_counts(data_dir):
    model = plain_model()
    model.compile("sgd", "mse")
    before = model.train_step
    small = replace(ON_DEVICE, crop_size=24)
    for clips in (small, ON_DEVICE, ON_DEVICE):
        resizing(model, clips)
    x, _ = batch(data_dir, ON_DEVICE)
    y = np.zeros((4, 3), "float32")
    model.train_on_batch(x, y)  # 24 x 24 would not fit the model
    resizing(model, small)
    with pytest.raises(ValueError, match="24"):
        model.train_on_batch(x, y)
    assert resizing(model, CLIPS) is model
    assert model.train_step == before
    model.train_on_batch(batch(data_dir, CLIPS)[0], y)


def test_a_run_of_the_command(data_dir, tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = {}
    for place in ("host", "device"):
        arguments = ["--config", tmp_path / "recipe.yaml", "--data", data_dir]
        arguments += ["--output", tmp_path / place, f"--data.resize_on={place}"]
        arguments += ["--train.deterministic=true"]
        assert run(command.main, [*map(str, arguments)]) == 0
        with (tmp_path / place / "log.csv").open() as file:
            rows[place] = list(csv.DictReader(file))
    measured = ("loss", "top1", "val_loss", "val_top1")
    for ours, others in zip(rows["device"], rows["host"], strict=True):
        for name in measured:
            assert float(ours[name]) == pytest.approx(float(others[name]), rel=1e-5)
    pictures = [(tmp_path / place / "samples.png").read_bytes() for place in rows]
    assert pictures[0] == pictures[1]
    files = [load_classifier(tmp_path / place / "last.keras") for place in rows]
    assert type(files[0]) is type(files[1])
    for ours, other in zip(*(model.weights for model in files), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-6)
