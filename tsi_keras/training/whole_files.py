"""Files that are whole or not there, and clear words when a disk does not take them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from tsi_keras.utils.errors import InputError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PREFIX = ".writing-"


@contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Yield a name to write to that becomes `target` when the block ends well.

    A process killed at any moment leaves the old `target` or the new one, and perhaps
    the file aside, see `remove_unfinished`.

    Args:
        target: file to write or replace; its folder is created.

    Raises:
        InputError: the disk does not take the file; `target` is as it was.

    Example:
        ```python
        with whole_file("notes.txt") as path:
            path.write_text("all or nothing")
        ```
    """
    target = Path(target)
    temporary = target.with_name(f"{_PREFIX}{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush_file(temporary)
        os.replace(temporary, target)
        flush_folder(target.parent)
    except Exception as error:
        if cause := _disk_error(error):
            raise _unwritable(target, cause) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def explained_disk_errors(folder: str | Path) -> Iterator[None]:
    """Turn what a disk does not take inside the block into an `InputError`.

    Args:
        folder: what to name when the error tells no file.
    """
    try:
        yield
    except OSError as error:
        if cause := _disk_error(error):
            raise _unwritable(Path(cause.filename or folder), cause) from error
        raise
    except tf.errors.OpError as error:
        # TensorBoard's files are written by TensorFlow, which keeps the reason's text.
        if cause := _named_disk_error(error):
            raise _unwritable(Path(folder), cause) from error
        raise


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed processes left of their `whole_file`s in `folder`."""
    for path in Path(folder).glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


def flush_file(path: Path) -> None:
    """Have the bytes on disk before the name points to them."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritable(target: Path, cause: OSError) -> InputError:
    """What could not be written, why, and what to do."""
    advice = "make that place writable"
    if cause.errno in _NO_ROOM:
        advice = f"make room there ({_free_space(target)})"
    return InputError(
        f"{target} cannot be written: {cause.strerror}; {advice}, then go on with "
        "--resume. What was saved before is whole."
    )


def _disk_error(error: BaseException | None) -> OSError | None:
    """The operating system's error behind `error`, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        error = error.__cause__ or error.__context__
    return None


def _named_disk_error(error: tf.errors.OpError) -> OSError | None:
    """The operating system's error that TensorFlow's text names, if it does."""
    for code in (*_NO_ROOM, errno.EROFS, errno.EACCES, errno.EIO):
        if os.strerror(code) in str(error):
            return OSError(code, os.strerror(code))
    return None


def _free_space(path: Path) -> str:
    """How much the disk of a file has left."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / 1e9:.2f} GB are free"
