"""Which frames of a video make a clip: TSN segment sampling, defined once.

The video is cut into `num_segments` equal parts and one frame is taken from each: a
random one in training, the one at the centre everywhere else. Training, evaluation
and prediction call these functions and nothing else, so that they cannot drift apart.

Reference:
    [Wang et al., Temporal Segment Networks](https://arxiv.org/abs/1608.00859);
    `ops/dataset.py` of the official TSM code.
"""

import numpy as np
import tensorflow as tf


def segment_indices(
    num_frames: int, num_segments: int, *, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Choose one frame per segment (NumPy; see `segment_indices_tf` for tf.data).

    Without `rng`: the centres, `int(tick / 2 + tick * i)` with
    `tick = num_frames / num_segments`. This is the official *test* formula ("1 clip").
    The official *validation during training* has the same formula behind the guard
    `num_frames > num_segments`, which turns a video of exactly `num_segments` frames,
    and every shorter one, into copies of its first frame. That quirk is left out:
    figures seen during training are then the figures of the final evaluation.

    With `rng`: `i * average + randint(0, average)` with
    `average = num_frames // num_segments`, the official training formula. Because the
    average is rounded down, frames from `num_segments * average` on are never drawn.
    Videos with fewer frames than segments get the centres (frames repeat, order is
    kept); the official code returns the first frame `num_segments` times, a still
    picture from which no motion can be learnt.

    Args:
        num_frames: frames of the video, at least 1.
        num_segments: frames of the clip, at least 1.
        rng: source of randomness; give one for training only.

    Returns:
        int32 `(num_segments,)`, ascending frame numbers from 0.

    Raises:
        ValueError: either number is below 1.

    Example:
        ```python
        segment_indices(42, 8)  # [2, 7, 13, 18, 23, 28, 34, 39]
        segment_indices(5, 8)   # [0, 0, 1, 2, 2, 3, 4, 4]
        ```
    """
    if num_frames < 1 or num_segments < 1:
        raise ValueError(
            "`num_frames` and `num_segments` must be at least 1. "
            f"Received: num_frames={num_frames}, num_segments={num_segments}"
        )
    segments = np.arange(num_segments)
    average = num_frames // num_segments
    if rng is not None and average > 0:
        indices = segments * average + rng.integers(average, size=num_segments)
    else:
        tick = num_frames / num_segments
        indices = tick / 2 + tick * segments
    return indices.astype(np.int32)


def segment_indices_tf(
    num_frames: int | tf.Tensor,
    num_segments: int,
    *,
    training: bool,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Choose one frame per segment, in a graph; the rules are `segment_indices`'.

    Args:
        num_frames: frames of the video, an integer scalar, at least 1.
        num_segments: frames of the clip, a Python integer, at least 1.
        training: draw within each segment (True) or take the centres (False).
        seed: integers `(2,)` for the stateless draw: equal seeds, equal frames.
            Required in training, unused otherwise.

    Returns:
        int32 `(num_segments,)`, ascending frame numbers from 0.

    Raises:
        ValueError: `num_segments` is below 1, or `training` without `seed`.
    """
    if num_segments < 1:
        raise ValueError(f"`num_segments` must be at least 1. Received: {num_segments}")
    if training and seed is None:
        raise ValueError("`training=True` needs a `seed` of two integers.")
    # float64 as in Python, or some centres would fall on the other side of an integer.
    tick = tf.cast(num_frames, tf.float64) / num_segments
    segments = tf.range(num_segments, dtype=tf.int32)
    centres = tf.cast(tick / 2 + tick * tf.cast(segments, tf.float64), tf.int32)
    if not training:
        return centres
    average = tf.cast(num_frames, tf.int32) // num_segments
    offsets = tf.random.stateless_uniform(
        (num_segments,), seed, 0, tf.maximum(average, 1), tf.int32
    )
    return tf.where(average > 0, segments * average + offsets, centres)
