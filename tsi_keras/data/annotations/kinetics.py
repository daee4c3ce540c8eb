"""Kinetics-400, -600 and -700: lists of parts of online videos, many of them gone."""

from collections.abc import Iterator
from pathlib import Path

from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.listed import Request
from tsi_keras.data.annotations.listed import Row
from tsi_keras.data.annotations.listed import collect
from tsi_keras.data.annotations.roles import role_of
from tsi_keras.data.annotations.tables import table_rows
from tsi_keras.utils.errors import InputError

COLUMNS = ("youtube_id", "time_start", "time_end")
_SPLITS = {
    "train": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
}


def read_kinetics(request: Request) -> Annotations:
    """Read Kinetics CSV files: label,youtube_id,time_start,time_end,split.

    A video file is called `ID_START_END` with six digits each and is then taken
    whole, or `ID` and is then cut from start to end. It may lie in a folder of its
    class, with spaces or underscores. Videos that are not there are reported.

    Args:
        request: the CSV files.

    Returns:
        The annotations; classes of all rows sorted by name, as is customary.

    Raises:
        InputError: see `collect`.
    """
    files = [path for path in request.files if path.suffix.lower() == ".csv"]
    if not files:
        raise InputError("Kinetics needs its CSV files; give --annotations FILE ...")
    rows = [row for path in files for row in _rows(path)]
    return collect(rows, request, may_be_missing=True)


def _rows(path: Path) -> Iterator[Row]:
    for line, fields in table_rows(path):
        if line_missing := [name for name in COLUMNS if name not in fields]:
            raise InputError(
                f"{path} must start with a header that has {', '.join(COLUMNS)}; "
                f"{line_missing[0]} is missing."
            )
        youtube_id = fields["youtube_id"]
        if not youtube_id or "/" in youtube_id:
            raise InputError(f"{path} line {line}: no usable youtube_id.")
        start, end = _times(fields, path, line)
        label = fields.get("label") or None
        name = f"{youtube_id}_{int(start):06d}_{int(end):06d}"
        yield Row(
            path,
            line,
            name,
            label,
            _split(fields, path, line),
            (name, youtube_id),
            ".mp4",
            folders=(label, label.replace(" ", "_")) if label else (),
            group=youtube_id,
            cut={"start": start, "end": end},
            cut_names=(youtube_id,),
        )


def _times(fields: dict[str, str], path: Path, line: int) -> tuple[float, float]:
    try:
        start, end = float(fields["time_start"]), float(fields["time_end"])
    except ValueError as error:
        raise InputError(f"{path} line {line}: {error}.") from None
    if not 0 <= start < end < float("inf"):
        raise InputError(
            f"{path} line {line}: the part from {start:g} to {end:g} s is empty or "
            "no part of a video."
        )
    return start, end


def _split(fields: dict[str, str], path: Path, line: int) -> str:
    """Our name of the split; a file without the column tells it by its own name."""
    text = fields.get("split") or role_of(path) or ""
    if text not in _SPLITS:
        raise InputError(
            f"{path} line {line}: split {text!r} is not one of {', '.join(_SPLITS)}."
        )
    return _SPLITS[text]
