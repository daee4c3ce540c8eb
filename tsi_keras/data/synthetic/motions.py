"""What the actor does in each class, as poses over time.

Every frame, looked at alone, has the same distribution in every class. An object
has a *home box*; its position in that box, its size and its angle are uniform draws.
A class animates one of these quantities along a path whose distribution over time is
the very distribution from which the other classes draw the fixed value:

- `move_*` sweep one side of the box, `pass_by` a diagonal, `bounce_back` half a
  diagonal and back, `shake_*` half a side back and forth in a triangle wave of random
  phase: each spends equal time everywhere it goes, as a uniform draw does;
- `approach` and `recede` sweep the logarithm of the size, `rotate_*` the angle;
- `appear` and `vanish` show the actor for half of the time on average, beside a
  second object that is always there; the other classes have that second object in
  half of their clips. So one or two objects are seen, with equal chances, everywhere.

A mean over frames of anything computed from single frames therefore has the same
expectation in all classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TRAVEL = (0.55, 0.85)  # sides of the home box / short side of the frame
DIAMETER = (0.28, 0.34)  # smallest object / short side of the frame
ZOOM = (1.8, 2.2)  # largest size / smallest size
MARGIN = 0.05  # of the central square that home boxes leave free / short side
TILT = 12.0  # home boxes are turned by at most so many degrees
TURN = (150.0, 270.0)  # degrees turned over a clip
SLOW_PERIODS = (0.9, 1.1)  # per clip
FAST_PERIODS = (2.5, 3.0)  # per clip; 8 samples resolve up to 4
SWITCH = (0.3, 0.7)  # when the actor appears, as a fraction of the clip


@dataclass
class Pose:
    """Where an object is in each frame.

    Attributes:
        across: position along the box's width, 0 to 1; float64 `(T,)`.
        down: position along the box's height, 0 to 1; float64 `(T,)`.
        zoom: position in the size range, 0 to 1; float64 `(T,)`.
        angle: degrees clockwise; float64 `(T,)`.
        visible: bool `(T,)`.
    """

    across: np.ndarray
    down: np.ndarray
    zoom: np.ndarray
    angle: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class Motion:
    """One class.

    Attributes:
        description: one line for people.
        animate: changes a resting pose, given the random generator and the time
            of each frame (0 to 1, `(T,)`).
        backwards: whether the clip is played in reverse.
        companion: whether a second object is always present.
    """

    description: str
    animate: Callable[[Pose, np.random.Generator, np.ndarray], None]
    backwards: bool = False
    companion: bool = False


def resting_pose(rng: np.random.Generator, num_frames: int) -> Pose:
    """Draw a pose that stays the same over `num_frames` frames."""
    across, down, zoom, turn = rng.uniform(size=4)
    return Pose(
        across=np.full(num_frames, across),
        down=np.full(num_frames, down),
        zoom=np.full(num_frames, zoom),
        angle=np.full(num_frames, 360 * turn),
        visible=np.ones(num_frames, bool),
    )


def frame_times(num_frames: int) -> np.ndarray:
    """Times of the frames' centres, from 0 (start) to 1 (end) of the clip; `(T,)`."""
    return (np.arange(num_frames) + 0.5) / num_frames


def _move_across(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.across = time


def _move_down(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.down = time


def _approach(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.zoom = time


def _rotate(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.angle = pose.angle + rng.uniform(*TURN) * (time - 0.5)


def _appear(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.visible = time > rng.uniform(*SWITCH)


def _pass_by(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.across, pose.down = _diagonal(rng, time)


def _bounce_back(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
    pose.across, pose.down = _diagonal(rng, _half(rng, _triangle(time)))


def _shake(
    periods: tuple[float, float],
) -> Callable[[Pose, np.random.Generator, np.ndarray], None]:
    """Back and forth along one side of the box, `periods` times per clip."""

    def animate(pose: Pose, rng: np.random.Generator, time: np.ndarray) -> None:
        wave = _triangle(rng.uniform(*periods) * time + rng.uniform())
        setattr(pose, rng.choice(["across", "down"]), _half(rng, wave))

    return animate


def _triangle(phase: np.ndarray) -> np.ndarray:
    """0 at whole phases, 1 half-way between, straight lines in between."""
    return 1 - np.abs(1 - 2 * (phase % 1))


def _half(rng: np.random.Generator, path: np.ndarray) -> np.ndarray:
    """Confine a path over 0..1 to its lower or upper half, either way round."""
    path = _either_way(rng, path)
    return (path + rng.integers(2)) / 2


def _diagonal(
    rng: np.random.Generator, path: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run `path` along one of the two diagonals, in either direction."""
    path = _either_way(rng, path)
    return path, _either_way(rng, path)


def _either_way(rng: np.random.Generator, path: np.ndarray) -> np.ndarray:
    return 1 - path if rng.integers(2) else path


MOTIONS: dict[str, Motion] = {
    "move_left": Motion("an object crosses to the left", _move_across, backwards=True),
    "move_right": Motion("an object crosses to the right", _move_across),
    "move_up": Motion("an object crosses upwards", _move_down, backwards=True),
    "move_down": Motion("an object crosses downwards", _move_down),
    "approach": Motion("an object grows to twice its size", _approach),
    "recede": Motion("an object shrinks to half its size", _approach, backwards=True),
    "rotate_clockwise": Motion("an object turns clockwise", _rotate),
    "rotate_counterclockwise": Motion(
        "an object turns counter-clockwise", _rotate, backwards=True
    ),
    "appear": Motion("an object comes into being", _appear, companion=True),
    "vanish": Motion("an object ceases to be", _appear, backwards=True, companion=True),
    "pass_by": Motion("an object crosses diagonally and goes on", _pass_by),
    "bounce_back": Motion(
        "an object comes diagonally, turns round and goes back", _bounce_back
    ),
    "shake_fast": Motion(
        "an object swings to and fro about three times", _shake(FAST_PERIODS)
    ),
    "shake_slow": Motion("an object swings to and fro once", _shake(SLOW_PERIODS)),
}

CLASSES: tuple[str, ...] = tuple(MOTIONS)
