"""The training run: data, model and callbacks around `model.fit`."""

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The public tf.config can switch determinism on but not off again.
from tensorflow.python.framework import config as tf_config

import tsi_keras
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.models import VideoClassifier
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.callbacks import Clock
from tsi_keras.training.callbacks import Progress
from tsi_keras.training.callbacks import ReseedEveryEpoch
from tsi_keras.training.callbacks import StopWhenNotFinite
from tsi_keras.training.checkpoints import Backup
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.config import Config
from tsi_keras.training.distribution import check_batch_size
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.distribution import validation_batch_size
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.run_folder import describe_dataset
from tsi_keras.training.run_folder import open_run
from tsi_keras.utils.console import console
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import check_output
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json

MONITOR = "val_top1"


@dataclass(frozen=True)
class TrainingSummary:
    """The outcome of a run, also in its `summary.json`.

    Attributes:
        output: the run's folder.
        epochs: epochs trained.
        best_epoch: epoch (from 1) of `best.keras`; None without validation.
        best: metrics of that epoch; None without validation.
        final: metrics of the last epoch.
        clips_per_second: training speed, median over the epochs.
        seconds: time in all epochs, those before a resume included.
        parameters: trainable parameters.
        replicas: devices that shared a batch.
    """

    output: Path
    epochs: int
    best_epoch: int | None
    best: dict[str, float] | None
    final: dict[str, float]
    clips_per_second: float
    seconds: float
    parameters: int
    replicas: int


def train(
    config: Config,
    data_dir: str | Path,
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> TrainingSummary:
    """Train a video classifier on a prepared data set.

    Args:
        config: from `load_config`, or made in Python.
        data_dir: the `--output` of `pipelines.prepare`.
        output: folder for the run: `config.yaml`, `best.keras` (highest val top-1),
            `last.keras`, `log.csv`, `tensorboard/`, `summary.json`.
        overwrite: remove an earlier run in `output`.
        resume: go on after the last finished epoch of an interrupted run with the
            same configuration and data set; a finished one is left as it is.

    Returns:
        The outcome. The random state of Python, NumPy and TensorFlow is left seeded with
        `train.seed`.

    Raises:
        InputError: bad configuration, data set or output folder; nothing was written
            over.
        TrainingDiverged: the loss is no longer finite.

    Example:
        ```python
        config = load_config("configs/demo_tsi.yaml", ["--train.epochs=3"])
        summary = train(config, "data/demo", "runs/demo")
        print(summary.best)
        ```
    """
    info = load_dataset_info(data_dir)
    strategy = make_strategy(config.train.distribution)
    _check_fit(config, info, strategy.num_replicas_in_sync)
    keras.utils.set_random_seed(config.train.seed)
    # The network comes before the folder: a wrong option must not cost an old run.
    with strategy.scope():
        model = build_classifier(config, info.class_names, records=info.options)
        compile_classifier(model, config, _steps_per_epoch(config, info))
    check_output(output, overwrite=overwrite, resume=resume, inputs=[info.folder])
    run = open_run(output, config, info, overwrite=overwrite, resume=resume)
    if read_json(run.summary)["status"] == "running":
        with _op_determinism(config.train.deterministic):
            _fit(model, config, info, run, strategy.num_replicas_in_sync)
        _finish(run, model, info, strategy.num_replicas_in_sync)
    return load_summary(run.root)


def load_summary(run_folder: str | Path) -> TrainingSummary:
    """Read the outcome of a finished run.

    Raises:
        InputError: there is no finished run in `run_folder`.
    """
    run = RunFolder(run_folder)
    content = read_json(run.summary)
    if content["status"] != "finished":
        raise InputError(f"The training run {run.root} is not finished.")
    names = TrainingSummary.__dataclass_fields__.keys() - {"output"}
    return TrainingSummary(output=run.root, **{name: content[name] for name in names})


def _check_fit(config: Config, info: DatasetInfo, replicas: int) -> None:
    """Whether configuration, data set and devices go together."""
    batch_size = config.train.batch_size
    check_batch_size(batch_size, replicas)
    videos = info.split("train").num_videos
    if videos < batch_size:
        raise InputError(
            f"`train.batch_size` must not exceed the {videos} videos of the train "
            f"split of {info.folder}. Received: {batch_size}"
        )
    if sum(count > 0 for count in info.split("train").counts.values()) < 2:
        raise InputError(
            f"`--data` {info.folder} has videos of one class only in its train split; "
            "at least two are needed, see its report.html."
        )
    info.shard_paths("train")
    if not config.train.validation:
        return
    if "val" not in info.splits or not info.splits["val"].num_videos:
        raise InputError(
            f"`--data` {info.folder} has no videos in a val split; add one in "
            "pipelines.prepare, or take --train.validation=false."
        )
    info.shard_paths("val")


def _steps_per_epoch(config: Config, info: DatasetInfo) -> int:
    """Full batches in the train split."""
    return info.split("train").num_videos // config.train.batch_size


@contextmanager
def _op_determinism(enabled: bool) -> Iterator[None]:
    """Have TensorFlow's operations deterministic inside the block."""
    if not enabled or tf_config.is_op_determinism_enabled():
        yield
        return
    tf_config.enable_op_determinism()
    try:
        yield
    finally:
        tf_config.disable_op_determinism()


def _fit(
    model: VideoClassifier,
    config: Config,
    info: DatasetInfo,
    run: RunFolder,
    replicas: int,
) -> None:
    """Train from the first epoch or the last saved state to the end."""
    past = run.forget_unfinished()
    if run.finished_epochs:
        console.print(
            f"resuming after epoch {run.finished_epochs} of {run.root}", soft_wrap=True
        )
    callbacks = _callbacks(config, run, past)
    try:
        model.fit(
            _training_data(config, info, run.finished_epochs),
            validation_data=_validation_data(config, info, replicas),
            epochs=config.train.epochs,
            # A number of steps keeps one iterator over all epochs.
            steps_per_epoch=_steps_per_epoch(config, info),
            callbacks=callbacks,
            verbose=0,
        )
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        damage = _damage(error)
        if damage is None:
            raise
        raise InputError(
            f"`--data` {info.folder}: {damage}; prepare the data set again."
        ) from error
    finally:
        for callback in callbacks:
            if isinstance(callback, Progress):
                callback.close()


def _damage(error: tf.errors.OpError) -> str | None:
    """What is wrong with the records, if that is what `error` is about."""
    for sign in (
        "truncated record",
        "corrupted record",
        "Invalid JPEG",
        "Could not parse",
    ):
        if sign.lower() in str(error).lower():
            return f"a record cannot be read ({sign.lower()})"
    return None


def _training_data(
    config: Config, info: DatasetInfo, first_epoch: int
) -> tf.data.Dataset:
    """Endless shuffled and augmented batches from `first_epoch` on."""
    return make_dataset(
        info.folder,
        "train",
        clip_options(config),
        batch_size=config.train.batch_size,
        training=True,
        seed=config.train.seed,
        deterministic=config.train.deterministic,
        shuffle_buffer=config.data.shuffle_buffer,
        repeat=True,
        first_epoch=first_epoch,
    )


def _validation_data(
    config: Config, info: DatasetInfo, replicas: int
) -> tf.data.Dataset | None:
    """Every val video once: centre frames, centre crop."""
    if not config.train.validation:
        return None
    videos = info.split("val").num_videos
    return make_dataset(
        info.folder,
        "val",
        clip_options(config),
        batch_size=validation_batch_size(config.train.batch_size, videos, replicas),
        training=False,
    )


def _callbacks(
    config: Config, run: RunFolder, past: list[dict[str, float]]
) -> list[keras.callbacks.Callback]:
    """All callbacks; the clock adds to the logs, the backup seals an epoch."""
    clock = Clock(config.train.batch_size)
    highest = max((row[MONITOR] for row in past if MONITOR in row), default=None)
    best = run.best if config.train.validation else None
    return [
        StopWhenNotFinite(),
        ReseedEveryEpoch(config.train.seed),
        clock,
        Progress(clock),
        keras.callbacks.CSVLogger(run.log, append=True),
        keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
        SaveModels(run.last, best, MONITOR, highest),
        Backup(run.backup),
    ]


def _finish(
    run: RunFolder, model: VideoClassifier, info: DatasetInfo, replicas: int
) -> None:
    """Write the summary, then remove the state that is not needed any more."""
    rows = run.history()
    best = _best_row(rows)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    content: dict[str, Any] = {
        "status": "finished",
        "epochs": len(rows),
        "best_epoch": None if best is None else int(best["epoch"]) + 1,
        "best": None if best is None else _metrics(best),
        "final": _metrics(rows[-1]),
        "clips_per_second": float(np.median([r["clips_per_second"] for r in rows])),
        "seconds": sum(row["seconds"] for row in rows),
        "parameters": trainable,
        "replicas": replicas,
        "dataset": describe_dataset(info),
        "versions": _versions(),
    }
    write_json(run.summary, content)
    shutil.rmtree(run.backup)


def _best_row(rows: list[dict[str, float]]) -> dict[str, float] | None:
    """The first epoch with the highest val top-1, as `SaveModels` keeps it."""
    validated = [row for row in rows if MONITOR in row]
    return max(validated, key=lambda row: row[MONITOR], default=None)


def _metrics(row: dict[str, float]) -> dict[str, float]:
    """An epoch's losses and accuracies, without the clock's columns."""
    other = ("epoch", "learning_rate", "clips_per_second", "seconds")
    return {name: value for name, value in row.items() if name not in other}


def _versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "tsi_keras": tsi_keras.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }
