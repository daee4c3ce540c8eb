"""Datasets without tf.data's autotuning: how much at the same time, and how far ahead.

An autotuned iterator is slow to end: its destructor waits for the thread that tunes, which
may miss that it is to stop and sleep on for up to a minute. A training would wait so after
validations. Numbers that are known need no tuning; on 2 cores and a local disk the
throughput is the same. The iterators with which TensorFlow itself copies batches to a GPU,
or to each of several devices, remain autotuned: they cannot be told.
"""

import tensorflow as tf

# Batches that are ready while one trains: enough to bridge a slow one.
BATCHES_AHEAD = 4


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same dataset without autotuning.

    Args:
        dataset: with numbers, not `AUTOTUNE`, for what it does at the same time.

    Example:
        ```python
        frames = untuned(jpegs.map(decode, num_parallel_calls=available_cores()))
        ```
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
