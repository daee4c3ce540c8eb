"""Patterns of the file names of raw frames."""

import functools
import re

from tsi_keras.data.annotations.entries import FrameFiles

_PLACEHOLDER = re.compile(r"\{(?::(\d*)d?)?\}|%(\d*)d")


@functools.lru_cache(maxsize=64)
def parse_pattern(pattern: str) -> tuple[str, int, str]:
    """Split a pattern of file names.

    Args:
        pattern: such as `img_{:05d}.jpg`, `{}.png` or `img_%05d.jpg`.

    Returns:
        What stands before the number, fewest digits of the number, what stands after.

    Raises:
        ValueError: there is not exactly one number in it.
    """
    places = list(_PLACEHOLDER.finditer(pattern))
    if len(places) != 1 or "/" in pattern:
        raise ValueError(
            "a frame pattern is a file name with one number, such as img_{:05d}.jpg "
            f"or img_%05d.jpg. Received: {pattern!r}"
        )
    place = places[0]
    digits = int(place[1] or place[2] or 0)
    return pattern[: place.start()], digits, pattern[place.end() :]


def problem_of(files: FrameFiles) -> str | None:
    """What is wrong with settings of raw frames, in words; `None`: nothing.

    Args:
        files: the settings.
    """
    if files.pattern is not None:
        try:
            parse_pattern(files.pattern)
        except ValueError as error:
            return str(error)
    if files.first is not None and files.first < 0:
        return f"the first frame's number must not be negative. Received: {files.first}"
    if files.count is not None and files.count < 1:
        return f"the number of frames must be positive. Received: {files.count}"
    if files.fps is not None and not 0 < files.fps <= 1000:
        return (
            "the rate of frames must be above 0 and at most 1000. "
            f"Received: {files.fps}"
        )
    return None
