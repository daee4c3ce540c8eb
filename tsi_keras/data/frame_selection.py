"""Which frames of a video are kept: timestamps, and the frames nearest to a grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
from av.video.stream import VideoStream

from tsi_keras.data.video_container import VideoError


class Clock:
    """Seconds since the first frame; stands in where timestamps are missing.

    Args:
        stream: the video stream.
        first: timestamp of its first frame, in units of the stream's time base; `None`
            takes that of the first frame that comes.

    Attributes:
        last: time of the latest frame in seconds.
        longest_step: longest time between two frames in seconds.
    """

    def __init__(self, stream: VideoStream, first: int | None = None):
        self._rate = stream.average_rate or stream.guessed_rate
        self._base = stream.time_base
        self._first = first
        self.last: Fraction | None = None
        self.longest_step = Fraction(0)

    def tick(self, frame: av.VideoFrame) -> Fraction:
        """Time of `frame`, later than that of any frame before."""
        seconds, pts, last = None, frame.pts, self.last
        if pts is not None and self._base:
            if self._first is None:
                self._first = pts
            # One fraction made from integers: arithmetic with them costs 3 us a time.
            ticks = (pts - self._first) * self._base.numerator
            seconds = Fraction(ticks, self._base.denominator)
        if seconds is None or (last is not None and seconds <= last):
            seconds = self._next()
        if last is not None and seconds > last + self.longest_step:
            self.longest_step = seconds - last
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
    def usual_step(self) -> Fraction:
        """Seconds from frame to frame by the header; 0 if it does not say."""
        return 1 / Fraction(self._rate) if self._rate else Fraction(0)

    @property
    def end_of_stream(self) -> Fraction:
        """Timestamp of the last frame on the stream's own time line, in seconds."""
        return (self._first or 0) * (self._base or 0) + (self.last or 0)


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
        self._next = Fraction(0)  # twice the time of the next one
        self._times: list[Fraction] = []  # first and last stored time
        self._kept = 0
        self._last: tuple[av.VideoFrame, Fraction] | None = None
        self._last_is_kept = False
        self._before = Fraction(0)  # time of the frame before the last

    @property
    def passed(self) -> int:
        """Multiples of 1/fps, from 0, of which the nearest frame is known."""
        return self._targets

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[av.VideoFrame]:
        if self._last is not None:
            self._before = self._last[1]
            # Grid points nearer to the frame before; at equal distance it wins too.
            yield from self._take_last(self._before + time)
        else:
            self._before = time
        self._last, self._last_is_kept = (frame, time), False

    def finish(self) -> Iterator[av.VideoFrame]:
        if self._last is not None:
            yield from self._take_last(3 * self._last[1] - self._before)

    def _take_last(self, twice_until: Fraction) -> Iterator[av.VideoFrame]:
        """Store the frame at hand if a grid point up to then is left to it.

        Twice the time, because a sum of two fractions is cheaper than their mean.
        """
        if twice_until < self._next:
            return
        # Not point by point: a damaged timestamp may be centuries away.
        self._targets = twice_until // (2 * self._step) + 1
        self._next = 2 * self._targets * self._step
        if not self._last_is_kept:
            self._last_is_kept = True
            self._kept += 1
            frame, time = self._last
            self._times = [*self._times[:1], time]
            yield frame

    def rate(self, source_fps: float) -> float:
        if self._kept == self._targets:
            return float(1 / self._step)
        if self._kept < 2:
            return source_fps
        return float((self._kept - 1) / (self._times[-1] - self._times[0]))


@dataclass(frozen=True)
class Spread:
    """A number of frames spread evenly over a video, in place of frames per second.

    Attributes:
        frames: frames to keep; of fewer, all are kept.
        total: frames the video has, as far as known; 0 keeps none but counts them.
    """

    frames: int
    total: int = 0

    @property
    def indices(self) -> frozenset[int]:
        """The frame in the middle of each of `frames` equal parts."""
        if self.total <= self.frames:
            return frozenset(range(self.total))
        middles = ((2 * i + 1) * self.total for i in range(self.frames))
        return frozenset(middle // (2 * self.frames) for middle in middles)


class KeepSpread:
    """Stores the frames that a `Spread` names."""

    def __init__(self, spread: Spread):
        self._indices = spread.indices
        self._total = spread.total
        self._seen = 0

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[av.VideoFrame]:
        if self._seen in self._indices:
            yield frame
        self._seen += 1

    def finish(self) -> Iterator[av.VideoFrame]:
        yield from ()

    def rate(self, source_fps: float) -> float:
        return source_fps * len(self._indices) / max(self._total, 1)


def selector_for(rate: "float | Spread | None") -> Selector:
    """The selector for frames per second, a number of frames, or all frames."""
    if isinstance(rate, Spread):
        return KeepSpread(rate)
    return KeepAll() if rate is None else KeepNearest(rate)


def mean_rate(stream: VideoStream, seconds: Fraction, num_frames: int) -> float:
    """Frames per second from the timestamps, else from the header.

    Args:
        stream: the video stream.
        seconds: time from the first to the last of the frames.
        num_frames: how many frames that were.
    """
    stated = stream.average_rate or stream.guessed_rate
    if num_frames < 2:
        return float(stated or 0)
    measured = (num_frames - 1) / seconds
    # Containers round timestamps (Matroska to 1 ms); the header is exact then.
    if stated and abs(measured / stated - 1) < Fraction(1, 100):
        return float(stated)
    return float(measured)
