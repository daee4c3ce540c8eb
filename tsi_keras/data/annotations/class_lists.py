"""Files that list the classes of a data set in the order of the labels."""

import re
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations.tables import json_value
from tsi_keras.data.annotations.tables import text_lines
from tsi_keras.utils.errors import InputError

_NUMBERED = re.compile(r"^(\d{1,6})\s+(\S.*)$")


def read_class_names(path: str | Path) -> list[str]:
    """Read the class names of a data set in the order of the labels.

    Args:
        path: a JSON object `{"name": index}` (Something-Something V2's labels), a JSON
            list of names or of lists of words (Diving48's vocabulary), or text: one
            name per line (V1, Jester), or number and name (UCF101's `classInd.txt`).

    Returns:
        The names; the position is the label.

    Raises:
        InputError: the file is none of these, a name stands there twice, or the
            indices have gaps.

    Example:
        ```python
        read_class_names("something-something-v2-labels.json")[0]
        ```
    """
    path = Path(path).expanduser().absolute()
    if path.suffix.lower() == ".json":
        names = _names_of_json(json_value(path), path)
    else:
        names = _names_of_text(path)
    check_class_names(names, path)
    return names


def _names_of_json(content: Any, path: Path) -> list[str]:
    if isinstance(content, dict):
        return _in_order(content, path)
    if isinstance(content, list):
        words = [[item] if isinstance(item, str) else item for item in content]
        if all(_is_words(item) for item in words):
            return [" ".join(item) for item in words]
    raise InputError(
        f'{path} must be an object {{"name": index}} or a list of names to tell the '
        "order of the classes."
    )


def _is_words(item: Any) -> bool:
    return isinstance(item, list) and all(isinstance(word, str) for word in item)


def _in_order(content: dict[str, Any], path: Path) -> list[str]:
    """Names by their index, which is a number or a number as text."""
    try:
        indices = {int(str(index)): name for name, index in content.items()}
    except ValueError as error:
        raise InputError(f"{path} has an index that is no number: {error}") from None
    if sorted(indices) != list(range(len(content))):
        raise InputError(
            f"{path} must give its {len(content)} classes the indices 0 to "
            f"{len(content) - 1}, each once."
        )
    return [indices[index] for index in range(len(content))]


def _names_of_text(path: Path) -> list[str]:
    """One name per line; numbers 1, 2, ... (or 0, 1, ...) before the names are cut."""
    lines = [_unquote(line) for _, line in text_lines(path)]
    numbered = [_NUMBERED.match(line) for line in lines]
    if lines and all(numbered):
        numbers = [int(match[1]) for match in numbered]
        first = numbers[0]
        if first in (0, 1) and numbers == list(range(first, first + len(numbers))):
            return [match[2] for match in numbered]
    return lines


def _unquote(line: str) -> str:
    if len(line) > 1 and line[0] == line[-1] == '"':
        return line[1:-1].replace('""', '"')
    return line


def check_class_names(names: list[str], path: Path) -> None:
    """Names must be there, be text, and differ.

    Args:
        names: the names.
        path: the file that lists them.

    Raises:
        InputError: they do not.
    """
    if not names:
        raise InputError(f"{path} lists no classes.")
    seen = set()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"{path}: class {number} has no name.")
        if not name.isascii() and not _is_text(name):
            raise InputError(f"{path}: class {name!a} has characters that are no text.")
        if name in seen:
            raise InputError(f"{path} lists the class {name!r} twice.")
        seen.add(name)


def _is_text(name: str) -> bool:
    """Whether UTF-8 can hold it; JSON can spell halves of characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
