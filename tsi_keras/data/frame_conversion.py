"""From decoded frames to pixels: upright RGB, or the colour planes that a JPEG stores.

A JPEG file holds luma and chroma like a video does. Handing these planes over as they
are saves the way to RGB and back: a third of the time of a preparation.
"""

import math
import struct
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange
from av.video.reformatter import Interpolation
from av.video.reformatter import VideoReformatter

from tsi_keras.data.video_container import VideoError

# Without the exact flags libswscale darkens pictures by 1.2 grey levels on average and
# gives other bytes on other CPUs. One thread: starting threads for a single small
# frame costs more than the conversion itself.
_INTERPOLATION = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
_RIGHT_ANGLE = 1 << 16  # 1.0 in the 16.16 fixed point of a display matrix
_PLANAR = ("yuv420p", "yuvj420p")
# FFmpeg's numbers (libavutil/pixfmt.h) of what JPEG files hold: ITU-R BT.601 in both
# its names, and "unspecified", which libswscale takes for the same.
_JPEG_MATRICES = (2, 5, 6)


def _table(slope: float, fixed: int, image: int) -> bytes:
    """256 levels on a line of `slope` on which level `fixed` becomes `image`."""
    levels = [image + (level - fixed) * slope for level in range(256)]
    return bytes(round(min(255.0, max(0.0, level))) for level in levels)


# Television keeps 16-235 and 16-240 for luma and chroma (BT.601), JPEG 0-255 (JFIF).
_LUMA_TO_FULL = _table(255 / 219, 16, 0)
_CHROMA_TO_FULL = _table(255 / 224, 128, 128)


class Planes(NamedTuple):
    """A picture as a 4:2:0 JPEG stores it: uint8, BT.601, full range.

    Attributes:
        y: luma `(H, W)`.
        u: blue difference `(ceil(H / 2), ceil(W / 2))`.
        v: red difference, as `u`.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray


class FrameConverter:
    """Scales the frames of one video and makes pictures of them.

    Args:
        short_side: shorter side of the pictures in pixels; `None` keeps the size.
        planes: give `Planes` where the video holds just these (upright 4:2:0 of
            8 bits in the colours of BT.601, as most do), RGB elsewhere.
    """

    def __init__(self, short_side: int | None, *, planes: bool = False):
        self._short_side = short_side
        self._planes = planes
        self._reformatter = VideoReformatter()  # keeps its tables between frames

    def __call__(self, frame: av.VideoFrame) -> np.ndarray | Planes:
        """Convert one frame.

        Args:
            frame: as decoded.

        Returns:
            uint8 RGB `(H, W, 3)`, upright, or `Planes`.

        Raises:
            VideoError: the file asks for a rotation by less than a right angle.
        """
        matrix = _display_matrix(frame)
        if self._planes and frame.format.name in _PLANAR:
            # Chroma stays small: half the work of scaling in RGB.
            scaled = self._scale(frame, None)
            if matrix is None and int(frame.colorspace) in _JPEG_MATRICES:
                return _full_range_planes(scaled)
            frame = scaled
        rgb = self._scale(frame, "rgb24").to_ndarray()
        return np.ascontiguousarray(_turn_upright(rgb, matrix))

    def _scale(self, frame: av.VideoFrame, pixels: str | None) -> av.VideoFrame:
        """Scale and change the kind of pixels in one pass of libswscale."""
        width, height = frame.width, frame.height
        if self._short_side is not None:
            scale = Fraction(self._short_side, min(width, height))
            width, height = round(width * scale), round(height * scale)
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixels,
            interpolation=_INTERPOLATION,
            threads=1,
        )


def _full_range_planes(frame: av.VideoFrame) -> Planes:
    """The planes of a 4:2:0 frame; looking levels up is faster than libswscale."""
    full = frame.format.name == "yuvj420p" or frame.color_range == ColorRange.JPEG
    tables = (_LUMA_TO_FULL, _CHROMA_TO_FULL, _CHROMA_TO_FULL)
    planes = []
    for plane, table in zip(frame.planes, tables, strict=True):
        # A bytearray translates in half the time bytes take.
        levels = bytearray(plane) if full else bytearray(plane).translate(table)
        rows = np.frombuffer(levels, np.uint8).reshape(-1, plane.line_size)
        planes.append(rows[: plane.height, : plane.width])
    return Planes(_with_even_edges(planes[0]), *planes[1:])


def _with_even_edges(luma: np.ndarray) -> np.ndarray:
    """The same picture, in memory that goes on to even numbers of rows and columns.

    TurboJPEG reads luma in pairs: behind an odd edge it would find what lies there.
    """
    height, width = luma.shape
    if height % 2 == width % 2 == 0:
        return luma
    padded = np.empty((height + height % 2, width + width % 2), np.uint8)
    padded[:height, :width] = luma
    padded[:height, width:] = luma[:, -1:]
    padded[height:] = padded[height - 1]
    return padded[:height, :width]


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """How players shall turn the frame; `None` for not at all."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data))


def _turn_upright(image: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Turn and mirror `(H, W, 3)` as the file asks players to.

    The matrix maps x' = a x + c y and y' = b x + d y (FFmpeg, libavutil/display.h).
    """
    if matrix is None:
        return image
    a, b, _, c, d, *_ = matrix
    unit = _RIGHT_ANGLE
    if b == c == 0 and abs(a) == abs(d) == unit:
        return image[:: d // unit, :: a // unit]
    if a == d == 0 and abs(b) == abs(c) == unit:
        return image.transpose(1, 0, 2)[:: b // unit, :: c // unit]
    raise VideoError(
        "its display matrix turns the picture by "
        f"{-math.degrees(math.atan2(b, a)):.0f} degrees; only multiples of 90 are "
        "supported"
    )
