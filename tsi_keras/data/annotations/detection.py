"""Which format an input has, where that can be told safely."""

import re
from collections.abc import Iterable
from pathlib import Path

from tsi_keras.data.annotations.folders import holds_images
from tsi_keras.data.annotations.folders import holds_videos
from tsi_keras.data.annotations.folders import visible
from tsi_keras.data.annotations.kinetics import COLUMNS as KINETICS_COLUMNS
from tsi_keras.data.annotations.roles import role_of
from tsi_keras.data.annotations.split_files import HMDB_LIST
from tsi_keras.data.annotations.split_files import UCF_CLASSES
from tsi_keras.data.annotations.split_files import UCF_LIST
from tsi_keras.utils.errors import InputError

_SUFFIXES = (".csv", ".json", ".txt", ".jsonl")
# Folders inside `--input` in which annotation files are looked for.
_ANNOTATION_FOLDER = re.compile("anno|label|split|list|meta", re.IGNORECASE)
_JESTER = re.compile("swiping |sliding two fingers|thumb up|no gesture", re.IGNORECASE)
_SPLIT_FOLDERS = ("train", "val", "test")
_PEEK = 8192  # bytes from which a file's kind is told
_MANY_FOLDERS = 300  # looked into before class folders are given up


def annotation_files(folder: Path) -> list[Path]:
    """Files in a folder, and in its folders for annotations, that may be annotations.

    Args:
        folder: the folder.

    Returns:
        The files, sorted.
    """
    found = []
    for item in visible(folder):
        if item.is_dir():
            if _ANNOTATION_FOLDER.search(item.name):
                inside = (Path(path.path) for path in visible(item.path))
                found.extend(path for path in inside if path.is_file())
        else:
            found.append(Path(item.path))
    return sorted(path for path in found if path.suffix.lower() in _SUFFIXES)


def format_of_files(files: Iterable[Path]) -> str | None:
    """Tell the format of annotation files.

    Args:
        files: the files.

    Returns:
        Its name, or `None` where no file is known.

    Raises:
        InputError: they are of different formats.
    """
    known: dict[str, Path] = {}
    for path in files:
        name = _format_of_file(path)
        if name is not None:
            known.setdefault(name, path)
    if len(known) > 1:
        what = ", ".join(f"{path.name} is {name}" for name, path in known.items())
        raise InputError(
            f"the annotation files are of several formats: {what}; give "
            "--format, or only the files that belong together."
        )
    return next(iter(known), None)


def format_of_folder(root: Path) -> str:
    """Tell the format of a folder without annotation files: "folder" or "frames".

    Args:
        root: the folder.

    Returns:
        "frames" where the class folders hold folders of images and no video.
    """
    images = False
    for item in visible(root)[:_MANY_FOLDERS]:
        if not item.is_dir():
            continue
        if holds_videos(item.path):
            return "folder"
        inside = [child for child in visible(item.path) if child.is_dir()]
        images = images or any(holds_images(child.path) for child in inside[:3])
    return "frames" if images else "folder"


def has_class_folders(root: Path) -> bool:
    """Whether two or more folders of videos lie in a folder, not named as splits."""
    count = 0
    for item in visible(root)[:_MANY_FOLDERS]:
        if item.is_dir() and role_of(Path(item.name)) not in _SPLIT_FOLDERS:
            count += holds_videos(item.path)
        if count > 1:
            return True
    return False


def _format_of_file(path: Path) -> str | None:
    """Format of one file by its name and first bytes; `None`: cannot be told."""
    name = path.name.lower()
    if name == UCF_CLASSES or UCF_LIST.match(name):
        return "ucf101"
    if HMDB_LIST.match(path.name):
        return "hmdb51"
    if path.suffix.lower() not in (".json", ".csv"):
        return None
    if role_of(path) in ("labels", "answers"):
        return None
    text = _first_text(path)
    if path.suffix.lower() == ".json":
        return _format_of_json(name, text)
    return _format_of_csv(name, text)


def _format_of_json(name: str, text: str) -> str | None:
    if '"vid_name"' in text:
        return "diving48"
    if '"template"' in text:
        return "something-v2"
    # V1 as JSON has neither template nor anything else that is its own.
    return "something-v1" if "something-something-v1" in name else None


def _format_of_csv(name: str, text: str) -> str | None:
    header = [field.strip(' "') for field in text.split("\n", 1)[0].strip().split(",")]
    if all(column in header for column in KINETICS_COLUMNS):
        return "kinetics"
    if {"path", "label"} <= set(header):
        return "csv"
    if not re.match(r'"?\w+"?\s*;', text):
        return None
    if "jester" in name or _JESTER.search(text):
        return "jester"
    return "something-v1" if "something" in name + text.lower() else None


def _first_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_PEEK).decode("utf-8-sig", "replace").lstrip()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
