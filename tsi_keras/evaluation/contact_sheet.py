"""A picture of clips with what a model said about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

FRAME_SIDE = 224
CAPTION_WIDTH = 470
GAP = 6
MARGIN = 28
ROW_GAP = 30
INK = (28, 28, 32)
FAINT = (110, 110, 120)
RIGHT = (22, 120, 60)
WRONG = (190, 40, 40)


@dataclass(frozen=True)
class ClipCaption:
    """What stands beside a clip.

    Attributes:
        predicted: name of the predicted class.
        probability: its probability, 0..1.
        truth: name of the true class; None when nobody knows it.
    """

    predicted: str
    probability: float
    truth: str | None = None


def draw_predictions(
    clips: np.ndarray,
    captions: Sequence[ClipCaption],
    path: str | Path,
    *,
    max_frames: int = 8,
) -> Path:
    """Draw one row per clip: its caption, then its frames in order of time.

    Args:
        clips: uint8 `(K, T, H, W, 3)`, RGB.
        captions: K captions in the order of the clips.
        path: the PNG to write.
        max_frames: longer clips show so many evenly spaced frames.

    Returns:
        `path`.

    Raises:
        ValueError: the array is not of that kind or the counts differ.

    Example:
        ```python
        draw_predictions(frames, [ClipCaption("left", 0.93, truth="left")], "a.png")
        ```
    """
    clips = _checked(clips, captions)
    frames = _spread(clips.shape[1], max_frames)
    # Scaled by area, so that every picture is about as large, whatever its format.
    height, width = clips.shape[2:4]
    scale = FRAME_SIDE / (height * width) ** 0.5
    size = (round(width * scale), round(height * scale))
    sheet = _blank(len(clips), len(frames), size)
    for row, (clip, caption) in enumerate(zip(clips, captions, strict=True)):
        top = MARGIN + row * (size[1] + ROW_GAP)
        _draw_caption(sheet, caption, top, size[1])
        _draw_frames(sheet, clip[frames], top, size)
    sheet.save(path, optimize=True)
    return Path(path)


def _checked(clips: np.ndarray, captions: Sequence[ClipCaption]) -> np.ndarray:
    """The clips, or a ValueError that says what is wrong with them."""
    clips = np.asarray(clips)
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        raise ValueError(
            "`clips` must be uint8 of shape (K, T, H, W, 3). "
            f"Received: {clips.dtype} {clips.shape}"
        )
    if len(clips) != len(captions) or not len(clips):
        raise ValueError(
            "`captions` must be as many as `clips`, at least one. "
            f"Received: {len(captions)} and {len(clips)}"
        )
    return clips


def _spread(num_frames: int, wanted: int) -> np.ndarray:
    """Indices of at most `wanted` evenly spaced frames."""
    if num_frames <= wanted:
        return np.arange(num_frames)
    return np.linspace(0, num_frames - 1, wanted).round().astype(int)


def _blank(rows: int, columns: int, size: tuple[int, int]) -> Image.Image:
    """A white sheet that just holds the rows."""
    width = 2 * MARGIN + CAPTION_WIDTH + columns * (size[0] + GAP) - GAP
    height = 2 * MARGIN + rows * (size[1] + ROW_GAP) - ROW_GAP
    return Image.new("RGB", (width, height), "white")


def _draw_frames(
    sheet: Image.Image, frames: np.ndarray, top: int, size: tuple[int, int]
) -> None:
    """Frames from left to right, to the right of the captions."""
    for column, frame in enumerate(frames):
        picture = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
        left = MARGIN + CAPTION_WIDTH + column * (size[0] + GAP)
        sheet.paste(picture, (left, top))


def _draw_caption(
    sheet: Image.Image, caption: ClipCaption, top: int, height: int
) -> None:
    """Predicted class, a bar for its probability, and the truth."""
    draw = ImageDraw.Draw(sheet)
    right = caption.truth is None or caption.truth == caption.predicted
    colour = INK if caption.truth is None else RIGHT if right else WRONG
    mark = "" if caption.truth is None else "✓ " if right else "✗ "
    width = CAPTION_WIDTH - 34
    centre = top + height / 2
    line = _fitted(mark + caption.predicted, width, 30, bold=True)
    draw.text((MARGIN, centre - 34), line[0], colour, font=line[1], anchor="lm")
    _draw_bar(draw, caption.probability, centre + 4, colour)
    if caption.truth is not None:
        line = _fitted(f"true: {caption.truth}", width, 25)
        draw.text((MARGIN, centre + 44), line[0], FAINT, font=line[1], anchor="lm")


def _draw_bar(
    draw: ImageDraw.ImageDraw, share: float, middle: float, colour: tuple[int, int, int]
) -> None:
    """A probability as a bar with its percentage."""
    length = CAPTION_WIDTH - 140
    box = (MARGIN, middle - 5, MARGIN + length, middle + 5)
    draw.rounded_rectangle(box, 5, fill=(228, 228, 233))
    filled = MARGIN + max(10, round(length * min(max(share, 0.0), 1.0)))
    draw.rounded_rectangle((MARGIN, middle - 5, filled, middle + 5), 5, fill=colour)
    text = (MARGIN + length + 14, middle)
    draw.text(text, f"{100 * share:.0f} %", INK, font=_font(25), anchor="lm")


def _fitted(
    text: str, width: int, size: int, *, bold: bool = False
) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text in the largest font in which it fits, shortened if none does."""
    for points in range(size, 19, -1):
        font = _font(points, bold=bold)
        if font.getlength(text) <= width:
            return text, font
    while font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", font


def _font(points: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the marks."""
    weight = "bold" if bold else "normal"
    properties = font_manager.FontProperties("DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(properties), points)
