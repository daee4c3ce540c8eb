"""Devices: which `tf.distribute` strategy a run uses, and what batch fits it."""

import math
from functools import cache

import tensorflow as tf

from tsi_keras.utils.errors import InputError


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Return the strategy of a run.

    Args:
        name: `"auto"`: all GPUs when there are several, else one device;
            `"one_device"`: TensorFlow's default device; `"mirrored"`: all GPUs, or
            all logical CPU devices where there is no GPU, falling back to one
            device by itself.

    Returns:
        A `MirroredStrategy` over at least two devices, else the default strategy.

    Raises:
        ValueError: unknown name.

    Example:
        ```python
        with make_strategy("auto").scope():
            model = build_classifier(config, class_names)
        ```
    """
    if name not in ("auto", "one_device", "mirrored"):
        raise ValueError(
            "`name` must be 'auto', 'one_device' or 'mirrored'. "
            f"Received: name={name!r}"
        )
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


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Refuse a global batch that cannot be shared equally.

    Raises:
        InputError: `batch_size` is no multiple of `replicas`.
    """
    if batch_size % replicas:
        next_larger = (batch_size // replicas + 1) * replicas
        raise InputError(
            f"`train.batch_size` must be a multiple of the {replicas} devices in use. "
            f"Received: {batch_size}; {next_larger} would do."
        )


def validation_batch_size(batch_size: int, videos: int, replicas: int) -> int:
    """Return the largest batch size that validates well on every replica.

    Under a strategy the first batch must be full, because Keras builds the metrics
    from it and fails when it is shared unequally. The last one may be partial and is
    counted exactly, but should leave no replica without a clip: TensorFlow's oneDNN
    convolutions, those of CPUs, fail on an empty batch. Where that cannot be had, the
    largest size with a full first batch is returned.

    Args:
        batch_size: global batch size of the training.
        videos: number of validation videos.
        replicas: number of devices.

    Raises:
        InputError: there are fewer videos than devices.

    Example:
        ```python
        validation_batch_size(8, videos=7, replicas=2)   # 4: shares of 2, 2 and 2, 1
        ```
    """
    if replicas == 1:
        return batch_size
    if videos < replicas:
        raise InputError(
            f"The val split has {videos} videos, fewer than the {replicas} devices in "
            "use. Add videos, or take --train.validation=false or "
            "--train.distribution=one_device."
        )
    largest = min(batch_size, videos) // replicas
    for share in range(largest, 0, -1):
        rest = videos % (share * replicas)
        # Of the rest everyone gets the same, rounded up, until there is no more.
        if rest == 0 or rest > math.ceil(rest / replicas) * (replicas - 1):
            return share * replicas
    return largest * replicas
