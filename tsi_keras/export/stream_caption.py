"""What is written onto the frames of an annotated video."""

import functools

import numpy as np
from PIL import Image
from PIL import ImageDraw

from tsi_keras.export.stream_classifier import StreamPrediction
from tsi_keras.utils.clip_sheet import fitted
from tsi_keras.utils.clip_sheet import font
from tsi_keras.utils.clip_sheet import font_file
from tsi_keras.utils.console import errors

INK = (255, 255, 255, 255)
FAINT = (190, 190, 196, 255)
SHADE = (0, 0, 0, 165)
GREEN = (82, 196, 110, 255)
TRACK = (255, 255, 255, 70)
# Smaller letters cannot be read after compression.
_SMALLEST = 9


def draw_caption(
    frame: np.ndarray, seconds: float, prediction: StreamPrediction | None
) -> np.ndarray:
    """Return a frame with label, probability and time on it.

    Args:
        frame: uint8 `(H, W, 3)`, RGB; it is left as it is.
        seconds: its time, written into the upper left corner.
        prediction: what is said about it; None if nothing is known yet.

    Returns:
        uint8 `(H, W, 3)`.
    """
    image = Image.fromarray(frame)
    size = letter_size(*image.size)
    strip = _strip(image.width, size, prediction and _words(prediction))
    image.paste(strip, (0, image.height - strip.height), strip)
    clock = _clock(_time(seconds), size)
    image.paste(clock, (0, 0), clock)
    return np.asarray(image)


def letter_size(width: int, height: int) -> int:
    """Height of the letters in pixels for a frame of that size."""
    return max(_SMALLEST, round(0.065 * min(height, 0.75 * width)))


def _words(prediction: StreamPrediction) -> tuple[str, float, bool]:
    """Text, probability, and whether the text is a label."""
    if prediction.label is None:
        return "no label", prediction.probability, False
    return prediction.label, prediction.probability, True


@functools.lru_cache(maxsize=4)
def _strip(width: int, size: int, words: tuple[str, float, bool] | None) -> Image.Image:
    """The band at the lower edge; the same for all frames of a window."""
    text, probability, known = words or ("waiting for a window", 0.0, False)
    band = Image.new("RGBA", (width, round(2.1 * size)), SHADE)
    drawing = ImageDraw.Draw(band)
    margin, right = size // 2, width - size // 2
    middle = round(0.85 * size)
    if words is not None:
        share = f"{100 * probability:.0f} %"
        face = font(size, bold=True)
        drawing.text((right, middle), share, INK, font=face, anchor="rm")
        right -= round(face.getlength("100 %  "))
        _bar(drawing, size, (margin, width - margin), probability, known)
    room = max(right - margin, 1)
    text, face = fitted(text, room, size, bold=True, file=_file_for(text))
    color = INK if known else FAINT
    drawing.text((margin, middle), text, color, font=face, anchor="lm")
    return band


def _bar(drawing, size: int, limits: tuple[int, int], share: float, known: bool):
    """The probability as a bar under the text."""
    left, right = limits
    top, bottom = round(1.6 * size), round(1.85 * size)
    drawing.rectangle((left, top, right, bottom), fill=TRACK)
    end = left + round((right - left) * share)
    if end > left:
        drawing.rectangle((left, top, end, bottom), fill=GREEN if known else FAINT)


@functools.lru_cache(maxsize=4)
def _clock(text: str, size: int) -> Image.Image:
    """The time on a dark ground."""
    size = max(_SMALLEST, round(0.8 * size))
    face = font(size)
    width = round(face.getlength(text)) + size
    box = Image.new("RGBA", (width, round(1.6 * size)), SHADE)
    place = (width // 2, round(0.8 * size))
    ImageDraw.Draw(box).text(place, text, INK, font=face, anchor="mm")
    return box


def _time(seconds: float) -> str:
    """Minutes and tenths of seconds, and hours where there are some."""
    tenths = int(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{minutes:02}:{rest / 10:04.1f}"
    return f"{hours}:{shown}" if hours else shown


@functools.lru_cache(maxsize=256)
def _file_for(text: str) -> str | None:
    """A font that has the signs of a label; says once if there is none."""
    file = font_file(text, bold=True)
    if file is None:
        errors.print(
            f"--overlay: no installed font has all signs of {text!r}; boxes stand for "
            "those that are missing. Install a font for that script.",
            markup=False,
        )
    return file
