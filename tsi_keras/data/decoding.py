"""Decode video files with PyAV: upright RGB frames, thinned in time, or a reason.

A file either gives all its frames or raises `VideoError`; a damaged or truncated
video is never handed on as a shorter one.
"""

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.stream import VideoStream

from tsi_keras.data.cutting import SeekFailed
from tsi_keras.data.cutting import SpanReader
from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.frame_conversion import Planes
from tsi_keras.data.frame_selection import Spread
from tsi_keras.data.frame_selection import mean_rate
from tsi_keras.data.frame_selection import selector_for
from tsi_keras.data.span import WHOLE
from tsi_keras.data.span import Span
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_container import expected_frames
from tsi_keras.data.video_container import open_container
from tsi_keras.data.video_container import video_stream

S = TypeVar("S")
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
            all theirs, and none is ever given twice. `None` keeps every frame, a
            `Spread` a number of them.
        planes: give `Planes` instead of RGB where the video holds just these.
        span: the part of the video to give; its first frame counts as time 0.
        seek: start decoding at the key frame before the part; iteration may then
            raise `SeekFailed`, and a stream without `seek` has to be used.

    Attributes (final once iteration has ended):
        num_frames: frames given.
        fps: frames per second of the frames given.
        source_num_frames: frames in the file, or in the part of it.
        source_fps: mean frames per second of these.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        short_side: int | None,
        fps: float | Spread | None,
        planes: bool = False,
        span: Span = WHOLE,
        seek: bool = False,
    ):
        self._path = Path(path)
        self._convert = FrameConverter(short_side, planes=planes)
        self._selector = selector_for(fps)
        self._span = span
        self._seek = seek
        self.num_frames = 0
        self.fps = 0.0
        self.source_num_frames = 0
        self.source_fps = 0.0

    def __iter__(self) -> Iterator[np.ndarray | Planes]:
        """Yield uint8 RGB arrays `(H, W, 3)`, or `Planes`.

        Raises:
            VideoError: the file cannot be opened or decoded to the end of the part.
        """
        with open_container(self._path) as container:
            stream = video_stream(container)
            reader = SpanReader(container, stream, self._span, seek=self._seek)
            for frame in self._selected(reader, stream):
                self.num_frames += 1
                yield self._convert(frame)

    def _selected(
        self, reader: SpanReader, stream: VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Frames to keep, after the whole checks of `SpanReader`."""
        first = time = Fraction(0)
        for frame, time in reader:
            if not self.source_num_frames:
                first = time
            self.source_num_frames += 1
            yield from self._selector.push(frame, time - first)
        yield from self._selector.finish()
        self.source_fps = mean_rate(stream, time - first, self.source_num_frames)
        self.fps = self._selector.rate(self.source_fps)


def read_video(
    path: str | Path,
    *,
    short_side: int | None = 256,
    fps: float | None = 12.0,
    min_frames: int = 2,
    start: float | None = None,
    end: float | None = None,
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
        start: seconds after the first frame where the part to read begins; `None`
            reads from the first frame.
        end: seconds after the first frame before which the part ends; `None` reads
            to the last frame. A part gives the frames at start <= time < end, as if
            the whole video had been decoded and cut.

    Returns:
        The decoded `Video`.

    Raises:
        VideoError: the file is missing, is no video, is damaged, ends early, does
            not hold the part or has fewer than `min_frames` frames (in it).

    Example:
        ```python
        video = read_video("wave.mp4", short_side=128, fps=12)
        print(len(video.frames), video.frames[0].shape)
        ```
    """
    stream, frames = convert_video(
        path,
        short_side=short_side,
        fps=fps,
        min_frames=min_frames,
        convert=_same,
        span=Span(start, end),
    )
    return Video(frames, stream.fps, stream.source_num_frames, stream.source_fps)


def convert_video(
    path: str | Path,
    *,
    short_side: int | None,
    fps: float | Spread | None,
    min_frames: int,
    convert: Callable[[np.ndarray | Planes], T],
    planes: bool = False,
    span: Span = WHOLE,
) -> tuple[FrameStream, list[T]]:
    """`read_video` with `convert` applied to each frame as soon as it is decoded.

    Args:
        path: see `read_video`.
        short_side: see `read_video`.
        fps: see `FrameStream`.
        min_frames: see `read_video`.
        convert: function of a uint8 `(H, W, 3)` array; what it returns is collected.
            A frame may be given to it more than once.
        planes: give `convert` the `Planes` of a frame where the video holds just
            these; else RGB.
        span: the part of the video to convert.

    Returns:
        The exhausted `FrameStream` and the list of converted frames.

    Raises:
        VideoError: see `read_video`.
    """
    if isinstance(fps, Spread) and span.is_whole:
        fps = Spread(fps.frames, expected_frames(Path(path)))

    def read(fps: float | Spread | None, seek: bool) -> tuple[FrameStream, list[T]]:
        stream = FrameStream(
            path, short_side=short_side, fps=fps, planes=planes, span=span, seek=seek
        )
        try:
            return stream, [convert(frame) for frame in stream]
        except SeekFailed:
            return read(fps, seek=False)

    return enough_frames(read, fps, min_frames, span)


def enough_frames(
    read: Callable[[float | Spread | None, bool], tuple[S, list[T]]],
    fps: float | Spread | None,
    min_frames: int,
    span: Span,
) -> tuple[S, list[T]]:
    """Read frames, without thinning where that would leave too few.

    Args:
        read: function of frames to keep (see `FrameStream`) and of whether seeking
            may be tried; it gives a stream (with `source_num_frames`) and its frames.
        fps: frames to keep; the `total` of a `Spread` may be wrong.
        min_frames: fewest frames a usable video has.
        span: the part that is read; for the message.

    Returns:
        What `read` gave.

    Raises:
        VideoError: there are fewer than `min_frames` frames before thinning.
    """
    stream, frames = read(fps, True)
    number = stream.source_num_frames
    if isinstance(fps, Spread) and fps.total != number:
        stream, frames = read(Spread(fps.frames, number), True)
    if number < min_frames:
        what = "it" if span.is_whole else "its part"
        raise VideoError(
            f"{what} has {number} frame{'s' * (number != 1)}; at least {min_frames} "
            "are needed"
        )
    return (stream, frames) if len(frames) >= min_frames else read(None, True)


def _same(frame: np.ndarray) -> np.ndarray:
    return frame
