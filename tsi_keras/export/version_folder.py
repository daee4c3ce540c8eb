"""The folder of a model and its versions: names, checks, and how a version appears."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsi_keras.export.assets import LABELS
from tsi_keras.models.loading import CHECKPOINTS
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json

PARITY = "parity.json"


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
        InputError: the version exists and is not to be replaced, or other versions have
            other labels.
    """
    if (target / str(version)).exists() and not overwrite:
        raise InputError(
            f"{target / str(version)} exists; nothing was written. Choose another "
            "--version or --name, or add --overwrite to replace it."
        )
    beside = target / LABELS
    others = [p for p in target.glob("[0-9]*") if p.name != str(version)]
    if others and beside.is_file() and beside.read_text("utf-8") != labels:
        raise InputError(
            f"{beside} belongs to versions with other class names; choose another "
            "--name for this model."
        )


@contextlib.contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A folder beside the versions that vanishes, and `target` too if still empty.

    Raises:
        InputError: `target` cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=target))
    except OSError as error:
        raise InputError(
            f"`--output` {target} cannot be written: {error.strerror}."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        if not any(target.iterdir()):
            target.rmdir()


def install(folder: Path, version: Path) -> None:
    """Move a finished SavedModel to its place; an old one steps aside until then."""
    if version.exists():
        version.rename(folder.with_name("replaced"))
    folder.rename(version)


def record_parity(target: Path, version: int, parity: dict[str, Any]) -> None:
    """Renew one version's entry in `parity.json`."""
    path = target / PARITY
    entries = read_json(path)["versions"] if path.is_file() else {}
    write_json(path, {"versions": {**entries, str(version): parity}})
