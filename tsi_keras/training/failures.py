"""Errors of TensorFlow during training in one line that says what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.config import Config
from tsi_keras.utils.errors import InputError

_DAMAGED = ("truncated record", "corrupted record", "Invalid JPEG", "Could not parse")
_NO_MEMORY = re.compile(
    r"OOM when allocating|out[ _]of[ _]memory|failed to allocate memory", re.IGNORECASE
)
_TENSOR = re.compile(r"tensor with shape\s*\[[\d,]*\]")


@contextmanager
def explained_failures(config: Config, info: DatasetInfo) -> Iterator[None]:
    """Tell damaged records and a lack of memory inside the block.

    Args:
        config: the run's.
        info: its data set.

    Raises:
        InputError: a record cannot be read, or a device has too little memory. Other
            errors pass as they are.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        damage = _damage(error)
        if damage is None:
            raise
        raise InputError(
            f"`--data` {info.folder}: {damage}; prepare the data set again."
        ) from error
    except (tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        raise InputError(_memory_advice(config, str(error))) from error


def _damage(error: tf.errors.OpError) -> str | None:
    """What is wrong with the records, if that is what `error` is about."""
    for sign in _DAMAGED:
        if sign.lower() in str(error).lower():
            return f"a record cannot be read ({sign.lower()})"
    return None


def _memory_advice(config: Config, text: str) -> str:
    """What to make smaller."""
    train = config.train
    tensor = _TENSOR.search(text)
    which = f" for a {tensor[0]}" if tensor else ""
    return (
        f"A device has too little memory{which}; raise `train.accumulation_steps` "
        "(parts a batch is computed in) or lower `train.batch_size`, and start anew. "
        f"Received: {train.accumulation_steps} and {train.batch_size}"
    )
