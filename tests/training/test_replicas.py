"""One device and two replicas train the same network on the same global batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.pipeline import make_dataset
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.checkpoints import Backup
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import latest_state
from tsi_keras.training.config import Config
from tsi_keras.training.distribution import check_batch_size
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.distribution import validation_batch_size
from tsi_keras.utils.errors import InputError

CONFIG = Config.model_validate(
    {
        # No dropout: its masks cannot have the same shape on one and two replicas.
        "model": {
            "depth": 18,
            "base_width": 16,
            "num_frames": 4,
            "stages": [3],
            "blocks": "first",
            "dropout": 0.0,
        },
        "data": {"crop_size": 32, "short_side": 36},
        "train": {"learning_rate": 0.01, "clip_norm": 1.0, "milestones": [1]},
    }
)
STEPS = 5


def batches():
    """The same clips for everyone; unlike halves, so that BN must look at both."""
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (STEPS * 4, 4, 32, 32, 3), dtype=np.uint8)
    clips[::2] //= 4
    labels = rng.integers(0, 7, STEPS * 4).astype("int32")
    return tf.data.Dataset.from_tensor_slices((clips, labels)).batch(4)


def train(strategy, data_dir, folder):
    """The saved model's weights by path after five steps, and validation metrics."""
    with strategy.scope():
        model = build_classifier(CONFIG, list("abcdefg"))
        model.set_weights(initial_weights(model))
        compile_classifier(model, CONFIG, steps_per_epoch=2)
    # Seven videos: the last batch is partial and shared unequally.
    options = clip_options(CONFIG)
    validation = make_dataset(
        data_dir,
        "val",
        options,
        batch_size=validation_batch_size(6, 7, strategy.num_replicas_in_sync),
        training=False,
    )
    history = model.fit(
        batches(),
        validation_data=validation,
        verbose=0,
        callbacks=[SaveModels(folder / "last.keras"), Backup(folder / "backup")],
    ).history
    assert model.optimizer.iterations.numpy() == STEPS
    saved = keras.saving.load_model(folder / "last.keras")
    assert latest_state(folder / "backup")[1] == 1
    weights = {v.path: v.numpy() for v in saved.weights}
    return weights, {name: values[0] for name, values in history.items()}


INITIAL = []


def initial_weights(model):
    """The first model's random weights, for every model."""
    if not INITIAL:
        rng = np.random.default_rng(1)
        INITIAL.extend(
            # The head starts so small that the body would get no gradient.
            rng.normal(0, 0.2, v.shape) if "classifier/" in v.path else v.numpy()
            for v in model.weights
        )
    return INITIAL


def test_two_replicas_equal_one(tmp_path, data_dir):
    one, metrics = train(make_strategy("one_device"), data_dir, tmp_path / "one")
    two, metrics_of_two = train(make_strategy("mirrored"), data_dir, tmp_path / "two")
    assert one.keys() == two.keys()
    start = dict(zip(one, INITIAL, strict=True))
    moved = {path: np.abs(one[path] - start[path]).max() for path in one}
    unmoved = [path for path in one if not moved[path]]
    assert not unmoved
    difference = {
        path: np.abs(one[path] - two[path]).max() / max(1.0, np.abs(one[path]).max())
        for path in one
    }
    worst = max(difference, key=difference.get)
    print(f"largest difference {difference[worst]:.2g} in {worst}")
    assert difference[worst] < 1e-5, worst
    assert metrics_of_two == pytest.approx(metrics, rel=1e-5)


def test_strategies():
    assert make_strategy("one_device").num_replicas_in_sync == 1
    assert make_strategy("mirrored").num_replicas_in_sync == 2
    # No GPUs here: two logical CPU devices are nothing to choose by oneself.
    assert make_strategy("auto").num_replicas_in_sync == 1
    # A second strategy over the same devices would confuse TensorFlow.
    assert make_strategy("mirrored") is make_strategy("mirrored")
    with pytest.raises(ValueError, match="'tpu'"):
        make_strategy("tpu")


def test_batch_must_be_shared_equally():
    check_batch_size(6, 2)
    with pytest.raises(InputError, match="multiple of the 4 .* Received: 6; 8 would"):
        check_batch_size(6, 4)


@pytest.mark.parametrize(
    "videos, replicas, expected",
    [
        (3, 1, 8),
        (100, 2, 8),
        (7, 2, 4),  # 6 would leave one video for two replicas
        (17, 2, 6),
        (5, 2, 4),  # no size does; 4 is the largest with a full first batch
        (31, 4, 8),
        (30, 4, 8),  # no size does: 8 shares the last six as 2, 2, 2, 0
    ],
)
def test_validation_batch_leaves_no_replica_empty(videos, replicas, expected):
    assert validation_batch_size(8, videos, replicas) == expected


def test_fewer_validation_videos_than_devices():
    with pytest.raises(InputError, match="1 videos, fewer than the 2 devices"):
        validation_batch_size(8, videos=1, replicas=2)
