"""How many clips a training takes in a second, when it need not wait for them."""

import statistics
from pathlib import Path

import keras
import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.callbacks import Clock
from tsi_keras.training.config import Config
from tsi_keras.training.device_resizing import resizing
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.run_data import clips_per_step
from tsi_keras.training.run_data import training_clips
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.utils.errors import InputError


def measure_training_speed(config: Config, info: DatasetInfo, steps: int = 5) -> float:
    """Train a fresh model on one batch again and again, and time it.

    Args:
        config: network, recipe and devices.
        info: the data set.
        steps: that are timed, after one that compiles the graph.

    Returns:
        Clips per second over all devices.

    Raises:
        InputError: bad configuration or data set.

    Example:
        ```python
        measure_training_speed(load_config("configs/demo_tsi.yaml"), info)
        ```
    """
    strategy = make_strategy(config.train.distribution)
    batch = next(iter(training_clips(config, info, 0, 0)))
    clips = tf.data.Dataset.from_tensors(batch).repeat(steps + 1).prefetch(2)
    with strategy.scope():
        model = build_classifier(config, info.class_names, records=info.options)
        resizing(model, clip_options(config))
        compile_classifier(model, config, steps)
    clock = [Clock(clips_per_step(config))]
    history = model.fit(clips, callbacks=clock, shuffle=False, verbose=0)
    keras.backend.clear_session()
    return history.history["clips_per_second"][-1]


def logged_training_speed(run_folder: str | Path) -> float:
    """Read the speed of an earlier training from its `log.csv`.

    Returns:
        Clips per second without the time it waited for data; median over the epochs.

    Raises:
        InputError: the folder holds no such log.
    """
    run = RunFolder(run_folder)
    try:
        return statistics.median(
            row["clips_per_second"] / (1 - min(row.get("data_wait", 0.0), 0.99))
            for row in run.history()
        )
    except (KeyError, statistics.StatisticsError):
        raise InputError(
            f"`--run` {run.root} holds no log.csv with `clips_per_second`; give the "
            "--output of pipelines.train."
        ) from None
