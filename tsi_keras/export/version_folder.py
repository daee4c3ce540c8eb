"""The folder of a model and its versions: names, checks, and how a version appears."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsi_keras.export.assets import LABELS
from tsi_keras.models.loading import CHECKPOINTS
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.folder_lock import FolderLock

PARITY = "parity.json"

# Not the name of a run's lock: what a killed export leaves must not look like a run,
# which `train --overwrite` may remove.
EXPORT_LOCK = ".export-lock"
# How the names begin of a folder in which an export works, or worked when it was killed,
# and in it of what it replaces.
_WORKSHOP = ".export-at-work-"
_LEFT = ".export-left-"
_REPLACED = "replaced-"


def model_name(name: str | None, source: Path | None, model: VideoClassifier) -> str:
    """Folder name of a model: the given one, or that of the run, file or model.

    Raises:
        InputError: it would not do as a name of a folder or in a URL.
    """
    if name is None:
        name = model.name
        if source is not None:
            is_run = source.name in CHECKPOINTS
            name = source.resolve().parent.name if is_run else source.stem
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InputError(
            "`--name` must consist of letters, digits, '_', '-' and '.' and not begin "
            f"with '.' or '-'. Received: {name!r}"
        )
    return name


def check_target(target: Path, version: int, labels: str, *, overwrite: bool) -> None:
    """Refuse to replace what exists or to mix label sets; writes nothing.

    Raises:
        InputError: the version exists and is not to be replaced, other versions have
            other labels, or `parity.json` is damaged.
    """
    read_reports(target)
    if (target / str(version)).exists() and not overwrite:
        raise InputError(
            f"{target / str(version)} exists; nothing was written. Choose another "
            "--version or --name, or add --overwrite to replace it."
        )
    beside = target / LABELS
    others = [p for p in target.glob("[0-9]*") if p.name != str(version)]
    if others and beside.is_file() and beside.read_bytes() != labels.encode():
        raise InputError(
            f"{beside} belongs to versions with other class names; choose another "
            "--name for this model."
        )


@contextlib.contextmanager
def workshop(target: Path) -> Iterator[tuple[Path, FolderLock]]:
    """A folder beside the versions that vanishes, and `target` too if still empty.

    One export at a time has it; checks made before must be made again inside.

    Yields:
        The folder and the lock on `target`.

    Raises:
        InputError: another export is at work there, or `target` cannot be written.
    """
    lock = FolderLock(target, "choose another --name", EXPORT_LOCK)
    try:
        with lock:
            with _explained(target):
                _enter(target, lock)
                _clear_leftovers(target)
                folder = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=target))
            try:
                yield folder, lock
            finally:
                # Gone when another machine's export took over; what then failed says so.
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            target.rmdir()


def _enter(target: Path, lock: FolderLock) -> None:
    """Make the folder and lock it; one that ends may take it away in between."""
    for last in (False, False, True):
        target.mkdir(parents=True, exist_ok=True)
        try:
            return lock.acquire()
        except FileNotFoundError:
            if last:
                raise


def _clear_leftovers(target: Path) -> None:
    """Remove what a killed export was making; keep, and name, what it was replacing."""
    for folder in target.glob(f"{_WORKSHOP}*"):
        # Under another name first: an export that only slept must not work on in it.
        left = folder.with_name(_LEFT + folder.name.removeprefix(_WORKSHOP))
        try:
            folder.rename(left)
            replaced = sorted(left.glob(f"{_REPLACED}*"))
            if not replaced:
                shutil.rmtree(left)
        except OSError as error:
            _warn(f"{left}, of an export that was killed: {error.strerror}; remove it")
            continue
        for old in replaced:
            _warn(_advice(old, target))


def _advice(old: Path, target: Path) -> str:
    """What to do with something that a killed export had put aside."""
    place = target / old.name.removeprefix(_REPLACED).partition("-")[2]
    if place.exists():
        return f"{old} is the former {place}, which was replaced; remove {old.parent}"
    return f"{old} is {place}, which an export was replacing when killed; move it back"


def _warn(line: str) -> None:
    errors.print(line, markup=False)


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Raise InputError when the folder does not take anything."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"`--output` {target} cannot be written: {error.strerror}."
        ) from error


@contextlib.contextmanager
def installed(moves: Mapping[Path, Path], *, overwrite: bool) -> Iterator[None]:
    """Everything is in its place inside; if that or the rest fails, nothing is.

    What was in a place steps aside, to where the new thing came from, and comes back.

    Args:
        moves: new files and folders, and where they belong.
        overwrite: whether something may be in those places.

    Raises:
        InputError: something is and must not be.
    """
    taken = [place for place in moves.values() if place.exists()]
    if taken and not overwrite:
        raise InputError(f"{taken[0]} has appeared meanwhile; nothing was written.")
    done: list[tuple[Path, Path, Path | None]] = []
    try:
        for number, (made, place) in enumerate(moves.items()):
            old = _aside(made, number, place) if place.exists() else None
            done.append((made, place, old))
            if old is not None:
                place.rename(old)
            made.rename(place)
        yield
    except BaseException:
        for made, place, old in reversed(done):
            if place.exists() and not made.exists():
                place.rename(made)
            if old is not None and old.exists():
                old.rename(place)
        raise


def _aside(made: Path, number: int, place: Path) -> Path:
    """Where what is in a place waits meanwhile; the number as names may be equal."""
    return made.with_name(f"{_REPLACED}{number}-{place.name}")


def read_reports(target: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of `parity.json` by version; none if there is no such file.

    Raises:
        InputError: it is damaged.
    """
    path = target / PARITY
    if not path.is_file():
        return {}
    content = read_json(path)
    entries = content.get("versions") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise InputError(
            f"{path} is damaged: it has no `versions`. Remove it, or choose another "
            "--name."
        )
    return entries


def files_of(report: Mapping[str, Any]) -> list[str]:
    """Names of the TFLite and ONNX files an entry of `parity.json` is about."""
    kinds = (report.get("tflite", {}), report.get("onnx", {}))
    return [figures["file"] for kind in kinds for figures in kind.values()]


def record_parity(target: Path, version: int, parity: dict[str, Any]) -> None:
    """Renew one version's entry; files that are its own now are no longer others'."""
    entries = read_reports(target) | {str(version): parity}
    for number, report in entries.items():
        for kind in ("tflite", "onnx") if number != str(version) else ():
            report[kind] = {
                key: figures
                for key, figures in report.get(kind, {}).items()
                if figures["file"] not in files_of(parity)
            }
    write_json(target / PARITY, {"versions": entries})
