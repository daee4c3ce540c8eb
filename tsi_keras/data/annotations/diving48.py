"""Diving48: JSON lists of clips with numbers for classes."""

from collections.abc import Iterator
from pathlib import Path

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.listed import Request
from tsi_keras.data.annotations.listed import Row
from tsi_keras.data.annotations.listed import collect
from tsi_keras.data.annotations.roles import by_role
from tsi_keras.data.annotations.roles import splits_among
from tsi_keras.data.annotations.tables import json_rows
from tsi_keras.utils.errors import InputError

_NUM_CLASSES = 48


def read_diving48(request: Request) -> Annotations:
    """Read Diving48: `vid_name`, `label`, `start_frame`, `end_frame`.

    Args:
        request: `Diving48_V2_train.json`, `..._test.json` and, for the names of the
            classes, `Diving48_vocab.json`; without it they are "0" to "47".

    Returns:
        The annotations; classes by their numbers.

    Raises:
        InputError: see `collect`.
    """
    roles = by_role(request.files, (".json",))
    labels = request.labels or roles.get("labels")
    names = [str(number) for number in range(_NUM_CLASSES)]
    order = "by number, as no vocabulary was given"
    if labels is not None:
        names, order = read_class_names(labels), f"as in {labels.name}"
    rows = [
        row
        for split, path in splits_among(roles, request.files, "Diving48").items()
        for row in _rows(path, split, names)
    ]
    return collect(rows, request, class_names=names, class_order=order)


def _rows(path: Path, split: str, names: list[str]) -> Iterator[Row]:
    for number, item in json_rows(path):
        name = item.get("vid_name")
        if not isinstance(name, str) or not name or "/" in name:
            raise InputError(f"{path} item {number} has no usable vid_name: {name!r}")
        label = _label(item.get("label"), names, path, number)
        cut = _cut(item, path, number)
        yield Row(path, number, name, label, split, (name,), ".mp4", cut=cut)


def _label(label, names: list[str], path: Path, number: int) -> str | None:
    if label is None:
        return None
    if type(label) is not int or not 0 <= label < len(names):
        raise InputError(
            f"{path} item {number}: `label` must be from 0 to {len(names) - 1}. "
            f"Received: {label!r}"
        )
    return names[label]


def _cut(item: dict, path: Path, number: int) -> dict[str, int]:
    """The frames of the dive; most files begin with it."""
    cut = {
        name: item[name]
        for name in ("start_frame", "end_frame")
        if item.get(name) is not None
    }
    first, last = cut.get("start_frame", 0), cut.get("end_frame")
    numbers = all(type(value) is int and value >= 0 for value in cut.values())
    if not numbers or (last is not None and last <= first):
        raise InputError(
            f"{path} item {number}: start_frame {first!r} and end_frame {last!r} are "
            "no part of a video."
        )
    if not first:
        cut.pop("start_frame", None)
    return cut
