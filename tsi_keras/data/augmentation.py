"""Spatial augmentation of training clips, drawn once per clip.

Every frame of a clip gets the same crop and the same flip: the differences between
frames are what the network looks at, and must be those of the video. Draws are
stateless, a function of the seed alone, so results do not depend on thread timing.

The other augmentations lie beside this one: `augmentation_color`, `_policy`
(RandAugment), `_boxes` (random erasing) and `_mixing` (MixUp and CutMix); the crops drawn
here are cut and resized by `crop_resizing`.

Reference:
    `GroupMultiScaleCrop` of the official TSN and TSM code (`ops/transforms.py`);
    [Szegedy et al., Going Deeper with Convolutions](https://arxiv.org/abs/1409.4842)
    for the random resized crop.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Corner and centre crops as (x, y) in quarters of the free margin: four corners,
# centre, the middles of the four sides, and the centres of the four quadrants.
CROP_POSITIONS = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0),
    (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip

# Width and height of a crop are at most this many scales apart.
_MAX_DISTORTION = 1


def multi_scale_crop_box(
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    crop_size: int,
    scales: Sequence[float],
    seed: tf.Tensor,
) -> tf.Tensor:
    """Draw the region of a multi-scale corner crop.

    Sides are `int(min(height, width) * scale)`, or `crop_size` where they are within
    2 pixels of it. All (width, height) pairs at most one scale apart are equally
    likely (10 for 4 scales), and so are the 13 `CROP_POSITIONS`.

    One departure from the official code: a side never exceeds the frame. (There,
    63-pixel frames with a 64-pixel crop would be read beyond their border.)

    Args:
        height: frame height in pixels, an integer scalar.
        width: frame width in pixels, an integer scalar.
        crop_size: side of the network's input in pixels.
        scales: fractions of the short side, in (0, 1], in descending order.
        seed: integers `(2,)`; equal seeds draw equal boxes.

    Returns:
        int32 `(4,)`: `(top, left, height, width)` in pixels, within the frame.

    Example:
        ```python
        box = multi_scale_crop_box(256, 340, 224, (1.0, 0.875, 0.75, 0.66), [0, 1])
        ```
    """
    frame = tf.cast(tf.stack([height, width]), tf.int32)
    base = tf.reduce_min(frame)
    fractions = tf.constant(scales, tf.float64)
    sides = tf.cast(tf.cast(base, tf.float64) * fractions, tf.int32)
    sides = tf.where(tf.abs(sides - crop_size) < 3, crop_size, sides)
    sides = tf.minimum(sides, base)
    pairs = _scale_pairs(len(scales))
    draw = tf.random.stateless_uniform(
        (), seed, 0, len(pairs) * len(CROP_POSITIONS), tf.int32
    )
    pair = tf.constant(pairs)[draw // len(CROP_POSITIONS)]
    position = tf.constant(CROP_POSITIONS)[draw % len(CROP_POSITIONS)]
    crop = tf.gather(sides, pair)  # (height, width)
    offset = (frame - crop) // 4 * tf.reverse(position, [0])  # (top, left)
    return tf.concat([offset, crop], axis=0)


def _scale_pairs(num_scales: int) -> list[tuple[int, int]]:
    """Indices of (height, width) scales that distort the aspect ratio little."""
    return [
        (i, j)
        for i in range(num_scales)
        for j in range(num_scales)
        if abs(i - j) <= _MAX_DISTORTION
    ]


def random_resized_crop_box(
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    area: Sequence[float],
    aspect: Sequence[float],
    seed: tf.Tensor,
) -> tf.Tensor:
    """Draw the region of a random resized crop ("Inception crop").

    Args:
        height: frame height in pixels, an integer scalar.
        width: frame width in pixels, an integer scalar.
        area: smallest and largest share of the frame.
        aspect: smallest and largest width / height of the region.
        seed: integers `(2,)`; equal seeds draw equal boxes.

    Returns:
        int32 `(4,)`: `(top, left, height, width)` in pixels, within the frame: of
        uniformly drawn aspect and area, at a uniformly drawn place. Frames in which no
        such region is found in 100 attempts are taken whole.

    Example:
        ```python
        box = random_resized_crop_box(256, 340, (0.08, 1.0), (0.75, 1.33), [0, 1])
        ```
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        # What the region must cover of the whole frame, beside its share of the area.
        min_object_covered=0.0,
        aspect_ratio_range=list(aspect),
        area_range=list(area),
    )
    return tf.cast(tf.concat([begin[:2], size[:2]], 0), tf.int32)


def random_flip(
    frames: tf.Tensor,
    label: tf.Tensor,
    flip_map: np.ndarray | tf.Tensor,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirror a whole clip left to right with probability 1/2, and its label with it.

    Args:
        frames: `(T, H, W, 3)`, any dtype.
        label: integer scalar.
        flip_map: integers `(num_classes,)`: the class of the mirrored clip, or -1 for
            classes that must not be mirrored; see `flip_labels.flip_map`.
        seed: integers `(2,)`; equal seeds draw equal flips.

    Returns:
        The clip and its label, of the dtypes and shapes given.
    """
    mirrored_label = tf.cast(tf.gather(flip_map, label), label.dtype)
    heads = tf.random.stateless_uniform((), seed) < 0.5
    flip = tf.logical_and(heads, mirrored_label >= 0)
    frames = tf.cond(flip, lambda: tf.reverse(frames, [2]), lambda: frames)
    return frames, tf.where(flip, mirrored_label, label)
