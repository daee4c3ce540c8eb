"""Devices: which `tf.distribute` strategy a run uses, and what batch fits it."""

import os
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import tensorflow as tf

from tsi_keras.training.cluster import Cluster
from tsi_keras.training.cluster import await_workers
from tsi_keras.training.cluster import check_alone
from tsi_keras.training.cluster import find_cluster
from tsi_keras.utils.console import console
from tsi_keras.utils.errors import InputError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(
    name: str = "auto",
    workers: Sequence[str] | None = None,
    worker_index: int | None = None,
) -> tf.distribute.Strategy:
    """Return the strategy of a run.

    Args:
        name: `"auto"`: all GPUs when there are several, else one device, but not in a
            process that TF_CONFIG or SLURM calls one of several workers;
            `"one_device"`: TensorFlow's default device; `"mirrored"`: all GPUs, or
            all logical CPU devices where there is no GPU, falling back to one
            device by itself; `"multi_worker"`: all GPUs, or the CPU, of several
            processes, see `find_cluster`, or of one process by itself; `"tpu"`: all
            cores of the TPU that TPU_NAME names, or of this machine.
        workers: for `"multi_worker"`: `host:port` of every process, if neither TF_CONFIG
            nor SLURM tells.
        worker_index: position of this process among them.

    Returns:
        A strategy over at least two devices or for a TPU, else the default strategy.
        `"multi_worker"` returns when all workers are there, and must come before
        anything that TensorFlow computes.

    Raises:
        ValueError: unknown name.
        InputError: the workers make no sense or do not answer, or are not asked for;
            there is no TPU.

    Example:
        ```python
        with make_strategy("auto").scope():
            model = build_classifier(config, class_names)
        ```
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`name` must be one of {list(STRATEGIES)}. Received: {name!r}"
        )
    if name == "multi_worker":
        cluster = find_cluster(workers, worker_index, os.environ)
        return _multi_worker(cluster) if len(cluster.workers) > 1 else _local("auto")
    if workers is not None or worker_index is not None:
        raise InputError(
            "`train.workers` and `train.worker_index` need "
            f"train.distribution=multi_worker. Received: {name!r}"
        )
    if name == "tpu":
        return _tpu(os.environ.get("TPU_NAME", "local"))
    if name == "auto":
        check_alone(os.environ)
    return _local(name)


def _local(name: str) -> tf.distribute.Strategy:
    """The strategy of a process by itself."""
    devices = [] if name == "one_device" else tf.config.list_logical_devices("GPU")
    if name == "mirrored" and not devices:
        devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(device.name for device in devices))


@cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One strategy per set of devices and process.

    Every new `MirroredStrategy` numbers its collective operations from the start,
    and TensorFlow (2.17) confuses them with an earlier strategy's: "Shape mismatch in
    the collective instance". On CPUs collectives are left out altogether.
    """
    on_cpu = "CPU" in devices[0]
    reduction = tf.distribute.ReductionToOneDevice() if on_cpu else None
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


@cache
def _multi_worker(cluster: Cluster) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of a cluster, once everybody is there; one per process."""
    await_workers(
        cluster,
        waiting=lambda worker: console.print(f"waiting for worker {worker}"),
    )
    gpus = len(tf.config.get_visible_devices("GPU"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise InputError(
            "`train.distribution=multi_worker` must begin before TensorFlow computes "
            "anything; train in a fresh process."
        ) from error


def in_use() -> bool:
    """Whether this process trains, or trained, together with other workers."""
    return _multi_worker.cache_info().currsize > 0


@cache
def _tpu(name: str) -> tf.distribute.TPUStrategy:
    """The strategy of a TPU, initialised; one per process."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"`train.distribution=tpu`: no TPU could be reached as {name!r} (set "
            f"TPU_NAME, or leave it unset on the TPU's own machine): {reason[:200]}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


class Place(NamedTuple):
    """Where a process stands among those that train together.

    Attributes:
        worker: its position.
        workers: their number.
    """

    worker: int
    workers: int


def place_of(strategy: tf.distribute.Strategy) -> Place:
    """Return the place of this process: 0 of 1 but for several workers.

    Example:
        ```python
        worker, workers = place_of(strategy)
        data = make_dataset(..., repeat=True, worker=worker, workers=workers)
        ```
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Place(0, 1)
    resolver = strategy.cluster_resolver
    return Place(resolver.task_id, resolver.cluster_spec().num_tasks("worker"))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes models, states and logs."""
    return place_of(strategy).worker == 0


def check_batch_size(batch_size: int, replicas: int, parts: int = 1) -> None:
    """Refuse a global batch that cannot be shared equally.

    Args:
        batch_size: clips of an update.
        replicas: number of devices, over all workers.
        parts: `train.accumulation_steps`.

    Raises:
        InputError: `batch_size` is no multiple of `replicas` times `parts`.
    """
    if batch_size % (replicas * parts):
        next_larger = -(-batch_size // (replicas * parts)) * replicas * parts
        accumulated = f", times `train.accumulation_steps` ({parts})" * (parts > 1)
        raise InputError(
            f"`train.batch_size` must be a multiple of the {replicas} devices in "
            f"use{accumulated}. Received: {batch_size}; {next_larger} would do."
        )


def validation_batch_size(batch_size: int, videos: int, replicas: int) -> int:
    """Return the global batch size to validate with.

    On several replicas every batch must be full: TensorFlow's oneDNN convolutions, those
    of CPUs, fail on an empty share, and Keras on a first batch that is shared unequally.
    Give `make_dataset` `fill_last=True` there; this size leaves little to fill up.

    Args:
        batch_size: clips of a training step, a multiple of `replicas`.
        videos: number of validation videos.
        replicas: number of devices.

    Example:
        ```python
        validation_batch_size(8, videos=9, replicas=2)   # 6: 12 clips, not 16
        ```
    """
    if replicas == 1:
        return batch_size
    steps = -(-videos // batch_size)
    return -(-videos // (steps * replicas)) * replicas
