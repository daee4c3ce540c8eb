"""The manifest: one row per video, to be inspected, edited and fed back in.

As CSV it is what anyone can write by hand (`path,label` and whatever else is known),
as JSON lines it also holds the order of the classes.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations.class_lists import check_class_names
from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.manifest_rows import ALL_COLUMNS
from tsi_keras.data.annotations.manifest_rows import REQUIRED
from tsi_keras.data.annotations.manifest_rows import entry_of_row
from tsi_keras.data.annotations.manifest_rows import normal_base
from tsi_keras.data.annotations.manifest_rows import row_of_entry
from tsi_keras.data.annotations.tables import header_of
from tsi_keras.data.annotations.tables import json_lines
from tsi_keras.data.annotations.tables import table_rows
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text

_VERSION_KEY = "tsi_keras_manifest"
_CLASSES_KEY = "class_names"


def read_manifest(
    path: Path,
    *,
    base: Path | None = None,
    labels: Path | None = None,
    frames: FrameFiles | None = None,
) -> Annotations:
    """Read a manifest, or any CSV with the columns `path` and `label`.

    Args:
        path: a CSV file with a header, or JSON lines (`.jsonl`). Columns: `path`,
            `label`, and optionally `split`, `group`, `id`, `start` and `end` in
            seconds or `start_frame` and `end_frame`, and for raw frame folders
            `frame_pattern`, `frame_first`, `frame_count`, `frame_fps`.
        base: folder from which relative paths count; `None`: that of the file.
        labels: class list, see `read_class_names`; `None` takes the one that lies
            beside a CSV (`NAME.labels.json`), the one in JSON lines, or sorts.
        frames: every path is a raw frame folder with these settings, where the row
            itself gives no others.

    Returns:
        The annotations, in the order of the file.

    Raises:
        InputError: a row cannot be used; the message names file and line.
    """
    base = normal_base(base or path.parent)
    if path.suffix.lower() == ".jsonl":
        rows, classes = _json_rows(path)
        skipped = []
    else:
        skipped = _check_header(path)
        rows, classes = table_rows(path), None
        labels = labels or _labels_beside(path)
    entries, lines = [], []
    for line, row in rows:
        entries.append(entry_of_row(row, (path, line), base, frames))
        lines.append(line)
    if not entries:
        raise InputError(f"{path} has a header but no rows.")
    _check_unique(entries, lines, path)
    _check_splits_complete(entries, lines, path)
    found = Annotations(entries, skipped)
    _order_classes(found, classes, labels, path, lines)
    return found


def write_manifest(
    annotations: Annotations, path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write annotations as a manifest that `read_annotations` reads back.

    Args:
        annotations: what to write; `skipped` and `notes` are not part of it.
        path: a file that ends in `.csv` or `.jsonl`. Beside a CSV with an order of
            the classes other than by name lies `NAME.labels.json`.
        overwrite: replace the file.

    Returns:
        The path.

    Raises:
        InputError: the file exists, has another suffix, cannot be written, or cannot
            hold a name as it is.

    Example:
        ```python
        write_manifest(scan("videos", annotations="labels"), "videos.csv")
        ```
    """
    path = Path(path).expanduser().absolute()
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"a manifest ends in .csv or .jsonl. Received: {path}")
    beside = _labels_path(path)
    for file in (path, beside):
        if file.exists() and not overwrite:
            raise InputError(f"{file} exists; nothing was written. Give another name.")
    rows = [row_of_entry(entry, str(path.parent)) for entry in annotations.entries]
    try:
        if path.suffix.lower() == ".jsonl":
            return write_text(path, _json_text(rows, annotations.official_classes))
        text = _csv_text(rows)
        beside.unlink(missing_ok=True)
        if annotations.official_classes is not None:
            write_json(beside, annotations.official_classes)
        return write_text(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def _json_text(rows: list[dict[str, Any]], classes: list[str] | None) -> str:
    head = {_VERSION_KEY: 1} | ({_CLASSES_KEY: classes} if classes else {})
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in (head, *rows))


def _csv_text(rows: list[dict[str, Any]]) -> str:
    used = [name for name in ALL_COLUMNS if any(name in row for row in rows)]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and value != value.strip():
                raise InputError(
                    f"{name} {value!r} begins or ends with a space, which CSV does "
                    "not keep; write a .jsonl manifest."
                )
    file = io.StringIO()
    writer = csv.DictWriter(file, used, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _labels_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.labels.json")


def _labels_beside(path: Path) -> Path | None:
    beside = _labels_path(path)
    return beside if beside.is_file() else None


def _check_header(path: Path) -> list[tuple[str, str]]:
    """Demand path and label; tell which columns are not read."""
    names = header_of(path)
    if not set(REQUIRED) <= set(names):
        raise InputError(
            f"{path} must start with a header that names each column once: "
            f"path,label and optionally split,group,id,start,end. "
            f"Received: {','.join(names)!r}"
        )
    unknown = [name for name in names if name not in ALL_COLUMNS]
    return [(f"column {name!r}", "not a column that is read") for name in unknown]


def _json_rows(
    path: Path,
) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str] | None]:
    """Rows and, where the first line holds it, the order of the classes."""
    rows = json_lines(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path} is empty.")
    if _VERSION_KEY not in first[1]:
        return _with_known_keys(_chain(first, rows), path), None
    if first[1][_VERSION_KEY] != 1:
        raise InputError(
            f"{path} is a manifest of version {first[1][_VERSION_KEY]!r}, this "
            "tsi_keras reads version 1; update tsi_keras."
        )
    names = first[1].get(_CLASSES_KEY)
    if names is None:
        return _with_known_keys(rows, path), None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{path} line 1: `{_CLASSES_KEY}` must be a list of names.")
    check_class_names(names, path)
    return _with_known_keys(rows, path), names


def _chain(first, rows):
    yield first
    yield from rows


def _with_known_keys(rows, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Refuse keys that mean nothing: a misspelt one would be lost silently."""
    for line, row in rows:
        unknown = sorted(row.keys() - set(ALL_COLUMNS))
        if unknown:
            raise InputError(
                f"{path} line {line}: unknown key {unknown[0]!r}; known are "
                f"{', '.join(ALL_COLUMNS)}."
            )
        yield line, row


def _check_unique(entries: list[VideoEntry], lines: list[int], path: Path) -> None:
    """Two rows must not name the same video."""
    seen: dict[str, int] = {}
    for entry, line in zip(entries, lines, strict=True):
        if entry.id in seen:
            raise InputError(
                f"{path} lines {seen[entry.id]} and {line} have the same id "
                f"{entry.id!r}; remove one, or add a column `id` that differs."
            )
        seen[entry.id] = line


def _check_splits_complete(
    entries: list[VideoEntry], lines: list[int], path: Path
) -> None:
    """A split is given for every video or for none."""
    rows = zip(entries, lines, strict=True)
    without = [line for entry, line in rows if entry.split is None]
    if without and len(without) < len(entries):
        raise InputError(
            f"{path} line {without[0]}: `split` is empty though other rows have one; "
            "fill it in every row or leave the column out."
        )


def _order_classes(
    found: Annotations,
    classes: list[str] | None,
    labels: Path | None,
    path: Path,
    lines: list[int],
) -> None:
    """Take over a class list, which must name every label."""
    if labels is not None:
        classes = read_class_names(labels)
    if classes is None:
        return
    known = set(classes)
    for entry, line in zip(found.entries, lines, strict=True):
        if entry.label not in known:
            raise InputError(
                f"{path} line {line}: {entry.label!r} is not in the class list of "
                f"{labels or path}."
            )
    found.official_classes = classes
    found.class_order = f"as in {(labels or path).name}"
