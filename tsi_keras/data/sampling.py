"""Which frames of a video make a clip, defined once: TSN segments and dense windows.

Training, evaluation, prediction and export call these functions and nothing else, so
that they cannot drift apart. Frames are counted from 0 (the official code adds 1, for
image files that are counted from 1).

| sampling     | without draws (evaluation)              | with draws (training)        |
|--------------|-----------------------------------------|------------------------------|
| `"segments"` | the centres of `clips` x `length` parts | a random frame of each part  |
| `"twice"`    | 2 clips: the centres, and the starts    | -                            |
| `"dense"`    | evenly spread windows of 64 frames      | a random window of 64 frames |

TEA's and TSI's "10 clips" are 10 draws of `"segments"`.

Reference:
    [Wang et al., Temporal Segment Networks](https://arxiv.org/abs/1608.00859);
    `ops/dataset.py` of the official TSM and TEA code.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# What a model can be trained with; `"twice"` is a way to test one of segments.
SAMPLINGS = ("segments", "dense")
TEST_SAMPLINGS = (*SAMPLINGS, "twice")

# What becomes of a training video that is shorter than the clip.
SHORT_VIDEOS = ("spread", "first")

# How the one clip of the evaluation is chosen, for people without this package.
SAMPLING_RULES = {
    "segments": "one per segment: int(n / T / 2 + n / T * i) of n frames, i = 0..T-1",
    "dense": "(start + i * (64 // T)) % n of n frames, i = 0..T-1; start is "
    "(n - 64) // 2, or 0 for up to 64 frames",
}

# Frames that a dense clip spans, whatever its length.
DENSE_WINDOW = 64


def clip_indices(
    num_frames: int,
    length: int,
    sampling: str = "segments",
    *,
    clips: int = 1,
    draws: np.ndarray | None = None,
    short_videos: str = "spread",
) -> np.ndarray:
    """Choose the frames of clips (NumPy; see `clip_indices_tf` for tf.data).

    With n frames and clips of length T:

    - `"segments"` without draws: `int(tick / 2 + tick * j)` with
      `tick = n / (T * clips)`, dealt out to the clips in turn. For one clip that is
      the official *test* formula. The official *validation during training* puts it
      behind the guard `n > T`, which turns videos of up to T frames into copies of
      their first frame; that is left out, so that figures seen during training are
      those of the final evaluation.
    - `"segments"` with draws, for each clip: `i * average + int(draw * average)` with
      `average = n // T`, the official training formula. (The average is rounded down:
      frames from `T * average` on are never drawn.) A video of fewer than T frames
      has nothing to draw: see `short_videos`.
    - `"twice"`: `int(tick / 2 + tick * i)`, and `int(tick * i)` for the second clip.
    - `"dense"`: `(start + i * (64 // T)) % n`; with draws
      `start = int(draw * (n - 64))`, without `linspace(0, n - 64, clips)` rounded down,
      for one clip the middle `(n - 64) // 2`; 0 if the video has no more than 64
      frames.

    Args:
        num_frames: frames of the video (n), at least 1.
        length: frames of a clip (T), at least 1; for `"dense"` up to 64.
        sampling: `"segments"`, `"dense"` or `"twice"`.
        clips: clips of the video; 2 for `"twice"`.
        draws: random numbers in [0, 1), `(clips, T)`; of each row `"dense"` uses the
            first. None for the evaluation's clips, which are not random.
        short_videos: with draws: `"spread"` shows short videos whole, frames repeated
            in order; `"first"` is the official code's first frame T times, a still
            picture from which no motion can be learnt.

    Returns:
        int32 `(clips, T)`, frame numbers from 0.

    Raises:
        ValueError: an argument is out of range, or they exclude one another.

    Example:
        ```python
        clip_indices(42, 8)            # [[2, 7, 13, 18, 23, 28, 34, 39]]
        clip_indices(5, 8)             # [[0, 0, 1, 2, 2, 3, 4, 4]]
        clip_indices(40, 8, "dense")   # [[0, 8, 16, 24, 32, 0, 8, 16]]
        ```
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1. Received: {num_frames}")
    check_sampling(length, sampling, clips, short_videos)
    _check_draws(draws, sampling, clips, length)
    indices = _FORMULAS[sampling](_Numpy, num_frames, length, clips, draws)
    if draws is not None and sampling == "segments" and num_frames < length:
        spread = clip_indices(num_frames, length) * (short_videos == "spread")
        indices = np.repeat(spread, clips, axis=0)
    return indices.astype(np.int32)


def clip_indices_tf(
    num_frames: int | tf.Tensor,
    length: int,
    sampling: str = "segments",
    *,
    clips: int = 1,
    seed: tf.Tensor | None = None,
    short_videos: str = "spread",
) -> tf.Tensor:
    """Choose the frames of clips, in a graph; the rules are those of `clip_indices`.

    Args:
        num_frames: frames of the video, an integer scalar, at least 1.
        length: frames of a clip, a Python integer.
        sampling: see `clip_indices`.
        clips: clips of the video, a Python integer.
        seed: integers `(2,)`; makes the draws of `draws_tf`: equal seeds, equal
            frames. None for the evaluation's clips.
        short_videos: see `clip_indices`.

    Returns:
        int32 `(clips, length)`, frame numbers from 0.

    Raises:
        ValueError: an argument is out of range, or they exclude one another.
    """
    check_sampling(length, sampling, clips, short_videos)
    draws = None if seed is None else draws_tf(length, clips, seed)
    _check_draws(draws, sampling, clips, length)
    num_frames = tf.cast(num_frames, tf.int32)
    indices = _FORMULAS[sampling](_Tensors, num_frames, length, clips, draws)
    if draws is not None and sampling == "segments":
        spread = _segments(_Tensors, num_frames, length, 1, None)
        spread *= int(short_videos == "spread")
        indices = tf.where(num_frames < length, spread, indices)
    return tf.ensure_shape(indices, (clips, length))


def draws_tf(length: int, clips: int, seed: tf.Tensor) -> tf.Tensor:
    """Random numbers for `clip_indices`: float64 in [0, 1), `(clips, length)`."""
    return tf.random.stateless_uniform((clips, length), seed, dtype=tf.float64)


def check_sampling(
    length: int, sampling: str, clips: int = 1, short_videos: str = "spread"
) -> None:
    """Refuse clips that cannot be taken.

    Raises:
        ValueError: an argument is out of range, or they exclude one another.
    """
    if length < 1 or clips < 1:
        raise ValueError(
            "`length` and `clips` must be at least 1. "
            f"Received: length={length}, clips={clips}"
        )
    if sampling not in TEST_SAMPLINGS:
        raise ValueError(
            f"`sampling` must be one of {TEST_SAMPLINGS}. Received: {sampling!r}"
        )
    if short_videos not in SHORT_VIDEOS:
        raise ValueError(
            f"`short_videos` must be one of {SHORT_VIDEOS}. Received: {short_videos!r}"
        )
    if sampling == "dense" and length > DENSE_WINDOW:
        raise ValueError(
            f"Dense clips span {DENSE_WINDOW} frames and have no more. "
            f"Received: length={length}; use `sampling='segments'`."
        )
    if sampling == "twice" and clips != 2:
        raise ValueError(f"Sampling 'twice' makes 2 clips. Received: clips={clips}")


def _check_draws(draws: Any, sampling: str, clips: int, length: int) -> None:
    """Refuse random numbers where nothing is drawn, or too few."""
    if draws is None:
        return
    if sampling == "twice":
        raise ValueError("Sampling 'twice' is not random; it takes no draws.")
    if tuple(draws.shape) != (clips, length):
        raise ValueError(
            f"`draws` must be of shape {(clips, length)}. "
            f"Received: {tuple(draws.shape)}"
        )


class _Numpy:
    """The operations of the formulas, in NumPy: float64, cut off towards zero."""

    maximum = staticmethod(np.maximum)
    concat = staticmethod(np.concatenate)

    @staticmethod
    def real(x: Any) -> np.ndarray:
        return np.asarray(x, np.float64)

    @staticmethod
    def whole(x: Any) -> np.ndarray:
        return np.asarray(x).astype(np.int32)

    @staticmethod
    def share(x: Any, count: int) -> np.ndarray:
        return np.asarray(x, np.float64) / count


class _Tensors:
    """The same operations in TensorFlow."""

    maximum = staticmethod(tf.maximum)
    concat = staticmethod(tf.concat)

    @staticmethod
    def real(x: Any) -> tf.Tensor:
        return tf.cast(x, tf.float64)

    @staticmethod
    def whole(x: Any) -> tf.Tensor:
        return tf.cast(x, tf.int32)

    @staticmethod
    def share(x: Any, count: int) -> tf.Tensor:
        x = tf.cast(x, tf.float64)
        # The divisor is `count`, but no constant: the graph's optimiser would merge it
        # with later factors, which rounds some results to the other side of an integer.
        return x / tf.maximum(tf.constant(count, tf.float64), -x)


_Formula = Callable[[Any, Any, int, int, Any], Any]


def _segments(xp: Any, num_frames: Any, length: int, clips: int, draws: Any) -> Any:
    """TSN: one frame of each of `length` equal parts."""
    if draws is not None:
        average = num_frames // length
        offsets = xp.whole(draws * xp.real(average))
        return np.arange(length, dtype=np.int32) * average + offsets
    tick = xp.share(num_frames, length * clips)
    # Row c has the parts c, c + clips, c + 2 clips ...
    parts = np.arange(float(length * clips)).reshape(length, clips).T
    return xp.whole(tick / 2 + tick * parts)


def _twice(xp: Any, num_frames: Any, length: int, clips: int, draws: Any) -> Any:
    """The centres of the parts, then their first frames."""
    tick = xp.share(num_frames, length)
    parts = np.arange(float(length))[None]
    return xp.whole(xp.concat([tick / 2 + tick * parts, tick * parts], 0))


def _dense(xp: Any, num_frames: Any, length: int, clips: int, draws: Any) -> Any:
    """I3D: every (64 // length)-th frame of a window, round and round."""
    room = xp.maximum(num_frames - DENSE_WINDOW, 0)
    if draws is not None:
        starts = xp.whole(draws[:, :1] * xp.real(room))
    elif clips == 1:
        starts = room // 2
    else:
        # As `numpy.linspace` computes it, for the same rounding; its end is exact.
        starts = np.arange(float(clips - 1))[:, None] * xp.share(room, clips - 1)
        starts = xp.concat([xp.whole(starts), xp.whole(room)[None, None]], 0)
    strides = np.arange(length, dtype=np.int32)[None] * (DENSE_WINDOW // length)
    return (starts + strides) % num_frames


_FORMULAS: dict[str, _Formula] = {
    "segments": _segments,
    "twice": _twice,
    "dense": _dense,
}
