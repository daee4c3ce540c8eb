"""Batches that wait on the GPU, so that the step need not wait for their copies."""

import tensorflow as tf

# One to compute with next, one on its way.
_BATCHES = 2


def near_device(
    data: tf.data.Dataset | tf.distribute.DistributedDataset,
    strategy: tf.distribute.Strategy,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Copy the batches of a run that has one GPU there ahead of time.

    Without it `fit` copies each batch when its step begins, and the GPU waits. Where
    there are several devices, TensorFlow's distributed datasets do the same by
    themselves; without a GPU there is nothing to copy. In both cases `data` is given
    back as it is.

    Args:
        data: endless batches of a whole pipeline; nothing may follow, or they would
            come back.
        strategy: the run's.

    Returns:
        The same batches; the next two lie on the GPU. TensorFlow no longer knows how
        many there are: give `fit` its `steps_per_epoch`. (Data that ends, such as
        that of the validation, would have Keras warn that it ran out.)

    Example:
        ```python
        train = near_device(make_dataset(..., repeat=True), strategy)
        model.fit(train, steps_per_epoch=100)
        ```
    """
    device = _only_gpu(strategy)
    if device is None:
        return data
    return data.apply(tf.data.experimental.prefetch_to_device(device, _BATCHES))


def _only_gpu(strategy: tf.distribute.Strategy) -> str | None:
    """The device TensorFlow computes on by default, if that is a GPU."""
    gpus = tf.config.list_logical_devices("GPU")
    return gpus[0].name if gpus and strategy.num_replicas_in_sync == 1 else None
