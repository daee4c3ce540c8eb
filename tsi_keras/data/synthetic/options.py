"""What a synthetic data set may look like, and the checks on it."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass

from tsi_keras.data.synthetic.motions import CLASSES
from tsi_keras.utils.errors import InputError

SMALLEST_SIDE = 32
FEWEST_FRAMES = 8


@dataclass(frozen=True)
class SyntheticOptions:
    """Size, length and content of synthetic clips.

    Args:
        width: frame width in pixels; even (H.264 with 4:2:0 colour), at least 32.
        height: frame height in pixels; even, at least 32.
        num_frames: frames per clip, at least 8. Motions are laid out over the whole
            clip, so more frames mean slower motion per frame.
        fps: frames per second written into the file.
        camera_motion: largest camera travel over a clip relative to the mean travel
            of a moving object, 0 (still camera) to 1. Half of it is for pan, and a
            small tremble comes on top.
        classes: class names to write, a subset of `CLASSES`.
        crf: H.264 constant rate factor, 0 (lossless) to 51; 18 looks lossless.

    Raises:
        InputError: a value is of the wrong type or out of range.

    Example:
        ```python
        options = SyntheticOptions(width=96, height=72, classes=("appear", "vanish"))
        ```
    """

    width: int = 112
    height: int = 84
    num_frames: int = 24
    fps: float = 12.0
    camera_motion: float = 0.3
    classes: Sequence[str] = CLASSES
    crf: int = 18

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            check_integer(name, getattr(self, name), SMALLEST_SIDE, 4096)
            if getattr(self, name) % 2:
                raise InputError(
                    f"`{name}` must be even, as H.264 stores colour for 2x2 pixels. "
                    f"Received {name}={getattr(self, name)}; "
                    f"use {getattr(self, name) + 1}."
                )
        check_integer("num_frames", self.num_frames, FEWEST_FRAMES, 10_000)
        check_integer("crf", self.crf, 0, 51)
        check_number("fps", self.fps, 1, 240)
        check_number("camera_motion", self.camera_motion, 0, 1)
        object.__setattr__(self, "classes", _checked_classes(self.classes))

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values that JSON can hold."""
        return asdict(self) | {"classes": list(self.classes)}


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise `InputError` unless `value` is an integer in `low` .. `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"`{name}` must be an integer. Received {name}={value!r}.")
    if not low <= value <= high:
        raise InputError(f"`{name}` must be {low} to {high}. Received {name}={value}.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise `InputError` unless `value` is a finite number in `low` .. `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"`{name}` must be a number. Received {name}={value!r}.")
    if not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"`{name}` must be {low} to {high}. Received {name}={value}.")


def check_class(name: object) -> None:
    """Raise `InputError` that lists the classes unless `name` is one of them."""
    if name not in CLASSES:
        raise InputError(
            f"unknown class {name!r} in `classes`. Available: {', '.join(CLASSES)}."
        )


def _checked_classes(classes: object) -> tuple[str, ...]:
    """Return `classes` as a tuple of known, distinct names."""
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise InputError(
            f"`classes` must be a sequence of class names. Received {classes!r}."
        )
    if not classes:
        raise InputError(
            f"`classes` is empty; name at least one of: {', '.join(CLASSES)}."
        )
    for name in classes:
        check_class(name)
    if len(set(classes)) < len(classes):
        raise InputError(f"`classes` names a class twice. Received {list(classes)}.")
    return tuple(classes)
