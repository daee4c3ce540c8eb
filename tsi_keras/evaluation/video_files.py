"""Which videos a command is to classify."""

from collections.abc import Iterable
from pathlib import Path

from tsi_keras.data.annotations import VIDEO_SUFFIXES
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import to_path
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote


def find_videos(paths: Iterable[str | Path]) -> list[Path | RemotePath]:
    """Return the given files, and in place of a folder all videos below it.

    Args:
        paths: files (any name), folders, and addresses of single files such as
            `s3://bucket/video.mp4`.

    Returns:
        Paths in the order given; those of a folder sorted.

    Raises:
        InputError: a path does not exist, or a folder holds no video.
    """
    found: list[Path | RemotePath] = []
    for path in paths:
        if is_remote(path):
            found.append(to_path(path))
            continue
        path = Path(path).expanduser()
        if not path.exists():
            raise InputError(f"VIDEO {path} does not exist.")
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if _is_video(p))
        if not inside:
            raise InputError(f"VIDEO {path} is a folder without videos below it.")
        found += inside
    return found


def _is_video(path: Path) -> bool:
    """A file with a video's name; hidden ones are left out."""
    named = path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    return named and path.is_file()
