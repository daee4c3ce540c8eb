"""Random boxes in the frames of a clip, and noise in such a box (random erasing).

Reference:
    [Zhong et al., Random Erasing](https://arxiv.org/abs/1708.04896).
"""

import math

import tensorflow as tf

# Share of the frame, and height / width, of the boxes of random erasing.
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)


def random_erasing(frames: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Cover the same box of all frames with noise, which stands still.

    (Noise that changed from frame to frame would be the strongest motion in the clip.)

    Args:
        frames: uint8 `(T, H, W, 3)`, H and W static.
        probability: of covering anything.
        seed: integers `(2,)`; equal seeds draw equal boxes and noise.

    Returns:
        uint8 `(T, H, W, 3)`.
    """
    height, width = frames.shape[1:3]
    seeds = tf.random.split(seed, 2)
    draws = tf.random.stateless_uniform((5,), seeds[0])

    def erased() -> tf.Tensor:
        box = _erased_box(height, width, draws[1:])
        return paste(frames, _noise(height, width, seeds[1])[None], box)

    return tf.cond(draws[0] < probability, erased, lambda: frames)


def _noise(height: int, width: int, seed: tf.Tensor) -> tf.Tensor:
    """uint8 (height, width, 3), four values from each random number."""
    count = height * width * 3
    numbers = tf.random.stateless_uniform(
        (-(-count // 4),), seed, None, None, dtype=tf.int32
    )
    values = tf.reshape(tf.bitcast(numbers, tf.uint8), (-1,))
    return tf.reshape(values[:count], (height, width, 3))


def _erased_box(height: int, width: int, draws: tf.Tensor) -> tf.Tensor:
    """int32 (top, left, height, width) from four numbers in [0, 1)."""
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draws[0]
    low, high = (math.log(ratio) for ratio in ERASED_ASPECT)
    aspect = tf.exp(low + (high - low) * draws[1])
    frame = tf.constant([height, width], tf.float32)
    wanted = tf.sqrt(area * height * width * tf.stack([aspect, 1 / aspect]))
    size = tf.clip_by_value(tf.round(wanted), 1.0, frame)
    corner = tf.floor(draws[2:] * (frame - size + 1))
    return tf.cast(tf.concat([corner, size], 0), tf.int32)


def cut_box(height: int, width: int, share: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw CutMix's box: of a share of the frame, about a centre anywhere in it.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        share: of the frame's area, before the box is cut off at the borders.
        seed: integers `(2,)`.

    Returns:
        int32 `(4,)`: `(top, left, height, width)`, within the frame.
    """
    frame = tf.constant([height, width], tf.float32)
    half = tf.floor(frame * tf.sqrt(tf.cast(share, tf.float32))) // 2
    centre = tf.floor(tf.random.stateless_uniform((2,), seed) * frame)
    first = tf.maximum(centre - half, 0)
    last = tf.minimum(centre + half, frame)
    return tf.cast(tf.concat([first, last - first], 0), tf.int32)


def paste(frames: tf.Tensor, source: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Replace a box of the frames by the same box of others.

    Args:
        frames: uint8 `(T, H, W, 3)`, H and W static.
        source: uint8 of the same shape, or with one frame for all.
        box: int32 `(4,)`: `(top, left, height, width)`.

    Returns:
        uint8 `(T, H, W, 3)`.
    """
    _, height, width, channels = frames.shape
    rows = _within(height, box[0], box[2])[:, None]
    columns = _within(width, box[1], box[3])[None]
    inside = tf.tile((rows & columns)[..., None], (1, 1, channels))
    inside = tf.reshape(inside, (1, -1))
    # Bits, because `tf.where` with broadcasting is some ten times slower.
    old = tf.reshape(frames, (-1, height * width * channels))
    new = tf.reshape(source, (-1, height * width * channels))
    pasted = tf.bitwise.bitwise_or(
        tf.bitwise.bitwise_and(old, tf.bitwise.invert(inside)),
        tf.bitwise.bitwise_and(new, inside),
    )
    return tf.reshape(pasted, tf.shape(frames))


def _within(length: int, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """uint8 (length,): 255 for the `count` positions from `first` on, else 0."""
    position = tf.range(length)
    inside = tf.logical_and(position >= first, position < first + count)
    return tf.cast(inside, tf.uint8) * 255
