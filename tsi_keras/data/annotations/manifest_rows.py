"""A row of a manifest as an entry, and an entry as a row."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.entries import default_group
from tsi_keras.data.annotations.frame_names import problem_of
from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.span import Span
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote

COLUMNS = ("path", "label", "split", "group", "id", "start", "end")
_CUT = {"start": float, "end": float, "start_frame": int, "end_frame": int}
_FRAMES = {"pattern": str, "first": int, "count": int, "fps": float}
ALL_COLUMNS = (
    *COLUMNS,
    "start_frame",
    "end_frame",
    *(f"frame_{name}" for name in _FRAMES),
)
REQUIRED = ("path", "label")
_TEXTS = ("path", "label", "split", "group", "id")


def entry_of_row(
    row: Mapping[str, Any],
    place: tuple[Path, int],
    base: str,
    frames: FrameFiles | None,
) -> VideoEntry:
    """Turn one row into an entry.

    Args:
        row: text, numbers or nothing by column.
        place: file and line, for messages.
        base: normalised folder from which relative paths count.
        frames: settings of raw frames the row need not give; `None`: it is a video
            unless it gives some.

    Raises:
        InputError: a field is missing or wrong.
    """
    for name in REQUIRED:
        if row.get(name) in (None, ""):
            raise _error(place, f"`{name}` is empty.")
    for name in _TEXTS:
        if not isinstance(row.get(name), str | None):
            raise _error(place, f"`{name}` must be text. Received: {row[name]!r:.60}")
    split = row.get("split") or None
    if split and split not in SPLITS:
        words = ", ".join(SPLITS)
        raise _error(place, f"`split` must be one of {words}. Received: {split!r}")
    path = _path_of(row["path"], base)
    name = _relative_name(normal_base(path), base)
    values = {"frames": _frame_files(row, place, frames)}
    values |= _numbers(row, _CUT, "", place)
    span = Span(**{key: values.get(key) for key in _CUT})
    if problem := span.problem():
        raise _error(place, f"the part of the video is wrong: {problem}.")
    identifier = row.get("id") or name + _fragment(span)
    group = row.get("group") or default_group(row.get("id") or name)
    return VideoEntry(identifier, path, row["label"], split, group, **values)


def normal_base(path: Path | RemotePath | str) -> str:
    """A folder or file as text from which relative names can be told.

    Args:
        path: local or remote.
    """
    return str(path) if is_remote(path) else os.path.normpath(path)


def _path_of(text: str, base: str) -> Path | RemotePath:
    """Where a row's video lies: below `base`, or wherever an absolute path says."""
    if is_remote(text):
        return RemotePath(text)
    if is_remote(base) and not os.path.isabs(os.path.expanduser(text)):
        return RemotePath(base) / text
    return Path(os.path.join(base, os.path.expanduser(text)))


def _error(place: tuple[Path, int], message: str) -> InputError:
    return InputError(f"{place[0]} line {place[1]}: {message}")


def _numbers(row, kinds: Mapping[str, Any], prefix: str, place) -> dict[str, Any]:
    """The fields of a row that hold something, as numbers (or text)."""
    values = {}
    for name, kind in kinds.items():
        text = row.get(prefix + name)
        if text is None or text == "":
            continue
        try:
            values[name] = kind(text)
        except (TypeError, ValueError):
            what = "a whole number" if kind is int else "a number"
            raise _error(
                place, f"`{prefix}{name}` must be {what}. Received: {text!r}"
            ) from None
    return values


def _frame_files(row, place, default: FrameFiles | None) -> FrameFiles | None:
    """Settings of a raw frame folder, if the row or the caller says it is one."""
    values = _numbers(row, _FRAMES, "frame_", place)
    if not values and default is None:
        return None
    frames = FrameFiles(**values).over(default or FrameFiles())
    if frames.fps is None:
        raise _error(place, "`frame_fps` is missing; image files do not tell it.")
    if problem := problem_of(frames):
        raise _error(place, f"{problem}.")
    return frames


def _fragment(span: Span) -> str:
    """What tells parts of one video apart, as in a W3C media fragment."""
    if span.start is not None or span.end is not None:
        end = "" if span.end is None else f"{span.end:g}"
        return f"#t={span.start or 0:g},{end}"
    if span.start_frame is not None or span.end_frame is not None:
        end = "" if span.end_frame is None else span.end_frame
        return f"#frames={span.start_frame or 0},{end}"
    return ""


def _relative_name(path: str, base: str) -> str:
    """`path` as seen from `base` where it lies below, else whole."""
    start = base.rstrip(os.sep) + os.sep
    path = path[len(start) :] if path.startswith(start) else path
    return path.replace(os.sep, "/")


def row_of_entry(entry: VideoEntry, base: str) -> dict[str, Any]:
    """The fields of an entry that are set.

    Args:
        entry: the video.
        base: folder; paths below it are written as seen from there.
    """
    path = _relative_name(str(entry.path), base)
    row = {"path": path, "label": entry.label}
    row |= {"split": entry.split} if entry.split else {}
    row |= {"group": entry.group, "id": entry.id}
    values = {name: getattr(entry, name) for name in _CUT}
    if entry.frames:
        values |= {f"frame_{name}": getattr(entry.frames, name) for name in _FRAMES}
    return row | {name: value for name, value in values.items() if value is not None}
