"""Where the videos or frame folders lie that an annotation file names."""

import os
from collections.abc import Collection
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tsi_keras.utils.errors import InputError

VIDEO_SUFFIXES = frozenset(
    ".mp4 .avi .mkv .mov .webm .mpg .mpeg .m4v .wmv .flv .3gp .ogv".split()
)
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp".split())
_MAX_DEPTH = 4  # root/split/class/video, and one to spare


class Medium(NamedTuple):
    """A video file or a folder of raw frames; `name` is without suffix."""

    path: str
    name: str
    is_folder: bool


class MediaIndex:
    """Videos and frame folders below a folder, by their names.

    The folder is walked once: looking for hundreds of thousands of files one by one
    takes minutes. A folder with a wanted name is taken as raw frames and not entered.

    Args:
        root: folder to look in, a few levels deep; hidden folders are not entered.
        wanted: names of videos, without suffix.

    Attributes:
        unlisted: videos whose names are not wanted, relative to `root`.
    """

    def __init__(self, root: Path, wanted: Collection[str]):
        self._root = str(root)
        self._wanted = wanted
        self._found: dict[str, list[Medium]] = {}
        self.unlisted: list[str] = []
        self._walk(self._root, 1)

    def find(self, names: Iterable[str], folders: Collection[str]) -> Medium | None:
        """Return the video that has one of `names`.

        Args:
            names: possible names without suffix, the best first.
            folders: names of folders the video may lie in, to choose among several
                of the same name.

        Returns:
            The file or folder, or `None` where there is none.

        Raises:
            InputError: there are several.
        """
        for name in names:
            found = self._found.get(name)
            if found and len(found) > 1:
                found = self._prefer(found, folders)
            if found:
                return found[0]
        return None

    def _prefer(self, found: list[Medium], folders: Collection[str]) -> list[Medium]:
        """The only one, or the only one in the right folders."""
        best: list[Medium] = []
        most = -1
        for medium in found:
            parts = os.path.relpath(medium.path, self._root).split(os.sep)[:-1]
            score = sum(part in folders for part in parts)
            if score > most:
                best, most = [], score
            if score == most:
                best.append(medium)
        if len(best) > 1:
            first, second = sorted(medium.path for medium in best)[:2]
            raise InputError(
                f"the same video lies in two places: {first} and {second}; move one "
                "out of `--input`."
            )
        return best

    def _walk(self, folder: str, depth: int) -> None:
        try:
            with os.scandir(folder) as items:
                items = sorted(items, key=lambda item: item.name)
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
        for item in items:
            if item.name.startswith("."):
                continue
            if not item.is_dir():
                self._add_file(item)
            elif item.name in self._wanted:
                self._add(item.name, item.path, True)
            elif depth < _MAX_DEPTH:
                self._walk(item.path, depth + 1)

    def _add_file(self, item: os.DirEntry) -> None:
        stem, suffix = os.path.splitext(item.name)
        if suffix.lower() not in VIDEO_SUFFIXES:
            return
        if stem in self._wanted:
            self._add(stem, item.path, False)
        else:
            self.unlisted.append(os.path.relpath(item.path, self._root))

    def _add(self, name: str, path: str, is_folder: bool) -> None:
        check_encodable(path)
        self._found.setdefault(name, []).append(Medium(path, name, is_folder))


def check_encodable(path: str) -> None:
    """Names go into records and reports, so they must be text.

    Args:
        path: path of a file or folder.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        folder, name = os.path.split(path)
        raise InputError(
            f"{folder.encode('utf-8', 'replace').decode()} holds a name that is not "
            f"UTF-8: {os.fsencode(name)!r}; rename it."
        ) from None


def is_video_name(name: str) -> bool:
    """Whether a file's name ends like that of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
