"""Something-Something V1 and V2, and Jester, which came in the same layout."""

from collections.abc import Iterator
from pathlib import Path

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.listed import Request
from tsi_keras.data.annotations.listed import Row
from tsi_keras.data.annotations.listed import collect
from tsi_keras.data.annotations.roles import by_role
from tsi_keras.data.annotations.roles import splits_among
from tsi_keras.data.annotations.tables import delimited_rows
from tsi_keras.data.annotations.tables import json_rows
from tsi_keras.utils.errors import InputError

# Published as folders 1/00001.jpg, 2/00001.jpg, ... at 12 frames per second.
_PUBLISHED_FRAMES = FrameFiles("{:05d}.jpg", first=1, fps=12.0)


def read_something_v1(request: Request) -> Annotations:
    """Read Something-Something V1: `id;label` in CSV files, or JSON, and a class list.

    Args:
        request: files with train, validation, test and labels in their names.

    Returns:
        The annotations; classes in the order of the labels file.

    Raises:
        InputError: see `collect`.
    """
    return _read(request, "Something-Something V1", _PUBLISHED_FRAMES)


def read_something_v2(request: Request) -> Annotations:
    """Read Something-Something V2: JSON files with templates, and a labels JSON.

    The class is the template without its brackets. Where `test-answers.csv` is among
    the files, the test split gets its labels from there.

    Args:
        request: files with train, validation, test and labels in their names.

    Returns:
        The annotations; classes by the numbers of the labels file.

    Raises:
        InputError: see `collect`.
    """
    return _read(request, "Something-Something V2", None)


def read_jester(request: Request) -> Annotations:
    """Read Jester: `id;label` in CSV files and a class list.

    Args:
        request: files with train, validation, test and labels in their names.

    Returns:
        The annotations; classes in the order of the labels file.

    Raises:
        InputError: see `collect`.
    """
    return _read(request, "Jester", _PUBLISHED_FRAMES)


def _read(request: Request, what: str, frames: FrameFiles | None) -> Annotations:
    roles = by_role(request.files, (".csv", ".json"))
    answers = dict(_answers(roles["answers"])) if "answers" in roles else {}
    rows = []
    for split, path in splits_among(roles, request.files, what).items():
        for line, identifier, label in _labels_of(path):
            if split == "test":
                label = label or answers.get(identifier)
            names, suffix = (identifier,), ".webm"
            rows.append(Row(path, line, identifier, label, split, names, suffix))
    names, order = None, "sorted by name, as no labels file was given"
    if "labels" in roles:
        names = read_class_names(roles["labels"])
        order = f"as in {roles['labels'].name}"
    return collect(rows, request, class_names=names, class_order=order, frames=frames)


def _labels_of(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield line, id and class of a CSV or JSON file."""
    if path.suffix.lower() == ".json":
        for number, item in json_rows(path):
            identifier = _id_of(item.get("id"), path, number)
            yield number, identifier, _class_of(item, path, number)
        return
    for line, fields in delimited_rows(path, ";"):
        if len(fields) > 2:
            raise InputError(
                f"{path} line {line} has {len(fields)} fields; expected id;label."
            )
        label = fields[1].strip() if len(fields) == 2 else None
        yield line, _id_of(fields[0], path, line), label or None


def _id_of(value, path: Path, line: int) -> str:
    identifier = str(value).strip() if type(value) in (str, int) else ""
    if not identifier or "/" in identifier:
        raise InputError(f"{path} item or line {line} has no usable id: {value!r}")
    return identifier


def _class_of(item: dict, path: Path, number: int) -> str | None:
    """The template without brackets; V1 has only a label."""
    text = item.get("template") or item.get("label")
    if not text:
        return None
    if not isinstance(text, str):
        raise InputError(f"{path} item {number}: the class is no text: {text!r:.60}")
    return text.replace("[", "").replace("]", "").strip()


def _answers(path: Path) -> Iterator[tuple[str, str]]:
    for line, fields in delimited_rows(path, ";"):
        if len(fields) != 2:
            raise InputError(f"{path} line {line} is not id;label.")
        yield fields[0].strip(), fields[1].strip()
