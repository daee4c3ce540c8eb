"""Which annotation file is which, by the words in its name."""

import re
from collections.abc import Iterable
from pathlib import Path

from tsi_keras.utils.errors import InputError

_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "labels": "labels",
    "label": "labels",
    "vocab": "labels",
    "classes": "labels",
    "categories": "labels",
    "answers": "answers",
}


def role_of(path: Path) -> str | None:
    """Return what a file is: a split's name, "labels" or "answers".

    Args:
        path: for instance `something-something-v2-train.json`; the last word that
            means something counts.

    Returns:
        The role, or `None` if the name does not tell it.
    """
    words = re.split(r"[^a-z]+", path.stem.lower())
    roles = [_WORDS[word] for word in words if word in _WORDS]
    return roles[-1] if roles else None


def by_role(files: Iterable[Path], suffixes: Iterable[str]) -> dict[str, Path]:
    """Sort annotation files by their roles.

    Args:
        files: the files.
        suffixes: suffixes that count, such as ".json".

    Returns:
        One file by role.

    Raises:
        InputError: two files have the same role.
    """
    found: dict[str, Path] = {}
    for path in files:
        role = role_of(path)
        if role is None or path.suffix.lower() not in suffixes:
            continue
        if role in found:
            raise InputError(
                f"{found[role]} and {path} are both a {role} file by their names; "
                "give only those that belong together: --annotations FILE FILE ..."
            )
        found[role] = path
    return found


def splits_among(
    roles: dict[str, Path], request_files: Iterable[Path], what: str
) -> dict[str, Path]:
    """The files of splits; at least one.

    Args:
        roles: see `by_role`.
        request_files: all files that were given; for the message.
        what: name of the data set.

    Raises:
        InputError: there is none.
    """
    splits = {role: roles[role] for role in ("train", "val", "test") if role in roles}
    if not splits:
        names = ", ".join(str(path) for path in request_files) or "none"
        raise InputError(
            f"{what} needs a file with train, validation or test in its name. "
            f"Received: {names}"
        )
    return splits
