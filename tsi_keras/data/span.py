"""Which part of a video is meant: by times, or by the numbers of the frames."""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

# Annotations are often rounded to whole seconds, and frame counts differ by a frame
# or two between decoders.
_LATE_SECONDS = 1
_LATE_FRAMES = 2


@dataclass(frozen=True)
class Span:
    """Part of a video: frames at `start` <= time < `end`, or by their numbers.

    Attributes:
        start: seconds after the first frame; `None`: from the first frame.
        end: seconds after the first frame; `None`: to the last.
        start_frame: number of the first frame, from 0.
        end_frame: number of the frame before which to stop.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut off."""
        limits = (self.start, self.end, self.start_frame, self.end_frame)
        return all(limit is None for limit in limits)

    def problem(self) -> str | None:
        """What is wrong with the limits by themselves, in words."""
        for first, last in ((self.start, self.end), (self.start_frame, self.end_frame)):
            for limit in (first, last):
                if limit is not None and not 0 <= limit < math.inf:
                    return f"{limit} is not a place in a video"
            if last is not None and last <= (first or 0):
                return f"it ends at {last:g} though it starts at {first or 0:g}"
        if _given(self.start, self.end) and _given(self.start_frame, self.end_frame):
            return "it is given in seconds and in frames"
        return None

    def starts_after(self, time: Fraction, index: int) -> bool:
        """Whether the frame at `time` with number `index` comes before the part."""
        if self.start_frame is not None and index < self.start_frame:
            return True
        return self.start is not None and time < exact_seconds(self.start)

    def ends_before(self, time: Fraction, index: int) -> bool:
        """Whether the frame at `time` with number `index` comes after the part."""
        if self.end_frame is not None and index >= self.end_frame:
            return True
        return self.end is not None and time >= exact_seconds(self.end)

    def outside(self, seconds: Fraction, num_frames: int) -> str | None:
        """Say how the part is not in a video; `None`: it is.

        Args:
            seconds: length of the video.
            num_frames: frames of the video; not looked at for a part in seconds.

        Returns:
            In words, that it starts after the end of the video, or ends more than 1
            second or 2 frames after it.
        """
        first, last, length, late = self.start, self.end, seconds, _LATE_SECONDS
        unit = "seconds"
        if _given(self.start_frame, self.end_frame):
            first, last, length = self.start_frame, self.end_frame, num_frames
            late, unit = _LATE_FRAMES, "frames"
        if first is not None and first >= length:
            wrong = "starts"
        elif last is not None and last > length + late:
            wrong = "ends"
        else:
            return None
        last = "the end" if last is None else f"{last:g}"
        return (
            f"its part from {first or 0:g} to {last} {unit} {wrong} after the end of "
            f"the video, which has {round(float(length), 2):g} {unit}"
        )


WHOLE = Span()


def _given(*limits: float | None) -> bool:
    return any(limit is not None for limit in limits)


@functools.lru_cache(maxsize=16)
def exact_seconds(seconds: float) -> Fraction:
    """3.2 as 16/5, not as the binary fraction next to it.

    Args:
        seconds: any finite number.
    """
    return Fraction(seconds).limit_denominator(1_000_000)
