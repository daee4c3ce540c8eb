"""A small training of the real network on any devices, in this process or its own.

`python -m tests.training.worker_training DISTRIBUTION NETWORK DATA RESULT.npz
[DEVICES [RESIZE_ON]]`; workers find one another by TF_CONFIG. With `command DEVICES` it is
`pipelines.train` with so many devices.
"""

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from pipelines._command import exit_with
from pipelines.train import main as train_command
from tsi_keras.data.pipeline import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.models import VideoClassifier
from tsi_keras.models import video_resnet
from tsi_keras.training.averaging import EvaluateAverages
from tsi_keras.training.averaging import averaged_weights
from tsi_keras.training.building import SmoothedCrossEntropy
from tsi_keras.training.checkpoints import save_model
from tsi_keras.training.data_wait import DataWait
from tsi_keras.training.device_resizing import resizing
from tsi_keras.training.distribution import is_chief
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.distribution import place_of
from tsi_keras.training.distribution import validation_batch_size
from tsi_keras.training.multi_worker import any_worker
from tsi_keras.training.multi_worker import check_same
from tsi_keras.training.multi_worker import distributed
from tsi_keras.training.multi_worker import from_chief
from tsi_keras.training.multi_worker import trainable
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.polls import Polls
from tsi_keras.utils.errors import InputError

CLIPS = ClipOptions(num_frames=4, crop_size=32, short_side=36)
# Clips of a step; two steps make an update.
BATCH, STEPS, EPOCHS = 4, 10, 2
VAL_VIDEOS = 7


def train(
    strategy: tf.distribute.Strategy,
    network: str,
    data_dir: str | Path,
    folder: Path,
    clips: ClipOptions = CLIPS,
) -> dict[str, np.ndarray]:
    """Ten updates with clipping, accumulation and averages; all that came of them."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = resizing(trainable(NETWORKS[network]()), clips)
        model.compile(
            GroupedSGD(0.05, clip_norm=0.5, accumulation_steps=2, ema_decay=0.5),
            SmoothedCrossEntropy(0.1),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="top1")],
            jit_compile=False,
        )
    start = {f"start {v.path}": v.numpy() for v in model.weights}
    # As in a run, one worker fetches its batches outside the compiled step.
    wait = [DataWait(summary=False)] if is_chief(strategy) else []
    tests = CountTestSteps()
    history = model.fit(
        _training_clips(strategy, data_dir, clips),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        validation_data=_validation_clips(strategy, data_dir),
        callbacks=[*wait, tests, EvaluateAverages()],
        shuffle=False,
        verbose=0,
    ).history
    history.pop("data_wait", None)
    found = {f"metric {name}": np.array(value) for name, value in history.items()}
    found["test steps"] = tests.steps
    found |= start | {f"weight {v.path}": v.numpy() for v in model.weights}
    with averaged_weights(model):
        found |= {f"average {v.path}": v.numpy() for v in model.trainable_weights}
    found["iterations"] = model.optimizer.iterations.numpy()
    if is_chief(strategy):
        found |= _saved(model, folder)
    return found


def _poll(strategy: tf.distribute.Strategy) -> int:
    """The step after which all know what the last worker wants from the 20th on."""
    worker, workers = place_of(strategy)
    polls = Polls()
    for step in count():
        if polls.ask(strategy, worker == workers - 1 and step >= 20) == (True,):
            return step


class CountTestSteps(keras.callbacks.Callback):
    """Counts the batches that validations began with."""

    steps = 0

    def on_test_batch_begin(self, batch, logs=None):
        self.steps += 1


def _resnet() -> VideoClassifier:
    """A ResNet-18 with TSI; without dropout, which replicas draw apart."""
    return video_resnet(
        num_classes=3,
        depth=18,
        base_width=8,
        num_frames=CLIPS.num_frames,
        stages=[3],
        blocks="first",
        dropout=0.0,
        # With the official 0.001 the body would get no gradient.
        head_stddev=0.5,
    )


def _tiny() -> VideoClassifier:
    """Two convolutions with the same BatchNormalization, quick to trace."""
    frames = keras.Input((CLIPS.num_frames, None, None, 3))
    x = keras.layers.Rescaling(1 / 128, -1.0)(frames)
    for name in ("conv1", "conv2"):
        x = keras.layers.Conv3D(4, 3, (1, 2, 2), use_bias=False, name=name)(x)
        x = keras.layers.ReLU()(BatchNormalization(name=f"{name}_bn")(x))
        x = keras.layers.ZeroPadding3D((1, 0, 0))(x)
    return VideoClassifier(keras.Model(frames, x), 3, dropout=0.0, head_stddev=0.5)


NETWORKS = {"tiny": _tiny, "resnet": _resnet}


def _training_clips(
    strategy: tf.distribute.Strategy, data_dir: str | Path, clips: ClipOptions
):
    worker, workers = place_of(strategy)
    data = make_dataset(
        data_dir,
        "train",
        clips,
        batch_size=BATCH,
        training=True,
        seed=3,
        deterministic=True,
        repeat=True,
        worker=worker,
        workers=workers,
    )
    return distributed(data, strategy)


def _validation_clips(strategy: tf.distribute.Strategy, data_dir: str | Path):
    worker, workers = place_of(strategy)
    replicas = strategy.num_replicas_in_sync
    data = make_dataset(
        data_dir,
        "val",
        CLIPS,
        batch_size=validation_batch_size(BATCH, VAL_VIDEOS, replicas),
        training=False,
        fill_last=replicas > 1,
        worker=worker,
        workers=workers,
    )
    return distributed(data, strategy)


def _saved(model: VideoClassifier, folder: Path) -> dict[str, np.ndarray]:
    """The class and the weights in a file, which the chief writes alone."""
    path = folder / "model.keras"
    with averaged_weights(model):
        save_model(model, path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is VideoClassifier
    return {f"saved {v.path}": v.numpy() for v in loaded.weights}


def _agreements(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """What the workers tell one another."""
    worker, workers = place_of(strategy)

    def fail():
        raise InputError(f"seen by {worker}")

    try:
        from_chief(strategy, fail)
    except InputError as error:
        message = str(error)
    check_same(strategy, {"alike": 1})
    try:
        check_same(strategy, {"alike": 1, "`--data`": worker == workers - 1})
    except InputError as error:
        difference = str(error)
    else:
        difference = ""
    try:
        if worker == workers - 1:
            any_worker(strategy, True)
        else:
            from_chief(strategy, fail)
    except InputError as error:
        elsewhere = str(error)
    large = from_chief(strategy, lambda: np.full(10_000_001, worker + 7, "int8"))
    return {
        "last says yes": any_worker(strategy, worker == workers - 1),
        "nobody says yes": any_worker(strategy, False),
        "error": message,
        "difference": difference,
        "elsewhere": elsewhere,
        "poll": _poll(strategy),
        "large": np.unique(large),
        "large size": len(large),
    }


def make_devices(number: int) -> None:
    """Have so many CPU devices, in several workers too.

    There TensorFlow would take only one of them, however many GPUs it takes.
    """
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * number,
    )
    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    extended._initialize_local_devices = lambda self, resolver, worker: (
        tuple(f"{worker}/device:CPU:{index}" for index in range(number)),
        "CPU",
    )


def main(
    distribution: str,
    network: str,
    data_dir: str,
    target: str,
    devices: str = "1",
    resize_on: str = "host",
) -> None:
    """Train, and write the result to a file."""
    make_devices(int(devices))
    strategy = make_strategy(distribution)
    clips = replace(CLIPS, resize_on=resize_on)
    found = train(strategy, network, data_dir, Path(target).parent, clips)
    found |= _agreements(strategy)
    found["replicas"] = strategy.num_replicas_in_sync
    np.savez(target, **{name.replace("/", "|"): v for name, v in found.items()})


def load(path: Path) -> dict[str, np.ndarray]:
    """What `main` wrote."""
    with np.load(path) as file:
        return {name.replace("|", "/"): value for name, value in file.items()}


if __name__ == "__main__":
    if sys.argv[1] == "command":
        make_devices(int(sys.argv[2]))
        exit_with(lambda _: train_command(sys.argv[3:]))
    exit_with(lambda _: main(*sys.argv[1:]) or 0)
