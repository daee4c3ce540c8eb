"""Class names in a text file, one per line."""

from collections.abc import Iterable

from tsi_keras.utils.errors import InputError


def format_labels(names: Iterable[str]) -> str:
    """Return the text of a label file.

    Raises:
        InputError: a name would take two lines.
    """
    names = list(names)
    broken = [name for name in names if "\n" in name or "\r" in name]
    if broken:
        raise InputError(
            "Class names must not hold line breaks, one line each is how label files "
            f"keep them. Received: {broken[0]!r}"
        )
    return "".join(f"{name}\n" for name in names)


def parse_labels(data: bytes) -> list[str]:
    """Return the names in a label file.

    Args:
        data: its content; UTF-8.

    Raises:
        UnicodeDecodeError: another encoding.
    """
    # Not splitlines: a class name may hold other characters that end a line.
    text = data.decode("utf-8").replace("\r\n", "\n").removesuffix("\n")
    return text.split("\n") if text else []
