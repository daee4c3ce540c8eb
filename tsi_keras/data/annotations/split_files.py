"""UCF-101 and HMDB-51: text files of three official splits."""

import re
from collections.abc import Iterator
from pathlib import Path

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import default_group
from tsi_keras.data.annotations.listed import Request
from tsi_keras.data.annotations.listed import Row
from tsi_keras.data.annotations.listed import collect
from tsi_keras.data.annotations.tables import text_lines
from tsi_keras.utils.errors import InputError

UCF_LIST = re.compile(r"^(train|test)list0?(\d)\.txt$", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,6}")
UCF_CLASSES = "classind.txt"
HMDB_LIST = re.compile(r"^(?P<label>.+)_test_split(?P<number>\d)\.txt$")
_HMDB_CODES = {"1": "train", "2": "test"}


def read_ucf101(request: Request) -> Annotations:
    """Read UCF-101: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`.

    Args:
        request: these files, and the number of the split (1 if it is not given).

    Returns:
        The annotations, train and test; classes by the numbers of `classInd.txt`.

    Raises:
        InputError: see `collect`.
    """
    number = _number(request)
    lists = {}
    for path in request.files:
        match = UCF_LIST.match(path.name)
        if match and int(match[2]) == number:
            lists[match[1].lower()] = path
    if "train" not in lists or "test" not in lists:
        raise InputError(
            f"UCF-101 needs trainlist0{number}.txt and testlist0{number}.txt; give "
            "--annotations with the folder of ucfTrainTestlist."
        )
    files = [path for path in request.files if path.name.lower() == UCF_CLASSES]
    names = read_class_names(files[0]) if files else None
    order = "as in classInd.txt" if files else "sorted, as there is no classInd.txt"
    rows = [
        row
        for split, path in lists.items()
        for row in _ucf_rows(path, split, names or [])
    ]
    found = collect(rows, request, class_names=names, class_order=order)
    found.notes.append(f"official split {number} of 3")
    return found


def read_hmdb51(request: Request) -> Annotations:
    """Read HMDB-51: `CLASS_test_splitN.txt` with the codes 1 (train) and 2 (test).

    Args:
        request: these files, and the number of the split (1 if it is not given).

    Returns:
        The annotations, train and test; classes sorted. Videos with code 0 are in
        neither part and are reported.

    Raises:
        InputError: see `collect`.
    """
    number = _number(request)
    rows, unused = [], []
    for path in sorted(request.files):
        match = HMDB_LIST.match(path.name)
        if match and int(match["number"]) == number:
            rows.extend(_hmdb_rows(path, match["label"], unused))
    if not rows:
        raise InputError(
            f"HMDB-51 needs files CLASS_test_split{number}.txt; give --annotations "
            "with the folder of testTrainMulti_7030_splits."
        )
    found = collect(rows, request)
    found.skipped.extend(unused)
    found.notes.append(f"official split {number} of 3")
    return found


def _number(request: Request) -> int:
    number = 1 if request.split_number is None else request.split_number
    if number not in (1, 2, 3):
        raise InputError(f"`--split-number` must be 1, 2 or 3. Received: {number}")
    return number


def _ucf_rows(path: Path, split: str, names: list[str]) -> Iterator[Row]:
    """Rows `Class/v_Class_g01_c01.avi 1`; test lists have no number."""
    for line, text in text_lines(path):
        video, _, number = text.partition(" ")
        label, _, name = video.rpartition("/")
        stem = name.removesuffix(".avi")
        if not label or not stem or (number and not _NUMBER.fullmatch(number)):
            raise InputError(
                f"{path} line {line}: expected Class/video.avi and perhaps the "
                f"class's number. Received: {text!r}"
            )
        stated = names[int(number) - 1 : int(number)] if number else []
        if stated not in ([], [label]):
            raise InputError(
                f"{path} line {line}: number {number} is {stated[0]!r} in classInd.txt, "
                f"not {label!r}."
            )
        identifier = f"{label}/{stem}.avi"
        group = default_group(identifier)
        yield Row(
            path, line, identifier, label, split, (stem,), ".avi", (label,), group
        )


def _hmdb_rows(path: Path, label: str, unused: list[tuple[str, str]]) -> Iterator[Row]:
    """Rows `name.avi 1`; names may hold spaces and any sign."""
    left_out = []
    for line, text in text_lines(path):
        name, *code = text.rsplit(None, 1)
        code = "".join(code)
        stem = name.removesuffix(".avi")
        if not stem or code not in ("0", "1", "2"):
            raise InputError(
                f"{path} line {line}: expected video.avi and 0, 1 or 2. "
                f"Received: {text!r}"
            )
        if code == "0":
            left_out.append(f"{stem}.avi")
            continue
        identifier = f"{label}/{stem}.avi"
        split = _HMDB_CODES[code]
        yield Row(path, line, identifier, label, split, (stem,), ".avi", (label,))
    if left_out:
        names = ", ".join(left_out)
        unused.append((path.name, f"code 0, in neither part of the split: {names}"))
