"""Folders that tell the classes by their names: of videos, or of raw frame folders."""

import os
from pathlib import Path

from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.entries import default_group
from tsi_keras.data.annotations.media import VIDEO_SUFFIXES
from tsi_keras.data.annotations.media import check_encodable
from tsi_keras.data.annotations.media import is_image_name
from tsi_keras.data.annotations.media import is_video_name
from tsi_keras.utils.errors import InputError


def read_class_folders(root: Path) -> Annotations:
    """Read `root/class_name/video`; one level, hidden names ignored.

    Args:
        root: the folder.

    Returns:
        The videos, and everything else as skipped.

    Raises:
        InputError: there is no video, or a name is not UTF-8.
    """
    return _read(root, None)


def read_frame_folders(root: Path, frames: FrameFiles) -> Annotations:
    """Read `root/class_name/video/image`; the images are not looked at here.

    Args:
        root: the folder.
        frames: how the images are called, and their rate.

    Returns:
        The folders of raw frames, and everything else as skipped.

    Raises:
        InputError: there is no such folder, or a name is not UTF-8.
    """
    return _read(root, frames)


def holds_videos(folder: str | Path) -> bool:
    """Whether videos lie directly in a folder."""
    return any(is_video_name(item.name) for item in visible(folder))


def holds_images(folder: str | Path) -> bool:
    """Whether images lie directly in a folder."""
    return any(is_image_name(item.name) for item in visible(folder))


def visible(folder: str | Path) -> list[os.DirEntry]:
    """Contents of a folder by name, without hidden ones.

    Args:
        folder: the folder.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with os.scandir(folder) as items:
            found = [item for item in items if not item.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
    return sorted(found, key=lambda item: item.name)


def _read(root: Path, frames: FrameFiles | None) -> Annotations:
    annotations = Annotations([])
    for item in visible(root):
        check_encodable(item.path)
        if item.is_dir():
            _read_class(item, annotations, frames)
        else:
            annotations.skipped.append((item.name, "not in a class folder"))
    if not annotations.entries:
        raise InputError(_why_nothing(root, frames))
    return annotations


def _read_class(
    folder: os.DirEntry, annotations: Annotations, frames: FrameFiles | None
) -> None:
    """Add the videos, or the frame folders, of one class."""
    before = len(annotations.entries)
    for item in visible(folder.path):
        check_encodable(item.path)
        name = f"{folder.name}/{item.name}"
        if reason := _why_not(item, frames is not None):
            annotations.skipped.append((name, reason))
            continue
        group = default_group(name)
        path = Path(item.path)
        entry = VideoEntry(name, path, folder.name, None, group, frames=frames)
        annotations.entries.append(entry)
    if len(annotations.entries) == before:
        what = "videos" if frames is None else "frame folders"
        annotations.skipped.append((folder.name, f"a class folder without {what}"))


def _why_not(item: os.DirEntry, want_folder: bool) -> str | None:
    """Why something in a class folder is not a video (or frame folder)."""
    is_folder = item.is_dir()
    if want_folder:
        return None if is_folder else "not a folder of frames"
    if is_folder:
        return "a folder inside a class folder; it was not searched"
    return None if is_video_name(item.name) else "not a video name"


def _why_nothing(root: Path, frames: FrameFiles | None) -> str:
    """The most helpful sentence about a folder without class folders of videos."""
    if frames is not None:
        return (
            f"`--input` {root} holds no folders of frames; expected "
            "class_name/video_name/*.jpg in it."
        )
    files = [path for path in sorted(root.rglob("*")) if is_video_name(path.name)]
    if not files:
        return _why_no_videos(root)
    found = files[0].relative_to(root).as_posix()
    if "/" not in found:
        return (
            f"`--input` {root} holds videos directly ({found}) but no class folders; "
            "put them into one folder per class, or give --annotations, or a CSV "
            "with path,label."
        )
    return (
        f"`--input` {root} holds videos only deeper than class_name/video ({found}); "
        "give the folder of class folders, or --annotations, or a CSV with "
        "path,label,split."
    )


def _why_no_videos(root: Path) -> str:
    for folder in visible(root)[:10]:
        if folder.is_dir() and holds_images(folder.path):
            return (
                f"`--input` {root} holds no videos but folders of images directly "
                f"({folder.name}), which no class folder or list gives a label; give "
                "--annotations, or class_name/video_name/*.jpg."
            )
    others = ", ".join(sorted(VIDEO_SUFFIXES - {".mp4"}))
    return (
        f"`--input` {root} holds no videos; expected class_name/*.mp4 in it (or "
        f"{others})."
    )
