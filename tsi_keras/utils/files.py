"""Output folders that are never overwritten by accident, and atomic writes."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote


def claim_output(
    path: str | Path,
    *,
    overwrite: bool = False,
    resume: bool | None = None,
    marks: Collection[str] = (),
) -> Path:
    """Return `path` as an existing folder that this run may fill.

    Args:
        path: folder to write to; it is created when missing.
        overwrite: remove what an earlier run left there.
        resume: keep what an earlier run left there and go on from it; None when the
            command has no such switch.
        marks: names of which one lies in every folder an earlier run left; what holds
            none of them is never removed. Empty: anything may be.

    Returns:
        The folder as an absolute `Path`.

    Raises:
        InputError: both switches are given, `path` is a file, cannot be created, or is
            not empty and neither switch allows that.
    """
    folder = check_output(path, overwrite=overwrite, resume=resume, marks=marks)
    if overwrite and folder.is_dir():
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"`--output` {folder} cannot be created: {error.strerror}."
        ) from error
    return folder


def check_output(
    path: str | Path,
    *,
    overwrite: bool = False,
    resume: bool | None = None,
    marks: Collection[str] = (),
    inputs: Collection[str | Path] = (),
) -> Path:
    """Whether `claim_output` would take `path`, before any work; touches nothing.

    Args:
        path: as for `claim_output`, likewise the switches and `marks`.
        overwrite: as for `claim_output`.
        resume: as for `claim_output`.
        marks: as for `claim_output`.
        inputs: files and folders the work reads, which must not lie in `path`.

    Returns:
        The folder as an absolute `Path`; it need not exist.

    Raises:
        InputError: as for `claim_output`, or an input lies in the folder.
    """
    if is_remote(path):
        raise InputError(
            f"`--output` must be a local folder. Received: {path}; copy the result "
            "there when it is complete."
        )
    folder = Path(path).expanduser().absolute()
    if overwrite and resume:
        raise InputError("`--overwrite` and `--resume` exclude each other; give one.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`--output` must be a folder. Received a file: {folder}")
    for item in inputs:
        if is_remote(item):
            continue
        if Path(item).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"`--output` {folder} contains the input {item}; choose another folder."
            )
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        _check_earlier(folder, overwrite, resume is not None, marks)
    return folder


def _check_earlier(
    folder: Path, overwrite: bool, resumable: bool, marks: Collection[str]
) -> None:
    """Refuse a folder in use, unless an earlier run in it is to be replaced."""
    if not overwrite:
        choices = "add --resume to go on or --overwrite to start anew"
        raise InputError(
            f"`--output` {folder} is not empty; nothing was written. Choose another "
            f"folder, or {choices if resumable else 'add --overwrite to replace it'}."
        )
    if marks and not any((folder / name).exists() for name in marks):
        raise InputError(
            f"`--overwrite`: {folder} holds nothing this command wrote (none of "
            f"{', '.join(marks)}); nothing was removed. Choose another folder."
        )


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` so that `path` is either whole or as it was (temporary + rename)."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; see `write_bytes`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value) -> Path:
    """Write `value` as indented JSON atomically; see `write_bytes`."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def is_same_file(path: str | Path, other: str | Path) -> bool:
    """Whether two paths name one existing file; an address never does."""
    try:
        return Path(path).expanduser().samefile(Path(other).expanduser())
    except OSError:  # one of them does not exist
        return False


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's contents in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: str | Path):
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
