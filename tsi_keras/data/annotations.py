"""Which videos there are and what they show: a folder of class folders, or a CSV."""

import csv
import os
import re
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.utils.errors import InputError

VIDEO_SUFFIXES = frozenset(
    ".mp4 .avi .mkv .mov .webm .mpg .mpeg .m4v .wmv .flv .3gp .ogv".split()
)
COLUMNS = ("path", "label", "split", "group", "id")
_REQUIRED = ("path", "label")
# UCF101 and its kin: v_Archery_g03_c02.avi is clip 2 cut from video 3.
_CLIP_OF_GROUP = re.compile(r"^(?P<group>.+_g\d+)_")


@dataclass(frozen=True)
class VideoEntry:
    """One labelled video.

    Attributes:
        id: unique name: the path relative to the input, with "/" between parts,
            unless the CSV has a column `id`.
        path: the file; it need not exist.
        label: class name.
        split: "train", "val" or "test" where the input says, else `None`.
        group: videos of one group must stay in one split.
    """

    id: str
    path: Path
    label: str
    split: str | None
    group: str


@dataclass
class Annotations:
    """What an input holds.

    Attributes:
        entries: the videos, sorted by id.
        skipped: `(path, why)` of everything else that lies there.
    """

    entries: list[VideoEntry]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Class names sorted; the position is the label."""
        return sorted({entry.label for entry in self.entries})


def read_annotations(source: str | Path) -> list[VideoEntry]:
    """List the labelled videos of a folder or a CSV file.

    Args:
        source: a folder of class folders (`class_name/video.mp4`), or a CSV file
            with the columns `path`, `label` and optionally `split`, `group`, `id`;
            its relative paths count from the folder of the CSV file.

    Returns:
        The videos, sorted by id; at least two classes.

    Raises:
        InputError: the input is missing, empty or malformed, or has one class only.

    Example:
        ```python
        for entry in read_annotations("my_videos"):
            print(entry.label, entry.path)
        ```
    """
    return scan(source).entries


def scan(source: str | Path) -> Annotations:
    """`read_annotations` that also tells what was left aside and why."""
    source = Path(source).expanduser().absolute()
    if source.is_dir():
        annotations = _scan_folder(source)
    elif source.is_file():
        annotations = _scan_csv(source)
    else:
        raise InputError(
            f"`--input` {source} does not exist; give a folder of class folders or "
            "a CSV file."
        )
    annotations.entries.sort(key=lambda entry: entry.id)
    names = annotations.class_names
    if len(names) < 2:
        raise InputError(
            f"`--input` {source} has only one class, {names[0]!r}; a classifier needs "
            "at least two."
        )
    return annotations


def default_group(entry_id: str) -> str:
    """Group of a video by its name: `a/v_Archery_g03_c02.avi` is in `a/v_Archery_g03`.

    Args:
        entry_id: id of a video.

    Returns:
        The id up to `_gNN` where the name has the form of UCF101, else the id.
    """
    folder, _, name = entry_id.rpartition("/")
    match = _CLIP_OF_GROUP.match(name)
    if not match:
        return entry_id
    return f"{folder}/{match['group']}" if folder else match["group"]


def _scan_folder(root: Path) -> Annotations:
    """Read `root/class_name/video`; one level, hidden names ignored."""
    annotations = Annotations([])
    for item in _visible(root):
        if item.is_dir():
            _scan_class_folder(item, root, annotations)
        else:
            annotations.skipped.append((item.name, "not in a class folder"))
    if not annotations.entries:
        raise InputError(_why_no_videos(root))
    return annotations


def _scan_class_folder(folder: Path, root: Path, annotations: Annotations) -> None:
    """Add the videos of one class."""
    before = len(annotations.entries)
    for item in _visible(folder):
        name = item.relative_to(root).as_posix()
        if item.is_dir():
            reason = "a folder inside a class folder; it was not searched"
            annotations.skipped.append((name, reason))
        elif not _is_video_name(item):
            annotations.skipped.append((name, "not a video name"))
        else:
            group = default_group(name)
            annotations.entries.append(VideoEntry(name, item, folder.name, None, group))
    if len(annotations.entries) == before:
        annotations.skipped.append((folder.name, "a class folder without videos"))


def _visible(folder: Path) -> list[Path]:
    """Contents of a folder by name, without hidden ones."""
    try:
        items = sorted(folder.iterdir(), key=lambda item: item.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
    for item in items:
        _check_encodable(item.name, folder)
    return [item for item in items if not item.name.startswith(".")]


def _check_encodable(name: str, folder: Path) -> None:
    """Names go into records and reports, so they must be text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{folder} holds a name that is not UTF-8: {os.fsencode(name)!r}; "
            "rename it."
        ) from None


def _is_video_name(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _why_no_videos(root: Path) -> str:
    """The most helpful sentence about a folder without class folders of videos."""
    files = [path for path in sorted(root.rglob("*")) if _is_video_name(path)]
    if not files:
        return (
            f"`--input` {root} holds no videos; expected class_name/*.mp4 in it "
            f"(or {', '.join(sorted(VIDEO_SUFFIXES - {'.mp4'}))})."
        )
    found = files[0].relative_to(root).as_posix()
    if "/" not in found:
        return (
            f"`--input` {root} holds videos directly ({found}) but no class folders; "
            "put them into one folder per class, or give a CSV with path,label."
        )
    return (
        f"`--input` {root} holds videos only deeper than class_name/video ({found}); "
        "give the folder of class folders, or a CSV with path,label,split."
    )


def _scan_csv(source: Path) -> Annotations:
    """Read a CSV with a header; every row is a video."""
    if source.suffix.lower() != ".csv":
        raise InputError(
            f"`--input` must be a folder or a .csv file. Received: {source}"
        )
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            skipped = _check_header(reader.fieldnames, source)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text: {error.reason}.") from error
    except csv.Error as error:
        raise InputError(f"{source} line {reader.line_num}: {error}.") from error
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}.") from error
    if not rows:
        raise InputError(f"{source} has a header but no rows.")
    entries = [_entry_of_row(row, source, line) for line, row in rows]
    _check_unique(entries, [line for line, _ in rows], source)
    _check_splits_complete(entries, [line for line, _ in rows], source)
    return Annotations(entries, skipped)


def _check_header(names: list[str] | None, source: Path) -> list[tuple[str, str]]:
    """Demand path and label; tell which columns are not read."""
    names = list(names or [])
    missing = [name for name in _REQUIRED if name not in names]
    if missing or len(set(names)) < len(names):
        raise InputError(
            f"{source} must start with a header that names each column once: "
            f"path,label and optionally split,group,id. Received: {','.join(names)!r}"
        )
    unknown = [name for name in names if name not in COLUMNS]
    return [(f"column {name!r}", "not a column that is read") for name in unknown]


def _entry_of_row(row: dict[str, str | None], source: Path, line: int) -> VideoEntry:
    """Turn one row into an entry."""
    if None in row or None in row.values():
        raise InputError(
            f"{source} line {line} has {'more' if None in row else 'fewer'} fields "
            "than the header; put fields that hold a comma in double quotes."
        )
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    for name in _REQUIRED:
        if not values[name]:
            raise InputError(f"{source} line {line}: `{name}` is empty.")
    if values["split"] and values["split"] not in SPLITS:
        raise InputError(
            f"{source} line {line}: `split` must be one of {', '.join(SPLITS)}. "
            f"Received: {values['split']!r}"
        )
    path = source.parent / Path(values["path"]).expanduser()
    identifier = values["id"] or _relative_name(path, source.parent)
    group = values["group"] or default_group(identifier)
    return VideoEntry(identifier, path, values["label"], values["split"] or None, group)


def _relative_name(path: Path, root: Path) -> str:
    """`path` as seen from `root` where it lies below, else whole."""
    path = Path(os.path.normpath(path))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _check_unique(entries: list[VideoEntry], lines: list[int], source: Path) -> None:
    """Two rows must not name the same video."""
    seen: dict[str, int] = {}
    for entry, line in zip(entries, lines, strict=True):
        if entry.id in seen:
            raise InputError(
                f"{source} lines {seen[entry.id]} and {line} have the same id "
                f"{entry.id!r}; remove one, or add a column `id` that differs."
            )
        seen[entry.id] = line


def _check_splits_complete(
    entries: list[VideoEntry], lines: list[int], source: Path
) -> None:
    """A split is given for every video or for none."""
    without = [
        line for entry, line in zip(entries, lines, strict=True) if entry.split is None
    ]
    if without and len(without) < len(entries):
        raise InputError(
            f"{source} line {without[0]}: `split` is empty though other rows have "
            "one; fill it in every row or leave the column out."
        )
