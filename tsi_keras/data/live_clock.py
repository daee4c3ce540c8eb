"""The time of frames from cameras and streams, whose timestamps cannot be relied on."""

import time
from collections.abc import Callable
from fractions import Fraction

import av

# A timestamp further ahead of the clock on the wall is a jump of the sender's clock.
_LARGEST_JUMP = 2.0
_SMALLEST_STEP = Fraction(1, 1000)


class LiveClock:
    """Seconds since the first frame of a source that may stumble.

    Timestamps are followed as long as they grow and do not leap ahead of the clock on
    the wall; the latter bridges lost connections and what else timestamps do not tell.

    Args:
        by_arrival: do not look at timestamps at all.
        now: the clock on the wall, in seconds.
    """

    def __init__(
        self, *, by_arrival: bool = False, now: Callable[[], float] = time.monotonic
    ):
        self._by_arrival = by_arrival
        self._now = now
        self._stamp: Fraction | None = None
        self._wall = 0.0
        self.last: Fraction | None = None

    def tick(self, frame: av.VideoFrame) -> Fraction:
        """Time of `frame`, later than that of any frame before."""
        stamp, now = self._stamp_of(frame), self._now()
        if self.last is None:
            self.last = Fraction(0)
        else:
            self.last += self._step(stamp, now - self._wall)
        self._stamp, self._wall = stamp, now
        return self.last

    def restart(self) -> None:
        """The next frame comes over a new connection: its timestamps begin anew."""
        self._stamp = None

    def _stamp_of(self, frame: av.VideoFrame) -> Fraction | None:
        if self._by_arrival or frame.pts is None or not frame.time_base:
            return None
        return frame.pts * Fraction(frame.time_base)

    def _step(self, stamp: Fraction | None, waited: float) -> Fraction:
        if stamp is not None and self._stamp is not None:
            step = stamp - self._stamp
            if 0 < step <= waited + _LARGEST_JUMP:
                return step
        return max(Fraction(waited).limit_denominator(1_000_000), _SMALLEST_STEP)
