"""What errors of TensorFlow say, in one line, and what to do about damaged records."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.utils.errors import InputError


@contextmanager
def readable_records(info: DatasetInfo, split: str) -> Iterator[None]:
    """Turn what reading a split fails with into an error that says what to do.

    Raises:
        InputError: a record is damaged, or is none.

    Example:
        ```python
        with readable_records(info, "val"):
            records = list(tf.data.TFRecordDataset(info.shard_paths("val")))
        ```
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise InputError(
            f"The {split!r} records in {info.folder} cannot be read as "
            f"dataset.json lists them: {first_sentence(error)}; prepare the data set "
            "again with --overwrite."
        ) from error


def first_sentence(error: tf.errors.OpError) -> str:
    """What a TensorFlow error says, without the names of operations around it."""
    return bare_message(str(error.message)) or type(error).__name__


def bare_message(text: str) -> str:
    """The first error of a TensorFlow message, without the names of operations."""
    line, *more = text.strip().splitlines() or [""]
    if more and line.endswith("root error(s) found."):
        line = more[0].partition(": ")[2]  # (0) INVALID_ARGUMENT: ...
    line = re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", line)
    return line.strip().rstrip(".")
