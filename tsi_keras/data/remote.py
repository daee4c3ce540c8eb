"""Files and folders on `s3://`, `gs://`, `hdfs://`, `http(s)://`.

Transfers go through TensorFlow's file systems. What fails for a passing reason is
tried again, visibly and a bounded number of times. TensorFlow's S3 file system calls
everything it cannot see "not found", wrong credentials and a dead network included,
so nothing here believes that without having asked for the object itself.
"""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from typing import TypeVar

from tsi_keras.data.remote_path import RemotePath
from tsi_keras.data.remote_path import to_path
from tsi_keras.data.remote_plugin import load_file_system
from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256

ATTEMPTS = 4  # of each transfer, with pauses of 1, 2 and 4 seconds
_FIRST_PAUSE = 1.0
_BLOCK = 8 << 20
_THREADS = 16  # small requests under way at once
T = TypeVar("T")

__all__ = [
    "ATTEMPTS",
    "RemoteError",
    "RemoteNotFound",
    "RemotePath",
    "can_list",
    "check_writable",
    "download",
    "exists",
    "in_parallel",
    "list_names",
    "local_copy",
    "read_bytes",
    "remove",
    "size_of",
    "to_path",
    "upload",
    "write_bytes",
]


class RemoteError(InputError):
    """Remote storage refused or did not answer; the message names URL and cause."""


class RemoteNotFound(RemoteError):
    """There is no such object, though the storage answers and knows the bucket."""


def can_list(path: RemotePath) -> bool:
    """Whether its file system can list a folder; `http(s)://` cannot."""
    return not path.url.lower().startswith("http")


def check_writable(path: RemotePath, option: str = "--output") -> None:
    """Refuse an address that can only be read.

    Args:
        path: the address.
        option: what it was given for.

    Raises:
        InputError: it is `http(s)://`.
    """
    if not can_list(path):
        raise InputError(
            f"`{option}` {path}: http(s):// can only be read; write to s3://, gs://, "
            "hdfs:// or a local folder."
        )


def read_bytes(path: RemotePath) -> bytes:
    """Read a whole (small) file; see `download` for the errors."""
    return _tried("reading", path, lambda: b"".join(_blocks(path)))


def write_bytes(path: RemotePath, data: bytes) -> None:
    """Write a (small) file; it is there whole or not at all."""

    def write() -> None:
        with _gfile().GFile(path.url, "wb") as file:
            file.write(data)
        if b"".join(_blocks(path)) != data:
            raise _unknown("what was written reads back differently")

    _tried("writing", path, write)


def exists(path: RemotePath) -> bool:
    """Whether there is such a file.

    Raises:
        RemoteError: the storage does not say.
    """
    try:
        _tried("looking for", path, lambda: _length(path))
    except RemoteNotFound:
        return False
    return True


def size_of(path: RemotePath) -> int:
    """Size of a file in bytes; see `download` for the errors."""
    return _tried("looking at", path, lambda: _length(path))


def list_names(folder: RemotePath) -> list[str]:
    """Names in a folder, sorted; none where there is no such folder.

    One listing, page by page, however many objects there are, and no other request.

    Args:
        folder: the folder; not `http(s)://`, which has no listing.

    Returns:
        Names of files, and of folders without a slash.

    Raises:
        RemoteError: the bucket is missing, or the storage refuses or does not answer.
    """
    import tensorflow as tf

    def listing() -> list[str]:
        try:
            names = _gfile().listdir(f"{folder.url}/")
        except tf.errors.NotFoundError:
            # Also said of wrong credentials and a dead network; a read tells.
            _length(folder / ".there")
            return []
        return sorted(name.rstrip("/") for name in names if name.strip("/"))

    try:
        return _tried("listing", folder, listing)
    except RemoteNotFound:
        return []


def remove(path: RemotePath) -> None:
    """Delete a file, if it is there."""

    def delete() -> None:
        import tensorflow as tf

        with contextlib.suppress(tf.errors.NotFoundError):
            _gfile().remove(path.url)

    _tried("deleting", path, delete)
    if exists(path):
        raise RemoteError(f"{path} cannot be deleted; check the permissions.")


def download(path: RemotePath, target: Path) -> Path:
    """Copy a remote file to a local one.

    Args:
        path: the remote file.
        target: the local file; written over.

    Returns:
        `target`.

    Raises:
        RemoteNotFound: there is no such file.
        RemoteError: the bucket is missing, the credentials are wrong, or the
            connection failed `ATTEMPTS` times; `target` does not exist then.
    """

    def fetch() -> Path:
        with target.open("wb") as file:
            file.writelines(_blocks(path))
        return target

    try:
        return _tried("reading", path, fetch)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def upload(source: Path, path: RemotePath, sha256: str | None = None) -> None:
    """Copy a local file to remote storage and read it back.

    Args:
        source: the local file.
        path: the remote file; replaced.
        sha256: of the contents, where it is known.

    Raises:
        RemoteError: as for `download`. An object store then has the old file or none.
    """
    sha256 = sha256 or file_sha256(source)

    def send() -> None:
        _gfile().copy(str(source), path.url, overwrite=True)
        digest = hashlib.sha256()
        for block in _blocks(path):
            digest.update(block)
        if digest.hexdigest() != sha256:
            raise _unknown("what was written reads back differently")

    _tried("writing", path, send)


@contextlib.contextmanager
def local_copy(path: RemotePath) -> Iterator[Path]:
    """A temporary local copy of a remote file, deleted at the end.

    Args:
        path: the remote file.

    Yields:
        The local file; it has the name of the remote one.

    Raises:
        RemoteError: see `download`.
    """
    with tempfile.TemporaryDirectory(prefix="tsi_keras-") as folder:
        suffix = path.suffix if len(path.suffix) < 20 else ""
        yield download(path, Path(folder) / f"copy{suffix}")


def in_parallel(function: Callable[[Any], T], items: list[Any]) -> list[T]:
    """Apply a function that waits for small requests to all items, in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def _length(path: RemotePath) -> int:
    """Size in bytes, or the error that tells why there is none."""
    import tensorflow as tf

    with contextlib.suppress(tf.errors.NotFoundError):
        status = _gfile().stat(path.url)
        if not status.is_directory:
            return status.length
    # "Not found" is also said of wrong credentials, a missing bucket and a dead
    # network; asking for the contents gives the true reason.
    with _gfile().GFile(path.url, "rb") as file:
        file.read(1)
    raise _unknown("its size could not be told")


def _blocks(path: RemotePath) -> Iterator[bytes]:
    """Contents piece by piece, and no byte less than the storage states.

    An empty object is not read at all: the S3 client crashes the process there.
    """
    left = _length(path)
    if not left:
        return
    with _gfile().GFile(path.url, "rb") as file:
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise _unknown(f"it ended {left} bytes early")
            left -= len(block)
            yield block


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def _unknown(message: str) -> Exception:
    import tensorflow as tf

    return tf.errors.UnknownError(None, None, message)


def _tried(what: str, path: RemotePath, action: Callable[[], T]) -> T:
    """Try several times what may fail for a passing reason."""
    import tensorflow as tf

    load_file_system(path.url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except tf.errors.OpError as error:
            _raise_if_final(what, path, error)
            cause = _cause(error)
        if attempt < ATTEMPTS:
            pause = _FIRST_PAUSE * 2 ** (attempt - 1)
            errors.print(
                f"retry {attempt} of {ATTEMPTS - 1} in {pause:g} s: {what} {path}: "
                f"{cause}",
                markup=False,
            )
            time.sleep(pause)
    raise RemoteError(f"{what} {path} failed {ATTEMPTS} times: {cause}.")


def _raise_if_final(what: str, path: RemotePath, error: Exception) -> None:
    """Turn an error that a retry cannot mend into one that says what to do."""
    import tensorflow as tf

    cause = _cause(error)
    if isinstance(error, tf.errors.NotFoundError):
        if "NoSuchBucket" in cause or "bucket does not exist" in cause.lower():
            raise RemoteError(f"{what} {path}: there is no such bucket ({cause}).")
        raise RemoteNotFound(f"{path} does not exist.")
    if isinstance(
        error, tf.errors.PermissionDeniedError | tf.errors.UnauthenticatedError
    ):
        raise RemoteError(
            f"{what} {path}: access denied{cause and f' ({cause})'}; check the "
            "credentials (for s3://: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_REGION) and their permissions."
        )
    if isinstance(error, tf.errors.UnimplementedError | tf.errors.InvalidArgumentError):
        raise RemoteError(f"{what} {path} is not possible: {cause}.")


def _cause(error: Exception) -> str:
    """The first line of an error, without TensorFlow's decoration."""
    lines = str(error.message).strip(" :\n").splitlines() or [""]
    text = " ".join(lines[0].split())[:200].rstrip(".")
    return "" if text == "No response body" else text
