"""From the rows of a published data set's annotation files to entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.media import MediaIndex
from tsi_keras.data.annotations.media import Medium
from tsi_keras.utils.errors import InputError

_NAMED = 3  # examples in a sentence


@dataclass(frozen=True)
class Request:
    """What a reader has to work with.

    Attributes:
        root: folder of the videos.
        files: annotation files.
        labels: class list that was asked for.
        split_number: which of several official splits.
        frames: how raw frames are called, as far as the user said.
    """

    root: Path
    files: tuple[Path, ...]
    labels: Path | None = None
    split_number: int | None = None
    frames: FrameFiles | None = None


@dataclass(slots=True)
class Row:
    """One row of an annotation file.

    Attributes:
        file: the file.
        line: line, or position in a JSON list.
        id: unique name of the video.
        label: class name; `None` where the file gives none.
        split: "train", "val" or "test".
        names: file names without suffix the video may have, the best first.
        suffix: suffix of the published file; for the path of a missing one.
        folders: folders it may lie in, to choose among files of one name.
        group: videos of one group belong in one split; `None`: alone.
        cut: part of the video, as fields of `VideoEntry`.
        cut_names: those of `names` whose file is still to be cut; others are already.
    """

    file: Path
    line: int
    id: str
    label: str | None
    split: str
    names: tuple[str, ...]
    suffix: str = ""
    folders: tuple[str, ...] = ()
    group: str | None = None
    cut: dict[str, float] | None = None
    cut_names: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """File and line, for messages."""
        word = "item" if self.file.suffix.lower() == ".json" else "line"
        return f"{self.file} {word} {self.line}"


def collect(
    rows: Sequence[Row],
    request: Request,
    *,
    class_names: list[str] | None = None,
    class_order: str = "sorted by name",
    frames: FrameFiles | None = None,
    may_be_missing: bool = False,
) -> Annotations:
    """Turn rows into entries, with the files they belong to.

    Args:
        rows: all rows of all files.
        request: what was asked for.
        class_names: the official order; `None` sorts the labels of all rows.
        class_order: where that order comes from, in words.
        frames: how the raw frames of this data set are called as published.
        may_be_missing: leave out videos that are not there; otherwise they become
            entries that fail when they are to be decoded.

    Returns:
        The annotations, with what was left out and why.

    Raises:
        InputError: a row contradicts another or names an unknown class, or nothing
            usable is left.
    """
    found = Annotations([], class_order=class_order)
    rows = _without_repeats(_labelled(rows, found), found)
    if request.labels is not None:
        class_names = read_class_names(request.labels)
        found.class_order = f"as in {request.labels.name}"
    if class_names is None:
        class_names = sorted({row.label for row in rows})
    found.official_classes = class_names
    _check_labels(rows, class_names)
    _find_media(rows, request, frames, may_be_missing, found)
    if all(entry.split != "val" for entry in found.entries):
        found.notes.append(
            "these files have no val split; train with --train.validation=false, or "
            "make one by editing the list of --write-manifest"
        )
    return found


def _labelled(rows: Sequence[Row], found: Annotations) -> list[Row]:
    """Leave out test rows without a label, which published data sets have."""
    without: dict[Path, list[Row]] = {}
    labelled = []
    for row in rows:
        if row.label:
            labelled.append(row)
        elif row.split == "test":
            without.setdefault(row.file, []).append(row)
        else:
            raise InputError(f"{row.place}: {row.id} has no label.")
    for file, listed in without.items():
        found.skipped.append(
            (file.name, f"{_count(listed, 'row')} without a label: {_some(listed)}")
        )
    if not labelled:
        raise InputError(
            f"{', '.join(map(str, without)) or 'the annotation file'}: no row has a "
            "label; give the files of the training split."
        )
    return labelled


def _without_repeats(rows: list[Row], found: Annotations) -> list[Row]:
    """Keep the first of equal rows; rows that contradict each other are refused."""
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(row.id, row)
        if first is row:
            continue
        for name in ("label", "split", "cut"):
            one, other = getattr(first, name), getattr(row, name)
            if one != other:
                raise InputError(
                    f"{row.place}: {row.id} has {name} {other!r}, but {one!r} in "
                    f"{first.place}; remove one of the two."
                )
        found.skipped.append((row.id, f"{row.place} repeats {first.place}"))
    return list(seen.values())


def _check_labels(rows: list[Row], class_names: list[str]) -> None:
    known = set(class_names)
    for row in rows:
        if row.label not in known:
            raise InputError(
                f"{row.place}: the class {row.label!r} is not in the class list; give "
                "the list that belongs to these files with --labels."
            )


def _find_media(
    rows: list[Row],
    request: Request,
    frames: FrameFiles | None,
    may_be_missing: bool,
    found: Annotations,
) -> None:
    """Add an entry for each row, with the file that is there."""
    index = MediaIndex(request.root, {name for row in rows for name in row.names})
    missing = []
    for row in rows:
        medium = index.find(row.names, row.folders)
        if medium is None:
            missing.append(row)
            if may_be_missing:
                why = f"listed in {row.place}, but there is no such video"
                found.skipped.append((row.id, why))
                continue
            name = row.names[0]
            medium = Medium(f"{request.root / name}{row.suffix}", name, False)
        found.entries.append(_entry(row, medium, request, frames))
    _note_missing(missing, len(rows), request, found)
    if index.unlisted:
        first = ", ".join(index.unlisted[:_NAMED])
        more = ", ..." if len(index.unlisted) > _NAMED else ""
        why = f"{_count(index.unlisted, 'video')} that no annotation names: "
        found.skipped.append((str(request.root), why + first + more))


def _entry(
    row: Row, medium: Medium, request: Request, frames: FrameFiles | None
) -> VideoEntry:
    path = Path(medium.path)
    entry = VideoEntry(row.id, path, row.label, row.split, row.group or row.id)
    if row.cut and (not row.cut_names or medium.name in row.cut_names):
        entry = replace(entry, **row.cut)
    if not medium.is_folder:
        return entry
    settings = (request.frames or FrameFiles()).over(frames or FrameFiles())
    if settings.fps is None:
        raise InputError(
            f"{path} is a folder of raw frames, which do not tell their rate; give "
            "--frame-fps."
        )
    return replace(entry, frames=settings)


def _note_missing(
    missing: list[Row], total: int, request: Request, found: Annotations
) -> None:
    if len(missing) == total:
        first = missing[0]
        raise InputError(
            f"none of the {total} videos listed in {first.file} is in `--input` "
            f"{request.root}; looked for {' or '.join(first.names)} "
            f"({first.place}), as a video file or a folder of frames."
        )
    if missing:
        found.notes.append(
            f"{len(missing)} of {total} listed videos are not in {request.root}: "
            f"{_some(missing)}"
        )


def _count(items: Sequence, word: str) -> str:
    return f"{len(items)} {word}{'s' * (len(items) != 1)}"


def _some(rows: Sequence[Row]) -> str:
    """The first ids, and how they go on."""
    names = ", ".join(row.id for row in rows[:_NAMED])
    return names + (", ..." if len(rows) > _NAMED else "")
