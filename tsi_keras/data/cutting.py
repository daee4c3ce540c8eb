"""The part of a video between two times or frame numbers, exact to the frame.

Decoding begins at the key frame before the part, where the container allows an exact
seek; what comes out is what cutting the whole decoded video would give.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tsi_keras.data.frame_selection import Clock
from tsi_keras.data.span import Span
from tsi_keras.data.span import exact_seconds
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_container import check_end

# Only here does every packet carry a timestamp that means the same after a seek.
_EXACT_SEEK = ("mp4", "matroska")
_MARGINS = (0, 1, 10)  # seconds to go further back when a seek lands too late


class SeekFailed(Exception):
    """The part must be read from the beginning of the file."""


class SpanReader:
    """Decoded frames of a part of a video, each with its time.

    Args:
        container: an open file.
        stream: its video stream.
        span: the part.
        seek: begin at the key frame before the part; `SeekFailed` says that this is
            not possible, before or while frames come.

    Attributes:
        decoded: frames that came out of the decoder so far.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, span: Span, *, seek: bool
    ):
        self._container = container
        self._stream = stream
        self._span = span
        self._clock = Clock(stream)
        self._seek = bool(seek and span.start and not span.problem())
        self.decoded = 0

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield frames and their times in seconds after the video's first frame.

        Raises:
            VideoError: the file is damaged, ends early or does not hold the part.
            SeekFailed: see `seek`.
        """
        if problem := self._span.problem():
            raise VideoError(f"its part cannot be cut out: {problem}")
        frames = self._sought_frames() if self._seek else self._decode()
        for index, frame in enumerate(frames):
            time = self._clock.tick(frame)
            if self._span.ends_before(time, index):
                return
            if not self._span.starts_after(time, index):
                yield frame, time
        self._check_end()

    def _check_end(self) -> None:
        """The file is over: is it whole, and did it hold the part?"""
        if self.decoded == 0:
            raise VideoError("it holds no frame that can be decoded")
        clock = self._clock
        check_end(
            self._container,
            self._stream,
            None if self._seek else self.decoded,
            clock.end_of_stream,
            clock.longest_step,
        )
        if not self._span.is_whole:
            seconds = (clock.last or 0) + (clock.longest_step or clock.usual_step)
            if problem := self._span.outside(seconds, self.decoded):
                raise VideoError(problem)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames from here on; any damage ends it with a `VideoError`."""
        try:
            for packet in self._container.demux(self._stream):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise VideoError(f"damaged frame {self._position()}")
                    self.decoded += 1
                    yield frame
                if packet.is_corrupt:
                    raise VideoError(f"damaged data {self._position()}")
        except av.error.FFmpegError as error:
            raise VideoError(
                f"decoding failed {self._position()}: {error.strerror}"
            ) from error

    def _position(self) -> str:
        """How far decoding came, in words."""
        announced = f" of {self._stream.frames}" if self._stream.frames else ""
        return f"after {self.decoded}{announced} frames"

    def _sought_frames(self) -> Iterator[av.VideoFrame]:
        """Frames from the key frame before the part, with checked timestamps."""
        names = self._container.format.name.split(",")
        if not any(name in _EXACT_SEEK for name in names):
            raise SeekFailed
        try:
            last = None
            for frame in self._from_key_frame():
                # Without clean timestamps only counting from the start is exact.
                if frame.pts is None or (last is not None and frame.pts <= last):
                    raise SeekFailed
                last = frame.pts
                yield frame
        except VideoError:
            raise SeekFailed from None  # decoding from the start tells what is wrong

    def _from_key_frame(self) -> Iterator[av.VideoFrame]:
        """Seek, and go back further until a key frame before the part comes first."""
        base = self._stream.time_base
        first = next(self._decode(), None)
        if first is None or first.pts is None or not base:
            raise SeekFailed
        self._clock = Clock(self._stream, first.pts)
        target = first.pts + exact_seconds(self._span.start) / base
        for margin in _MARGINS:
            position = math.floor(target - margin / base)
            if position <= first.pts:
                raise SeekFailed
            frames = self._frames_at(position)
            # Before it may come frames that refer to what was jumped over.
            key = next((frame for frame in frames if frame.key_frame), None)
            if key is not None and key.pts is not None and key.pts <= target:
                yield key
                yield from frames
                return
        raise SeekFailed

    def _frames_at(self, position: int) -> Iterator[av.VideoFrame]:
        """Frames from the key frame at or before `position`, as the container says."""
        try:
            self._container.seek(position, stream=self._stream, backward=True)
        except av.error.FFmpegError:
            raise SeekFailed from None
        return self._decode()
