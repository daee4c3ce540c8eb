"""Decode video files with PyAV: upright RGB frames, thinned in time, or a reason.

A file either gives all its frames or raises `VideoError`; a damaged or truncated
video is never handed on as a shorter one.
"""

import struct
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsi_keras.data.frame_selection import Clock
from tsi_keras.data.frame_selection import KeepAll
from tsi_keras.data.frame_selection import KeepNearest
from tsi_keras.data.frame_selection import Selector
from tsi_keras.data.frame_selection import mean_rate
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_container import check_end
from tsi_keras.data.video_container import open_container
from tsi_keras.data.video_container import video_stream

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


T = TypeVar("T")


@dataclass
class Video:
    """A decoded video.

    Attributes:
        frames: uint8 RGB arrays `(H, W, 3)` in display order, upright.
        fps: frames per second of `frames`.
        source_num_frames: frames in the file.
        source_fps: frames per second of the file.
    """

    frames: list[np.ndarray]
    fps: float
    source_num_frames: int
    source_fps: float


class FrameStream:
    """One pass over the frames of a video file, in constant memory.

    Frames that are not kept are decoded (their successors need them) but not
    converted. Pixels are taken as square, as other video toolkits do.

    Args:
        path: video file.
        short_side: length in pixels of the shorter side of the frames given;
            smaller videos are enlarged. `None` keeps the size of the file.
        fps: frames per second to keep, chosen by timestamps; videos with fewer keep
            all theirs, and none is ever given twice. `None` keeps every frame.

    Attributes (final once iteration has ended):
        num_frames: frames given.
        fps: frames per second of the frames given.
        source_num_frames: frames in the file.
        source_fps: mean frames per second of the file.
    """

    def __init__(self, path: str | Path, *, short_side: int | None, fps: float | None):
        self._path = Path(path)
        self._short_side = short_side
        self._selector: Selector = KeepAll() if fps is None else KeepNearest(fps)
        self.num_frames = 0
        self.fps = 0.0
        self.source_num_frames = 0
        self.source_fps = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB arrays `(H, W, 3)`.

        Raises:
            VideoError: the file cannot be opened or decoded to its end.
        """
        with open_container(self._path) as container:
            stream = video_stream(container)
            reformatter = VideoReformatter()  # keeps its tables from frame to frame
            for frame in self._selected(container, stream):
                self.num_frames += 1
                yield _to_upright_rgb(frame, self._short_side, reformatter)

    def _selected(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Frames to keep, after the whole checks of `_decode` and `_check_end`."""
        clock = Clock(stream)
        for frame in self._decode(container, stream):
            time = clock.tick(frame)
            self.source_num_frames += 1
            yield from self._selector.push(frame, time)
        if self.source_num_frames == 0:
            raise VideoError("it holds no frame that can be decoded")
        yield from self._selector.finish()
        self.source_fps = mean_rate(stream, clock, self.source_num_frames)
        self.fps = self._selector.rate(self.source_fps)
        check_end(
            container,
            stream,
            self.source_num_frames,
            clock.end_of_stream,
            clock.longest_step,
        )

    def _decode(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[av.VideoFrame]:
        """All frames of the stream; any damage ends it with a `VideoError`."""
        try:
            for packet in container.demux(stream):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise VideoError(f"damaged frame {self._position(stream)}")
                    yield frame
                if packet.is_corrupt:
                    raise VideoError(f"damaged data {self._position(stream)}")
        except av.error.FFmpegError as error:
            raise VideoError(
                f"decoding failed {self._position(stream)}: {error.strerror}"
            ) from error

    def _position(self, stream: VideoStream) -> str:
        """How far decoding came, in words."""
        announced = f" of {stream.frames}" if stream.frames else ""
        return f"after {self.source_num_frames}{announced} frames"


def read_video(
    path: str | Path,
    *,
    short_side: int | None = 256,
    fps: float | None = 12.0,
    min_frames: int = 2,
) -> Video:
    """Decode a video file to upright RGB frames.

    Args:
        path: video file, any format FFmpeg reads.
        short_side: length in pixels of the shorter side of the frames; `None` keeps
            the size of the file.
        fps: frames per second to keep, chosen by timestamps (nearest frame, at
            equal distance the earlier). Videos with fewer keep all theirs, and so
            do videos of at least `min_frames` frames that thinning would leave with
            fewer. `None` keeps every frame.
        min_frames: fewest frames a usable video has.

    Returns:
        The decoded `Video`.

    Raises:
        VideoError: the file is missing, is no video, is damaged, ends early or has
            fewer than `min_frames` frames.

    Example:
        ```python
        video = read_video("wave.mp4", short_side=128, fps=12)
        print(len(video.frames), video.frames[0].shape)
        ```
    """
    stream, frames = convert_video(
        path, short_side=short_side, fps=fps, min_frames=min_frames, convert=_same
    )
    return Video(frames, stream.fps, stream.source_num_frames, stream.source_fps)


def convert_video(
    path: str | Path,
    *,
    short_side: int | None,
    fps: float | None,
    min_frames: int,
    convert: Callable[[np.ndarray], T],
) -> tuple[FrameStream, list[T]]:
    """`read_video` with `convert` applied to each frame as soon as it is decoded.

    Args:
        path: see `read_video`.
        short_side: see `read_video`.
        fps: see `read_video`.
        min_frames: see `read_video`.
        convert: function of a uint8 `(H, W, 3)` array; what it returns is collected.

    Returns:
        The exhausted `FrameStream` and the list of converted frames.

    Raises:
        VideoError: see `read_video`.
    """
    stream = FrameStream(path, short_side=short_side, fps=fps)
    frames = [convert(frame) for frame in stream]
    if stream.source_num_frames < min_frames:
        number = stream.source_num_frames
        raise VideoError(
            f"it has {number} frame{'s' * (number != 1)}; at least {min_frames} "
            "are needed"
        )
    if len(frames) < min_frames:
        stream = FrameStream(path, short_side=short_side, fps=None)
        frames = [convert(frame) for frame in stream]
    return stream, frames


def _same(frame: np.ndarray) -> np.ndarray:
    return frame


def _to_upright_rgb(
    frame: av.VideoFrame, short_side: int | None, reformatter: VideoReformatter
) -> np.ndarray:
    """Scale and convert in one pass of libswscale, then turn upright."""
    width, height = frame.width, frame.height
    if short_side is not None:
        scale = Fraction(short_side, min(width, height))
        width, height = round(width * scale), round(height * scale)
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        interpolation=_INTERPOLATION,
        threads=1,
    )
    return np.ascontiguousarray(_apply_display_matrix(rgb.to_ndarray(), frame))


def _apply_display_matrix(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turn and mirror `(H, W, 3)` as the file asks players to.

    The matrix maps x' = a x + c y and y' = b x + d y (FFmpeg, libavutil/display.h).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    unit = _RIGHT_ANGLE
    if b == c == 0 and abs(a) == abs(d) == unit:
        return image[:: d // unit, :: a // unit]
    if a == d == 0 and abs(b) == abs(c) == unit:
        return image.transpose(1, 0, 2)[:: b // unit, :: c // unit]
    raise VideoError(
        f"its display matrix turns the picture by {frame.rotation} degrees; only "
        "multiples of 90 are supported"
    )
