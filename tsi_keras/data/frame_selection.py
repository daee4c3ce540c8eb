"""Which frames of a video are kept: timestamps, and the frames nearest to a grid."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import av
from av.video.stream import VideoStream

from tsi_keras.data.video_container import VideoError


class Clock:
    """Seconds since the first frame; stands in where timestamps are missing."""

    def __init__(self, stream: VideoStream):
        self._rate = stream.average_rate or stream.guessed_rate
        self._start: Fraction | None = None
        self.last: Fraction | None = None
        self.longest_step = Fraction(0)

    def tick(self, frame: av.VideoFrame) -> Fraction:
        """Time of `frame`, later than that of any frame before."""
        now = None if frame.pts is None else frame.pts * frame.time_base
        if now is not None and self._start is None:
            self._start = now
        seconds = None if now is None else now - self._start
        if seconds is None or (self.last is not None and seconds <= self.last):
            seconds = self._next()
        if self.last is not None:
            self.longest_step = max(self.longest_step, seconds - self.last)
        self.last = seconds
        return seconds

    def _next(self) -> Fraction:
        """One frame after the last, for frames without a usable timestamp."""
        if self.last is None:
            return Fraction(0)
        if not self._rate:
            raise VideoError("its frames carry no timestamps and it states no rate")
        return self.last + 1 / Fraction(self._rate)

    @property
    def end_of_stream(self) -> Fraction:
        """Timestamp of the last frame on the stream's own time line, in seconds."""
        return (self._start or 0) + (self.last or 0)


class Selector(Protocol):
    """Chooses the frames to store while they arrive."""

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[av.VideoFrame]:
        """Take the next frame; give those now known to be stored."""

    def finish(self) -> Iterator[av.VideoFrame]:
        """Give what is left."""

    def rate(self, source_fps: float) -> float:
        """Frames per second of what was given."""


class KeepAll:
    """Stores every frame."""

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[av.VideoFrame]:
        yield frame

    def finish(self) -> Iterator[av.VideoFrame]:
        yield from ()

    def rate(self, source_fps: float) -> float:
        return source_fps


class KeepNearest:
    """Stores, for every multiple of 1/fps, the frame nearest in time, each once."""

    def __init__(self, fps: float):
        self._step = 1 / Fraction(fps).limit_denominator(1_000_000)
        self._targets = 0  # grid points passed
        self._times: list[Fraction] = []  # first and last stored time
        self._kept = 0
        self._last: tuple[av.VideoFrame, Fraction] | None = None
        self._last_is_kept = False
        self._gap = Fraction(0)

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[av.VideoFrame]:
        if self._last is not None:
            self._gap = time - self._last[1]
            # Grid points nearer to the frame before; at equal distance it wins too.
            yield from self._take_last(time - self._gap / 2)
        self._last, self._last_is_kept = (frame, time), False

    def finish(self) -> Iterator[av.VideoFrame]:
        if self._last is not None:
            yield from self._take_last(self._last[1] + self._gap / 2)

    def _take_last(self, until: Fraction) -> Iterator[av.VideoFrame]:
        """Store the frame at hand if a grid point up to `until` is left to it."""
        frame, time = self._last
        while self._targets * self._step <= until:
            self._targets += 1
            if not self._last_is_kept:
                self._last_is_kept = True
                self._kept += 1
                self._times = [*self._times[:1], time]
                yield frame

    def rate(self, source_fps: float) -> float:
        if self._kept == self._targets:
            return float(1 / self._step)
        if self._kept < 2:
            return source_fps
        return float((self._kept - 1) / (self._times[-1] - self._times[0]))


def mean_rate(stream: VideoStream, clock: Clock, num_frames: int) -> float:
    """Frames per second from the timestamps, else from the header."""
    stated = stream.average_rate or stream.guessed_rate
    if num_frames < 2:
        return float(stated or 0)
    measured = (num_frames - 1) / clock.last
    # Containers round timestamps (Matroska to 1 ms); the header is exact then.
    if stated and abs(measured / stated - 1) < Fraction(1, 100):
        return float(stated)
    return float(measured)
