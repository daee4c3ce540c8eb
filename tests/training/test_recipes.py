"""Every recipe in configs/: its header, its settings and one step of its training."""

import csv
import re

import keras
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.config_io import load_config

RECIPES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.yaml"))
PAPERS = [name for name in RECIPES if not name.startswith("demo")]

# Learning rate, batch, milestones, epochs, decay, dropout, flip, BatchNorm: from the
# papers, and for TSM and TEA from the authors' scripts. Clipping is 20 everywhere.
SETTINGS = {
    "tsi_r50_8f_something": (0.01, 64, [30, 40, 45], 50, 5e-4, 0.5, "none", "train"),
    "tsi_r50_16f_something": (0.01, 32, [30, 40, 45], 50, 5e-4, 0.5, "none", "train"),
    "tsi_r50_8f_kinetics400": (0.01, 64, [30, 40, 45], 50, 5e-4, 0.5, "all", "train"),
    "tsi_r50_16f_kinetics400": (0.01, 32, [30, 40, 45], 50, 5e-4, 0.5, "all", "train"),
    "tsi_r50_16f_ucf101": (0.001, 32, [15], 25, 5e-4, 0.8, "all", "train"),
    "tsi_r50_16f_hmdb51": (0.001, 32, [15], 25, 5e-4, 0.8, "all", "train"),
    "tsm_r50_8f_something": (0.01, 64, [20, 40], 50, 5e-4, 0.5, "none", "train"),
    "tsm_r50_8f_kinetics400": (0.02, 128, [20, 40], 50, 1e-4, 0.5, "all", "train"),
    "tsm_r50_8f_ucf101": (0.001, 64, [10, 20], 25, 5e-4, 0.8, "all", "partial"),
    "tea_r50_8f_something": (0.02, 64, [30, 40, 45], 50, 5e-4, 0.5, "none", "train"),
    "tea_r50_16f_hmdb51": (0.001, 64, [10, 20], 25, 5e-4, 0.8, "all", "partial"),
}
EXPECTED = {
    "tsi_r50_8f_something": ["50.2/80.1", "62.2/88.5", "53.0/82.1", "64.9/89.8"],
    "tsi_r50_16f_something": ["53.3/82.5", "63.2/89.1", "54.3/83.2", "66.1/90.9"],
    "tsi_r50_8f_kinetics400": ["75.9/92.6"],
    "tsi_r50_16f_kinetics400": ["77.1/93.7"],
    "tsi_r50_16f_ucf101": ["97.2"],
    "tsi_r50_16f_hmdb51": ["76.9"],
}


def recipe(name):
    return REPOSITORY / "configs" / f"{name}.yaml"


def header(name):
    """The comment at the top, one field per key."""
    text = recipe(name).read_text()
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    fields = re.split(r"^(\w+): ", "\n".join(lines), flags=re.MULTILINE)
    return dict(zip(fields[1::2], fields[2::2], strict=True))


def costs():
    """GMACs per clip by temporal module and frames, of whole networks."""
    with (REPOSITORY / "results" / "models.csv").open(newline="") as file:
        rows = {row["name"]: float(row["gmacs"]) for row in csv.DictReader(file)}
    eight = {kind: rows[f"{kind}_resnet50"] for kind in ("tsi", "tsm", "tea")}
    sixteen = {
        ("tsi", 16): rows["table6_16_blocks"],
        ("tea", 16): 2 * eight["tea"],
    }
    return {(kind, 8): cost for kind, cost in eight.items()} | sixteen


def step(name, overrides, batch_size, size):
    """One training step of a recipe on noise."""
    config = load_config(recipe(name), overrides)
    classes = [f"class {index}" for index in range(7)]
    model = build_classifier(config, classes)
    compile_classifier(model, config, steps_per_epoch=10)
    # Tracing a graph of this size takes longer than the step.
    model.run_eagerly = True
    rng = np.random.default_rng(0)
    shape = (batch_size, config.model.num_frames, size, size, 3)
    clips = rng.integers(0, 256, shape, dtype=np.uint8)
    head = model.get_layer("classifier")
    before = keras.ops.convert_to_numpy(head.kernel)
    labels = np.arange(batch_size)
    logs = model.train_on_batch(clips, labels, return_dict=True)
    assert np.isfinite(logs["loss"])
    if config.train.batch_norm == "train":
        # The head's first weights are small: each class is as likely as the others.
        assert logs["loss"] == pytest.approx(np.log(7), abs=0.5)
    after = keras.ops.convert_to_numpy(head.kernel)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)


def test_every_paper_has_its_settings():
    assert set(PAPERS) == set(SETTINGS)


@pytest.mark.parametrize("name", PAPERS)
def test_settings(name):
    config = load_config(recipe(name))
    train = config.train
    found = (
        train.learning_rate,
        train.batch_size,
        train.milestones,
        train.epochs,
        train.weight_decay,
        config.model.dropout,
        config.data.flip,
        train.batch_norm,
    )
    assert found == SETTINGS[name]
    assert (train.gamma, train.momentum, train.clip_norm) == (0.1, 0.9, 20.0)
    assert (config.data.crop_size, config.data.short_side) == (224, 256)
    kind, _, frames, _ = name.split("_")
    assert config.model.temporal == kind
    assert f"{config.model.num_frames}f" == frames


@pytest.mark.parametrize("name", RECIPES)
def test_header_says_what_to_expect_and_how(name):
    fields = header(name)
    assert {"Expected", "Cost", "Command"} <= fields.keys()
    command = " ".join(fields["Command"].split())
    start = f"python -m pipelines.train --config configs/{name}.yaml --data DATA"
    assert command.startswith(start)
    assert all(figure in fields["Expected"] for figure in EXPECTED.get(name, []))


@pytest.mark.parametrize("name", PAPERS)
def test_header_of_a_paper(name):
    fields = header(name)
    assert {"Start", "Source"} <= fields.keys()
    assert "--model.weights=" in fields["Command"]
    kind, _, frames, _ = name.split("_")
    cost = costs()[kind, int(frames[:-1])]
    stated = float(re.match(r"([\d.]+) GMACs per clip", fields["Cost"])[1])
    assert stated == pytest.approx(cost, abs=0.051)


@pytest.mark.parametrize("name", RECIPES)
def test_one_step_of_a_small_one(name):
    overrides = ["--model.base_width=16", "--model.head_stddev=0.001"]
    if name in PAPERS:
        overrides.append("--model.depth=26")
    step(name, overrides, batch_size=2, size=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_one_step_of_the_whole_one(name):
    step(name, [], batch_size=1, size=224)
