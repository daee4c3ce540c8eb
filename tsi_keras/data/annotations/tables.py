"""Annotation files as rows, each with the place it came from."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsi_keras.utils.errors import InputError


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Args:
        path: the file.

    Returns:
        The text; line ends are as in the file.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason}; save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield `(line number, line)` of the lines that are not blank, stripped."""
    # Not splitlines(): it also breaks at characters that may stand in a name.
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.strip()


def delimited_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number, fields)` of a CSV file's rows that are not blank.

    Args:
        path: the file.
        delimiter: character between the fields.

    Raises:
        InputError: the file is no text, or a quoted field does not end.
    """
    text = read_text(path)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}.") from error


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends, which quoted fields may hold."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def table_rows(
    path: Path, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number, field by column)` of a CSV file with a header.

    Args:
        path: the file.
        delimiter: character between the fields.

    Raises:
        InputError: a column is named twice, or a row has more or fewer fields than
            the header.
    """
    rows = delimited_rows(path, delimiter)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    if len(set(header)) < len(header):
        raise InputError(
            f"{path} must start with a header that names each column once. "
            f"Received: {','.join(header)!r}"
        )
    for line, fields in rows:
        if len(fields) != len(header):
            more = "more" if len(fields) > len(header) else "fewer"
            raise InputError(
                f"{path} line {line} has {more} fields than the header; put fields "
                "that hold a comma in double quotes."
            )
        yield line, dict(zip(header, map(str.strip, fields), strict=True))


def header_of(path: Path, delimiter: str = ",") -> list[str]:
    """Names in the first row of a CSV file."""
    return [name.strip() for name in next(delimited_rows(path, delimiter), (0, []))[1]]


def json_value(path: Path) -> Any:
    """The contents of a JSON file.

    Args:
        path: the file.

    Raises:
        InputError: it is not JSON; the message names the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: {error.msg}.") from error
    except RecursionError:
        raise InputError(f"{path} is nested too deeply for annotations.") from None


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(position from 1, object)` of a JSON file that is a list of objects.

    Args:
        path: the file.

    Raises:
        InputError: it is something else.
    """
    content = json_value(path)
    if not isinstance(content, list):
        raise InputError(f"{path} must hold a list of objects, one for each video.")
    for number, item in enumerate(content, 1):
        if not isinstance(item, dict):
            raise InputError(f"{path} item {number} is not an object: {item!r:.60}")
        yield number, item


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number, object)` of a file with one JSON object per line.

    Args:
        path: the file.

    Raises:
        InputError: a line is something else.
    """
    for line, text in text_lines(path):
        try:
            item = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{path} line {line} is not JSON: {error}") from error
        if not isinstance(item, dict):
            raise InputError(f"{path} line {line} is not an object: {text:.60}")
        yield line, item
