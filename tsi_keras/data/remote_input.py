"""Videos on remote storage: which there are, and each in turn as a local file."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.entries import default_group
from tsi_keras.data.annotations.manifest import read_manifest
from tsi_keras.data.annotations.media import is_video_name
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.remote import RemoteNotFound
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import can_list
from tsi_keras.data.remote import in_parallel
from tsi_keras.data.remote import list_names
from tsi_keras.data.remote import local_copy
from tsi_keras.data.remote import to_path
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote

_LISTS = (".csv", ".jsonl")
_NOTE = (
    "the videos are remote: identical files were not looked for, and a video that is "
    "replaced under its name goes unnoticed by --resume"
)


def scan_remote(
    source: str | RemotePath,
    *,
    format: str = "auto",
    annotations: str | Path | Sequence[str | Path] | None = None,
    labels: str | Path | None = None,
) -> Annotations:
    """`scan` for a remote folder of class folders, or a remote or local manifest.

    A folder takes one listing of itself and one of each class folder. Nothing is asked
    about single videos.

    Args:
        source: remote folder or manifest (`.csv`, `.jsonl`).
        format: "auto", "folder", "csv" or "jsonl".
        annotations: a manifest whose relative paths count from the folder `source`.
        labels: list of the classes, see `scan`.

    Returns:
        The annotations, sorted by id; the paths are `RemotePath`s where they are remote.

    Raises:
        InputError: there is nothing to read, or the format needs local files.
        RemoteError: the storage refuses or does not answer.
    """
    root = to_path(str(source))
    lists = [annotations] if isinstance(annotations, str | Path) else annotations or []
    if format not in ("auto", "folder", "csv", "jsonl") or len(lists) > 1:
        raise InputError(
            f"`--input` {root}: of a remote input, class folders and manifests can be "
            "read; turn other annotations into a manifest with --write-manifest where "
            "they are local, and give it as --annotations."
        )
    with contextlib.ExitStack() as stack:
        local = _localizer(stack)
        labels = None if labels is None else local(labels)
        if lists:
            found = _read_list(local(lists[0]), lists[0], root, labels)
        elif root.suffix.lower() in _LISTS:
            found = _read_list(local(root), root, root.parent, labels)
        else:
            found = _read_class_folders(root)
    found.notes.append(_NOTE)
    return found


@contextlib.contextmanager
def video_as_file(path: Path | RemotePath) -> Iterator[Path]:
    """A video as a local file: itself, or a temporary copy.

    Args:
        path: where it lies.

    Yields:
        The file.

    Raises:
        VideoError: a remote video does not exist.
        RemoteError: the storage refuses or does not answer.
    """
    if not isinstance(path, RemotePath):
        yield path
        return
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(local_copy(path))
        except RemoteNotFound:
            raise VideoError("the file does not exist") from None
        yield copy


def _localizer(stack: contextlib.ExitStack) -> Callable[[object], Path]:
    """A function that makes any list a local file for as long as `stack` is open."""

    def local(path: object) -> Path:
        if is_remote(path):
            return stack.enter_context(local_copy(to_path(str(path))))
        path = Path(path).expanduser().absolute()
        if not path.is_file():
            raise InputError(f"{path} does not exist or is no file.")
        return path

    return local


def _read_list(
    file: Path, named: object, base: RemotePath, labels: Path | None
) -> Annotations:
    """A manifest, with messages that name it as the user did."""
    try:
        found = read_manifest(file, base=base, labels=labels)
    except InputError as error:
        raise InputError(str(error).replace(str(file), str(named))) from None
    found.format = file.suffix.lower().lstrip(".")
    return found


def _read_class_folders(root: RemotePath) -> Annotations:
    """`root/class_name/video`, from listings alone."""
    if not can_list(root):
        raise InputError(
            f"`--input` {root}: http(s):// cannot be listed; give a CSV with path,label."
        )
    classes = [name for name in list_names(root) if not name.startswith(".")]
    found = Annotations([], format="folder")
    listings = in_parallel(list_names, [root / name for name in classes])
    for name, videos in zip(classes, listings, strict=True):
        _add_class(root / name, videos, found)
    if not found.entries:
        raise InputError(
            f"`--input` {root} holds no videos; expected class_name/*.mp4 in it."
        )
    return found


def _add_class(folder: RemotePath, names: list[str], found: Annotations) -> None:
    """The videos of one class folder."""
    if not names:
        found.skipped.append((folder.name, "not a class folder with videos"))
    for name in names:
        identifier = f"{folder.name}/{name}"
        if name.startswith("."):
            continue
        if not is_video_name(name):
            found.skipped.append((identifier, "not a video name"))
            continue
        group = default_group(identifier)
        entry = VideoEntry(identifier, folder / name, folder.name, None, group)
        found.entries.append(entry)
