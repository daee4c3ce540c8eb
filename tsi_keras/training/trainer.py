"""The training run: data, model and callbacks around `model.fit`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

# The public tf.config can switch determinism on but not off again.
from tensorflow.python.framework import config as tf_config

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.models import VideoClassifier
from tsi_keras.training.averaging import EvaluateAverages
from tsi_keras.training.building import build_classifier
from tsi_keras.training.building import clip_options
from tsi_keras.training.building import compile_classifier
from tsi_keras.training.building import load_initial_weights
from tsi_keras.training.callbacks import Clock
from tsi_keras.training.callbacks import CountSkippedBatches
from tsi_keras.training.callbacks import Progress
from tsi_keras.training.callbacks import ReseedEveryEpoch
from tsi_keras.training.callbacks import StopWhenNotFinite
from tsi_keras.training.callbacks import StopWhenTaken
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.checks import check_fit
from tsi_keras.training.checks import common_facts
from tsi_keras.training.checks import files_to_spare
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.data_wait import DataWait
from tsi_keras.training.device_resizing import resizing
from tsi_keras.training.distribution import is_chief
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.distribution import place_of
from tsi_keras.training.failures import explained_failures
from tsi_keras.training.monitoring import LogLearningRates
from tsi_keras.training.monitoring import default_writer_restored
from tsi_keras.training.monitoring import monitoring_callbacks
from tsi_keras.training.multi_worker import check_same
from tsi_keras.training.multi_worker import from_chief
from tsi_keras.training.multi_worker import reported_worker_loss
from tsi_keras.training.multi_worker import trainable
from tsi_keras.training.resuming import fit_from
from tsi_keras.training.run_data import batch_ids
from tsi_keras.training.run_data import clips_per_step
from tsi_keras.training.run_data import first_clips
from tsi_keras.training.run_data import reads_in_order
from tsi_keras.training.run_data import training_shares
from tsi_keras.training.run_data import updates_per_epoch
from tsi_keras.training.run_data import validation_shares
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.run_folder import describe_dataset
from tsi_keras.training.run_folder import open_run
from tsi_keras.training.run_lock import RunLock
from tsi_keras.training.service_watch import ServiceWatch
from tsi_keras.training.signals import StopOnSignal
from tsi_keras.training.summary import MONITOR
from tsi_keras.training.summary import TrainingSummary
from tsi_keras.training.summary import load_summary
from tsi_keras.training.summary import write_summary
from tsi_keras.training.weights_and_biases import LogToWandb
from tsi_keras.training.whole_files import explained_disk_errors
from tsi_keras.utils.console import console
from tsi_keras.utils.files import check_output
from tsi_keras.utils.versions import versions

# Callbacks that hold something open, also when training fails.
_CLOSED = (Progress, EvaluateAverages, LogLearningRates, LogToWandb, ServiceWatch)


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
        output: folder for the run: `config.yaml`, `best.keras` (highest val top-1) and
            `last.keras`, each with a `.json` that describes it, `log.csv`,
            `curves.png`, `samples.png`, `tensorboard/`, `summary.json`.
        overwrite: remove an earlier run in `output`.
        resume: go on from the last saved step of an interrupted run with the same
            data set and configuration; a finished one is left as it is. Where and under
            whose eyes it runs may change: `train.distribution`, `workers`,
            `worker_index`, `checkpoint_minutes` and `wandb`, `data.cache`,
            `data.service` and `data.service_timeout`.

    Returns:
        The outcome. The random state of Python, NumPy and TensorFlow is left seeded with
        `train.seed`.

    Raises:
        InputError: bad configuration, data set or output folder, or another process
            trains in that folder; nothing was written over. Or a device has too little
            memory, or the disk is full.
        TrainingDiverged: the loss is no longer finite.
        TrainingInterrupted: SIGTERM or Ctrl-C came; the state is saved.
        WorkerLost: another worker of several is gone.

    Example:
        ```python
        config = load_config("configs/demo_tsi.yaml", ["--train.epochs=3"])
        summary = train(config, "data/demo", "runs/demo")
        print(summary.best)
        ```
    """
    info = load_dataset_info(data_dir)
    places = {
        "workers": config.train.workers,
        "worker_index": config.train.worker_index,
    }
    strategy = make_strategy(config.train.distribution, **places)
    # The configuration that all workers have in common.
    common = config.train.model_copy(update=dict.fromkeys(places))
    config = config.model_copy(update={"train": common})
    with reported_worker_loss(strategy):
        return _train(config, info, output, strategy, overwrite, resume)


def _train(
    config: Config,
    info: DatasetInfo,
    output: str | Path,
    strategy: tf.distribute.Strategy,
    overwrite: bool,
    resume: bool,
) -> TrainingSummary:
    """See `train`; of several workers only the chief touches the output."""
    facts = common_facts(config, info, overwrite=overwrite, resume=resume)
    check_same(strategy, facts)
    check_fit(config, info, strategy.num_replicas_in_sync)
    keras.utils.set_random_seed(config.train.seed)
    # The network comes before the folder: a wrong option must not cost an old run.
    with strategy.scope():
        model = trainable(
            build_classifier(config, info.class_names, records=info.options)
        )
        resizing(model, clip_options(config))
        compile_classifier(model, config, updates_per_epoch(config, info))
    if not (resume and from_chief(strategy, lambda: RunFolder(output).state)):
        load_initial_weights(model, config)

    def open_folder() -> tuple[RunFolder, Config, bool]:
        switches = {"overwrite": overwrite, "resume": resume}
        check_output(output, inputs=files_to_spare(config, info), **switches)
        run = open_run(output, config, info, **switches, lock=lock)
        return run, load_config(run.config), run.is_finished

    def finish() -> None:
        lock.check()
        write_summary(run, model, info, strategy.num_replicas_in_sync)
        shutil.rmtree(run.backup, ignore_errors=True)

    with RunLock(output) as lock:
        run, config, finished = from_chief(strategy, open_folder)
        if not finished:
            with explained_disk_errors(run.root):
                with _op_determinism(config.train.deterministic):
                    _fit(model, config, info, run, lock)
                from_chief(strategy, finish)
        return from_chief(strategy, lambda: load_summary(run.root))


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
    lock: RunLock,
) -> None:
    """Train from the first step or the last saved state to the end."""
    strategy = model.distribute_strategy
    past = from_chief(strategy, run.forget_unfinished)
    state = from_chief(strategy, lambda: run.state)
    if state is not None and is_chief(strategy):
        _, epoch, step = state
        console.print(
            f"resuming after epoch {epoch}, step {step} of {run.root}", soft_wrap=True
        )
    callbacks = _callbacks(config, info, run, past, strategy, lock)
    try:
        with (
            explained_failures(config, info),
            _signals(callbacks),
            default_writer_restored(),
        ):
            fit_from(
                model,
                state,
                partial(training_shares, config, info, strategy),
                steps_per_epoch=updates_per_epoch(config, info)
                * config.train.accumulation_steps,
                epochs=config.train.epochs,
                callbacks=callbacks,
                validation_data=validation_shares(config, info, strategy),
            )
    finally:
        for callback in callbacks:
            if isinstance(callback, _CLOSED):
                callback.close()


def _signals(callbacks: list[keras.callbacks.Callback]) -> StopOnSignal:
    """The callback that takes the signals over, to be used as a context."""
    return next(item for item in callbacks if isinstance(item, StopOnSignal))


def _callbacks(
    config: Config,
    info: DatasetInfo,
    run: RunFolder,
    past: list[dict[str, float]],
    strategy: tf.distribute.Strategy,
    lock: RunLock,
) -> list[keras.callbacks.Callback]:
    """All callbacks; in this order, logs and models precede the state that seals them.

    Of several workers only the chief writes.
    """
    chief = is_chief(strategy)
    clock, wait = Clock(clips_per_step(config)), DataWait()
    highest = max((row[MONITOR] for row in past if MONITOR in row), default=None)
    best = run.best if config.train.validation else None
    details = {
        "config": config.model_dump(),
        "dataset": describe_dataset(info),
        "versions": versions(),
    }
    models = SaveModels(run.last, best, MONITOR, highest, details)
    minutes = config.train.checkpoint_minutes
    state = SaveState(run.backup, minutes, sealed=models.publish if chief else None)
    workers = place_of(strategy).workers

    def ids(epoch: int, step: int) -> list[str]:
        # All stop at the same step, and wait for the chief, which looks them up.
        return from_chief(
            strategy, lambda: batch_ids(config, info, epoch, step, workers)
        )

    exact = reads_in_order(config, workers)
    samples = partial(first_clips, config, info)
    reports = [
        clock,
        wait,
        Progress(clock, wait),
        keras.callbacks.CSVLogger(run.log, append=True),
        keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
    ]
    service, patience = config.data.service, config.data.service_timeout
    return [
        *([ServiceWatch(service, patience)] if service is not None else []),
        *([StopWhenTaken(lock)] if chief else []),
        StopWhenNotFinite(run.backup, ids, exact, run.last),
        ReseedEveryEpoch(config.train.seed),
        CountSkippedBatches(updates_per_epoch(config, info)),
        *(reports if chief else []),
        *monitoring_callbacks(config, run, info.class_names, past, samples, chief),
        *([models] if chief else []),
        state,
        StopOnSignal(state),
        EvaluateAverages(),
    ]
