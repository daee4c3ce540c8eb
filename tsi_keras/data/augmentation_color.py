"""Colour jitter of a whole clip, as one affine map of the colours.

Brightness, contrast, saturation and hue all map colours linearly, if hue is a rotation
about the grey axis (in YIQ, not HSV). They are multiplied out first, so that a clip
goes through memory once, whatever is switched on.
"""

import math

import numpy as np
import tensorflow as tf

# RGB to luma and the two chroma axes of NTSC television.
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_LUMA = _YIQ[0].astype(np.float32)


def color_jitter(
    frames: tf.Tensor,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Change the colours of all frames of a clip in the same random way.

    Args:
        frames: uint8 `(T, H, W, 3)`, RGB.
        brightness: the factor is drawn from 1 - this to 1 + this, not below 0; likewise
            for the next two.
        contrast: of the distance to the mean grey of the clip.
        saturation: of the distance to the grey of the same brightness.
        hue: colours turn by up to this share of a full turn, either way.
        seed: integers `(2,)`; equal seeds draw equal changes.

    Returns:
        uint8 `(T, H, W, 3)`.

    Example:
        ```python
        color_jitter(
            frames, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, seed=[0, 1]
        )
        ```
    """
    spread = tf.constant([brightness, contrast, saturation], tf.float32)
    draws = tf.random.stateless_uniform((4,), seed, -1.0, 1.0)
    factors = tf.maximum(1.0 + spread * draws[:3], 0.0)
    return recolor(
        frames,
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        turn=hue * draws[3],
    )


def recolor(
    frames: tf.Tensor,
    *,
    brightness: float | tf.Tensor = 1.0,
    contrast: float | tf.Tensor = 1.0,
    saturation: float | tf.Tensor = 1.0,
    turn: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """Change the colours of a clip by given factors, and turn the hue.

    Args:
        frames: uint8 `(T, H, W, 3)`, RGB.
        brightness: factor; 1 keeps it, as for the next two.
        contrast: factor of the distance to the clip's mean grey.
        saturation: factor of the distance to the grey of the same brightness.
        turn: of the hue, in full turns.

    Returns:
        uint8 `(T, H, W, 3)`, rounded, and cut off at 0 and 255 once, at the end.
    """
    pixels = tf.reshape(tf.cast(frames, tf.float32), (-1, 3))
    grey = tf.tensordot(_mean_color(pixels, tf.shape(frames)[0]), _LUMA, 1)
    matrix = brightness * contrast * _chroma_matrix(saturation, turn)
    # Half a level more, so that cutting off rounds.
    offset = (1.0 - contrast) * brightness * grey + 0.5
    colors = tf.linalg.matmul(pixels, matrix, transpose_b=True) + offset
    colors = tf.clip_by_value(colors, 0.0, 255.0)
    return tf.reshape(tf.cast(colors, tf.uint8), tf.shape(frames))


def _mean_color(pixels: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    """(3,), of all pixels (N, 3) of a clip."""
    # Frame upon frame first: long rows are summed up three times as fast.
    frame = tf.reduce_mean(tf.reshape(pixels, (num_frames, -1)), 0)
    return tf.reduce_mean(tf.reshape(frame, (-1, 3)), 0)


def _chroma_matrix(scale: float | tf.Tensor, turn: float | tf.Tensor) -> tf.Tensor:
    """The (3, 3) matrix that scales and turns chroma and keeps luma."""
    angle = 2 * math.pi * tf.cast(turn, tf.float32)
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    rotation = tf.reshape(
        tf.stack([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos]), (3, 3)
    )
    there = tf.constant(_YIQ, tf.float32)
    back = tf.constant(np.linalg.inv(_YIQ), tf.float32)
    return back @ rotation @ there
