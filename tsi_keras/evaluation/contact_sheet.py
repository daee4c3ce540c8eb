"""A picture of clips with what a model said about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageDraw

from tsi_keras.utils.clip_sheet import FAINT
from tsi_keras.utils.clip_sheet import INK
from tsi_keras.utils.clip_sheet import MARGIN
from tsi_keras.utils.clip_sheet import draw_clips
from tsi_keras.utils.clip_sheet import fitted
from tsi_keras.utils.clip_sheet import font

CAPTION_WIDTH = 470
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
    if len(clips) != len(captions):
        raise ValueError(
            "`captions` must be as many as `clips`. "
            f"Received: {len(captions)} and {len(clips)}"
        )

    def paint(drawing, row, top, height):
        _paint_caption(drawing, captions[row], top + height / 2)

    return draw_clips(
        clips, paint, path, caption_width=CAPTION_WIDTH, max_frames=max_frames
    )


def _paint_caption(
    drawing: ImageDraw.ImageDraw, caption: ClipCaption, centre: float
) -> None:
    """Predicted class, a bar for its probability, and the truth."""
    right = caption.truth is None or caption.truth == caption.predicted
    colour = INK if caption.truth is None else RIGHT if right else WRONG
    mark = "" if caption.truth is None else "✓ " if right else "✗ "
    width = CAPTION_WIDTH - 34
    line = fitted(mark + caption.predicted, width, 30, bold=True)
    drawing.text((MARGIN, centre - 34), line[0], colour, font=line[1], anchor="lm")
    _paint_bar(drawing, caption.probability, centre + 4, colour)
    if caption.truth is not None:
        line = fitted(f"true: {caption.truth}", width, 25)
        drawing.text((MARGIN, centre + 44), line[0], FAINT, font=line[1], anchor="lm")


def _paint_bar(
    drawing: ImageDraw.ImageDraw,
    share: float,
    middle: float,
    colour: tuple[int, int, int],
) -> None:
    """A probability as a bar with its percentage."""
    length = CAPTION_WIDTH - 140
    box = (MARGIN, middle - 5, MARGIN + length, middle + 5)
    drawing.rounded_rectangle(box, 5, fill=(228, 228, 233))
    filled = MARGIN + max(10, round(length * min(max(share, 0.0), 1.0)))
    box = (MARGIN, middle - 5, filled, middle + 5)
    drawing.rounded_rectangle(box, 5, fill=colour)
    text = (MARGIN + length + 14, middle)
    drawing.text(text, f"{100 * share:.0f} %", INK, font=font(25), anchor="lm")
