"""A sheet of clips: one row per clip, something about it at the left, then its frames."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

GAP = 6
MARGIN = 28
ROW_GAP = 30
INK = (28, 28, 32)
FAINT = (110, 110, 120)

# (drawing, row, top, height): paints between MARGIN and MARGIN + caption width.
PaintCaption = Callable[[ImageDraw.ImageDraw, int, int, int], None]


def draw_clips(
    clips: np.ndarray,
    paint_caption: PaintCaption,
    path: str | Path,
    *,
    caption_width: int,
    frame_side: int = 224,
    max_frames: int = 8,
) -> Path:
    """Draw one row per clip: its caption, then its frames in order of time.

    Args:
        clips: uint8 `(K, T, H, W, 3)`, RGB, at least one.
        paint_caption: `(drawing, row, top, height)`, called once per clip.
        path: the PNG to write.
        caption_width: pixels to the left of the frames.
        frame_side: a frame's size, as the side of a square of its area.
        max_frames: longer clips show so many evenly spaced frames.

    Returns:
        `path`.

    Raises:
        ValueError: the array is not of that kind.

    Example:
        ```python
        def number(drawing, row, top, height):
            drawing.text((MARGIN, top), str(row), INK, font=font(20))

        draw_clips(frames, number, "clips.png", caption_width=60)
        ```
    """
    clips = _checked(clips)
    frames = _spread(clips.shape[1], max_frames)
    # Scaled by area, so that every picture is about as large, whatever its format.
    height, width = clips.shape[2:4]
    scale = frame_side / (height * width) ** 0.5
    size = (round(width * scale), round(height * scale))
    sheet = _blank(len(clips), len(frames), size, caption_width)
    drawing = ImageDraw.Draw(sheet)
    for row, clip in enumerate(clips):
        top = MARGIN + row * (size[1] + ROW_GAP)
        paint_caption(drawing, row, top, size[1])
        _paste_frames(sheet, clip[frames], (MARGIN + caption_width, top), size)
    sheet.save(path, optimize=True)
    return Path(path)


def _checked(clips: np.ndarray) -> np.ndarray:
    """The clips, or a ValueError that says what is wrong with them."""
    clips = np.asarray(clips)
    if (
        clips.dtype != np.uint8
        or clips.ndim != 5
        or clips.shape[-1] != 3
        or not len(clips)
    ):
        raise ValueError(
            "`clips` must be uint8 of shape (K, T, H, W, 3), at least one. "
            f"Received: {clips.dtype} {clips.shape}"
        )
    return clips


def _spread(num_frames: int, wanted: int) -> np.ndarray:
    """Indices of at most `wanted` evenly spaced frames."""
    if num_frames <= wanted:
        return np.arange(num_frames)
    return np.linspace(0, num_frames - 1, wanted).round().astype(int)


def _blank(
    rows: int, columns: int, size: tuple[int, int], caption_width: int
) -> Image.Image:
    """A white sheet that just holds the rows."""
    width = 2 * MARGIN + caption_width + columns * (size[0] + GAP) - GAP
    height = 2 * MARGIN + rows * (size[1] + ROW_GAP) - ROW_GAP
    return Image.new("RGB", (width, height), "white")


def _paste_frames(
    sheet: Image.Image,
    frames: np.ndarray,
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Frames from left to right, from a corner on."""
    for column, frame in enumerate(frames):
        picture = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (corner[0] + column * (size[0] + GAP), corner[1]))


def fitted(
    text: str, width: int, size: int, *, bold: bool = False, file: str | None = None
) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return text and the largest font in which it fits, shortened if none does.

    Args:
        text: one line.
        width: pixels.
        size: points to begin with; 20, or `size` if that is less, are the smallest.
        bold: whether the font is.
        file: another font than that of `font`.
    """
    for points in range(size, min(size, 20) - 1, -1):
        face = font(points, bold=bold, file=file)
        if face.getlength(text) <= width:
            return text, face
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", face


def font(
    points: int, *, bold: bool = False, file: str | None = None
) -> ImageFont.FreeTypeFont:
    """Return a font from a file, or DejaVu Sans, which comes with matplotlib."""
    return ImageFont.truetype(file or font_file(bold=bold), points)


def font_file(text: str = "", *, bold: bool = False) -> str | None:
    """Return the file of a font that has all signs of a text.

    Args:
        text: what is to be written.
        bold: whether DejaVu Sans, which is tried first, shall be bold.

    Returns:
        The path, or None if no installed font has them all.
    """
    weight = "bold" if bold else "normal"
    default = font_manager.FontProperties("DejaVu Sans", weight=weight)
    files = [font_manager.findfont(default)]
    if not text:
        return files[0]
    # Matplotlib's "Last Resort" has a sign for everything: a box.
    found = font_manager.fontManager.ttflist
    files += sorted({x.fname for x in found if not x.name.startswith("Last Resort")})
    wanted = {ord(sign) for sign in text if not sign.isspace()}
    return next((f for f in files if wanted <= _signs(f)), None)


def _signs(file: str) -> set[int]:
    """Code points a font can draw; none if it cannot be read."""
    try:
        return set(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return set()
