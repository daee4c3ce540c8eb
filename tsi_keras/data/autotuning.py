"""Datasets without tf.data's autotuning: how much at the same time, and how far ahead.

An autotuned iterator is slow to end: its destructor waits for the thread that tunes, which
may miss that it is to stop and sleep on for up to a minute. A training would wait so after
validations. Numbers that are known need no tuning; the throughput is the same.
"""

import tensorflow as tf

# Batches that are ready while one trains: enough to bridge a slow one, and no more memory
# than that.
BATCHES_AHEAD = 4


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same dataset, which iterates and ends without autotuning.

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
