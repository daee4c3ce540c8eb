"""Sliding windows over a stream, each a video of its own as the evaluation sees it."""

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.frame_selection import KeepNearest
from tsi_keras.data.sampling import DENSE_WINDOW
from tsi_keras.data.sampling import clip_indices
from tsi_keras.data.video_container import VideoError
from tsi_keras.utils.errors import InputError

# About the length of a clip of Something-Something, the data set of the paper.
DEFAULT_WINDOW = 4.0


@dataclass(frozen=True)
class WindowGrid:
    """How long windows are and how far apart, in stored frames.

    Both are multiples of the distance between two sampled frames, so that the frames
    that one window samples are those of the others.

    Attributes:
        options: frames per clip and their sampling.
        rate: stored frames per second.
        length: stored frames of a window.
        hop: stored frames from the start of a window to that of the next.
    """

    options: ClipOptions
    rate: Fraction
    length: int
    hop: int

    @property
    def window(self) -> float:
        """Seconds of a window."""
        return float(self.length / self.rate)

    @property
    def seconds_per_hop(self) -> float:
        """Seconds from the start of a window to that of the next."""
        return float(self.hop / self.rate)

    @property
    def new_frames(self) -> int:
        """Sampled frames of a window that the one before does not have."""
        step = self.hop // self.unit
        return min(step, self.options.num_frames)

    @property
    def unit(self) -> int:
        """Stored frames from one sampled frame to the next."""
        return _unit(self.options, self.length)


def plan_windows(
    options: ClipOptions,
    rate: Fraction,
    window: float | None = None,
    hop: float | None = None,
) -> WindowGrid:
    """Round a window and a hop in seconds to what lets frames be used again.

    Args:
        options: frames per clip (T) and their sampling.
        rate: stored frames per second.
        window: seconds of a window; 4 by default, and 64 stored frames for `"dense"`
            sampling.
        hop: seconds from window to window; a quarter of the window by default.

    Returns:
        The nearest lengths: for `"segments"` a window is T k stored frames, of which
        every k-th is sampled; for `"dense"` every (64 // T)-th is. A hop is a multiple
        of this distance, and of at least one.

    Raises:
        InputError: a length is not a positive number of seconds.
    """
    for name, seconds in (("--window", window), ("--hop", hop)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise InputError(
                f"`{name}` must be a positive number of seconds. Received: {seconds}"
            )
    dense = options.sampling == "dense"
    if window is None:
        window = float(DENSE_WINDOW / rate) if dense else DEFAULT_WINDOW
    quantum = DENSE_WINDOW // options.num_frames if dense else options.num_frames
    length = quantum * max(1, round(Fraction(window) * rate / quantum))
    unit = _unit(options, length)
    wanted = Fraction(length, 4) if hop is None else Fraction(hop) * rate
    return WindowGrid(options, rate, length, unit * max(1, round(wanted / unit)))


def _unit(options: ClipOptions, length: int) -> int:
    if options.sampling == "dense":
        return DENSE_WINDOW // options.num_frames
    return length // options.num_frames


@dataclass(eq=False)
class StoredFrame:
    """A frame that a record of the video would hold.

    Attributes:
        place: its number among the stored frames of the stream.
        seconds: its time.
        crop: uint8 `(S, S, 3)`, what the model sees.
        features: what the model made of it alone, once a window has asked for it.
    """

    place: int
    seconds: Fraction
    crop: np.ndarray
    features: tuple | None = None


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of the stream, ready for the model.

    Attributes:
        start: seconds of its begin.
        end: seconds of its end.
        frames: the T sampled frames; in short pieces some more than once.
        num_stored: stored frames in the piece.
        joined: whether it follows the window before without a hole.
    """

    start: float
    end: float
    frames: tuple[StoredFrame, ...]
    num_stored: int
    joined: bool = True


class WindowMaker:
    """Cuts a stream into windows while its frames arrive.

    Frames are thinned as `pipelines.prepare` would thin the whole video: to those
    nearest to the multiples of 1/fps. A window from place a to place b holds what a
    record of the stored frames a to b would hold, and its clip is chosen by the
    evaluation's rule. Gaps leave windows with fewer stored frames; those with fewer
    than `min_frames` are left out and counted.

    Args:
        grid: lengths.
        fps: stored frames per second; None stores every frame.
        min_frames: fewest stored frames of a video that can be used.

    Attributes:
        unusable: windows that were left out.
        num_stored: stored frames so far.
    """

    def __init__(self, grid: WindowGrid, fps: float | None, min_frames: int):
        self.grid = grid
        self._fps = fps
        self._selector = None if fps is None else KeepNearest(fps)
        self._min_frames = min_frames
        self._frames: deque[StoredFrame] = deque()
        # All frames, until enough are stored: see `_opening_window`.
        self._opening: list[StoredFrame] | None = []
        self._first: Fraction | None = None
        self._last: Fraction | None = None
        self._seen = 0
        self._start = 0  # place where the next window begins
        self._covered = 0  # place where the last one ended
        self._joined = True
        self.unusable = 0
        self.num_stored = 0

    @property
    def num_held(self) -> int:
        """Frames in memory; bounded by the length of a window."""
        return len(self._frames) + len(self._opening or ())

    def push(
        self, picture: Callable[[], np.ndarray], seconds: Fraction
    ) -> list[Window]:
        """Take the next frame; give the windows that are now complete.

        Args:
            picture: makes the uint8 `(S, S, 3)` crop; called for stored frames only.
            seconds: time of the frame, later than that of the one before.

        Raises:
            ValueError: the time does not grow.
        """
        if self._last is not None and seconds <= self._last:
            raise ValueError(
                "`seconds` must grow from frame to frame. "
                f"Received: {float(seconds)} after {float(self._last)}"
            )
        if self._first is None:
            self._first = seconds
        self._last = seconds
        if self._opening is not None:
            self._keep_opening(picture, seconds)
        for place, frame in self._select(picture, seconds - self._first):
            self._store(place, *frame)
        self._seen += 1
        return self._complete()

    def flush(self) -> list[Window]:
        """Give what is left at the end of the stream: one shorter window, if any.

        Raises:
            VideoError: the stream was too short to be used at all.
        """
        if self._selector is not None:
            place = self._selector.passed
            for frame in self._selector.finish():
                self._store(place, *frame)
        windows = self._complete()
        if self._opening is not None and self._seen:
            return [*windows, self._opening_window()]
        end = max([self._passed, *(frame.place + 1 for frame in self._frames)])
        if not any(frame.place >= self._covered for frame in self._frames):
            return windows
        rest = self._window(end - self._start)
        return [*windows, *([] if rest is None else [rest])]

    @property
    def _passed(self) -> int:
        """Places up to which no further frame will come."""
        return self._seen if self._selector is None else self._selector.passed

    def _select(self, picture, time):
        """Stored frames with the first place each may have."""
        if self._selector is None:
            return [(self._seen, (picture, time))]
        place = self._selector.passed
        return [(place, frame) for frame in self._selector.push((picture, time), time)]

    def _store(self, place: int, picture, time: Fraction) -> None:
        if self._fps is not None:
            # After a gap, the first frame was nearest for half of the gap already.
            place = max(place, -int((Fraction(1, 2) - time * self.grid.rate) // 1))
        self.num_stored += 1
        if self.num_stored >= self._min_frames:
            self._opening = None
        if place >= self._start:
            self._frames.append(StoredFrame(place, self._first + time, picture()))

    def _complete(self) -> list[Window]:
        """Windows of which all frames are known."""
        windows = []
        while self._start + self.grid.length <= self._passed:
            window = self._window(self.grid.length)
            if window is not None:
                windows.append(window)
            self._advance()
        return windows

    def _window(self, length: int) -> Window | None:
        """The window at `_start`, or None if it holds too few frames."""
        end = self._start + length
        held = [frame for frame in self._frames if frame.place < end]
        self._covered = end
        if len(held) < self._min_frames:
            self.unusable += 1
            self._joined = False
            return None
        window = self._made(held, *self._limits(held, end))
        self._joined = True
        return window

    def _made(
        self, held: Sequence[StoredFrame], start: Fraction, end: Fraction
    ) -> Window:
        """The evaluation's clip of these stored frames."""
        options = self.grid.options
        [chosen] = clip_indices(len(held), options.num_frames, options.sampling)
        frames = tuple(held[index] for index in chosen)
        return Window(float(start), float(end), frames, len(held), self._joined)

    def _limits(self, held: Sequence[StoredFrame], end: int) -> tuple[Fraction, ...]:
        """Seconds from where to where a window goes."""
        if self._fps is None:
            return held[0].seconds, held[-1].seconds + 1 / self.grid.rate
        return tuple(self._first + at / self.grid.rate for at in (self._start, end))

    def _advance(self) -> None:
        """Go on to the next window, past those that lie in a gap altogether."""
        self._start += self.grid.hop
        end = self._start + self.grid.length
        coming = (f.place for f in self._frames if f.place >= self._start)
        reached = min(next(coming, self._passed), self._passed)
        if reached >= end:
            empty = (reached - end) // self.grid.hop + 1
            self.unusable += empty
            self._start += empty * self.grid.hop
            self._joined = False
        while self._frames and self._frames[0].place < self._start:
            self._frames.popleft()

    def _keep_opening(self, picture, seconds: Fraction) -> None:
        self._opening.append(StoredFrame(len(self._opening), seconds, picture()))

    def _opening_window(self) -> Window:
        """A stream too short to be thinned: all its frames, as in a preparation."""
        frames = self._opening
        if len(frames) < self._min_frames:
            raise VideoError(
                f"it has {len(frames)} frame{'s' * (len(frames) != 1)}; at least "
                f"{self._min_frames} are needed"
            )
        length = Fraction(max(self._passed, 1)) / self.grid.rate
        end = max(self._first + length, self._last)
        return self._made(frames, self._first, end)
