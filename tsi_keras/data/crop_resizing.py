"""Crops of training clips: decoded without the rest of the frame, brought to a square.

The square is made on the host, or on the device that trains: resizing is a quarter to a
third of what a training clip costs the host, and little work for a GPU. Both ways give the
same pixels but for rounding: in clips that are mirrored before the resizing, and on devices
that fuse multiplication and addition.
"""

import numpy as np
import tensorflow as tf

from tsi_keras.data.preprocessing import decode_frame
from tsi_keras.data.preprocessing import resize_frames

# Crops that shrink by more than this are filtered first. Below it the plain bilinear
# kernel still reaches every pixel, and it is four times faster.
_MAX_PLAIN_SHRINK = 1.25


def stored_size(jpegs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of the frames of a clip, from the header of the first."""
    shape = tf.image.extract_jpeg_shape(jpegs[0])
    return shape[0], shape[1]


def largest_plain_side(crop_size: int) -> int:
    """The longest side of a crop that needs no filter to become `crop_size`."""
    return int(_MAX_PLAIN_SHRINK * crop_size)


def decode_regions(jpegs: tf.Tensor, box: tf.Tensor) -> list[tf.Tensor]:
    """Decode one region of every frame, and only that.

    Args:
        jpegs: string `(T,)`, JPEG files of equal size, T static.
        box: int32 `(4,)`: `(top, left, height, width)` in pixels.

    Returns:
        T times uint8 `(H, W, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, a frame is no valid JPEG.
    """
    return [decode_frame(jpeg, box) for jpeg in tf.unstack(jpegs, jpegs.shape[0])]


def decode_crop(jpegs: tf.Tensor, box: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Decode one region of a clip and resize it to a square.

    The region is relative to the stored size: as in the official code there is no
    resize before the crop.

    Args:
        jpegs: as for `decode_regions`.
        box: as for `decode_regions`.
        crop_size: side of the result in pixels.

    Returns:
        uint8 `(T, crop_size, crop_size, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: as for `decode_regions`.
    """
    clip = _resize_to_square(decode_regions(jpegs, box), box[2:], crop_size)
    return tf.ensure_shape(clip, (jpegs.shape[0], crop_size, crop_size, 3))


def decode_crop_for_device(
    jpegs: tf.Tensor, box: tf.Tensor, crop_size: int, largest_side: int
) -> dict[str, tf.Tensor]:
    """Decode one region of a clip and leave the resizing to `resize_crops`.

    Args:
        jpegs: as for `decode_regions`.
        box: as for `decode_regions`.
        crop_size: side of the square it will become, in pixels.
        largest_side: at most `largest_plain_side(crop_size)`. Regions with a longer
            side are resized here, filtered: the device gets no more pixels than that.

    Returns:
        `crops` uint8 `(T, H, W, 3)` and `sides` int32 `(2,)`: H and W, each at most
        `largest_side`.

    Raises:
        tf.errors.InvalidArgumentError: as for `decode_regions`.
    """
    crops = tf.stack(decode_regions(jpegs, box))
    clip = tf.cond(
        tf.reduce_max(box[2:]) <= largest_side,
        lambda: crops,
        lambda: resize_frames(crops, crop_size, crop_size, filtered=True),
    )
    return {"crops": clip, "sides": tf.shape(clip)[1:3]}


def resize_crops(crops: tf.Tensor, sides: tf.Tensor, size: int) -> tf.Tensor:
    """Resize a batch of crops of different sizes to squares.

    The kernel is that of `tf.image.resize` without a filter (bilinear, half-pixel
    centres), in the order in which TensorFlow's computes, and rounds as the host does.

    Args:
        crops: uint8 `(N, T, P, P, 3)`, P static; of each clip the upper left corner counts.
        sides: int32 `(N, 2)`: height and width of that corner in pixels, 1 to P.
        size: side of the result in pixels.

    Returns:
        uint8 `(N, T, size, size, 3)`.

    Example:
        ```python
        (batch, labels), *_ = dataset.take(1)
        clips = resize_crops(batch["crops"], batch["sides"], 224)
        ```
    """
    frames = tf.cast(crops, tf.float32)
    frames = _interpolated(frames, sides[:, 1], size, axis=3)
    frames = _interpolated(frames, sides[:, 0], size, axis=2)
    # Values stay within 0..255, so cutting off after + 0.5 rounds.
    return tf.cast(frames + 0.5, tf.uint8)


def _interpolated(
    frames: tf.Tensor, sides: tf.Tensor, size: int, axis: int
) -> tf.Tensor:
    """Resize float `(N, T, H, W, 3)` along one axis, of which `sides` pixels count."""
    # From a table: graphs multiply by 1 / size instead, which rounds differently.
    scales = tf.constant(np.arange(frames.shape[axis] + 1, dtype=np.float32) / size)
    scale = tf.gather(scales, sides)[:, None]
    place = (tf.range(size, dtype=tf.float32) + 0.5) * scale - 0.5  # (N, size)
    below = tf.floor(place)
    share = tf.reshape(
        place - below, [-1] + [1] * (axis - 1) + [size] + [1] * (4 - axis)
    )
    first = tf.maximum(tf.cast(below, tf.int32), 0)
    second = tf.minimum(tf.cast(tf.math.ceil(place), tf.int32), sides[:, None] - 1)
    first = tf.gather(frames, first, axis=axis, batch_dims=1)
    second = tf.gather(frames, second, axis=axis, batch_dims=1)
    return first + (second - first) * share


def _resize_to_square(
    frames: list[tf.Tensor], sides: tf.Tensor, size: int
) -> tf.Tensor:
    """Resize crops (H, W, 3), at the least cost that is good enough; join them."""

    # One by one: a frame stays in the processor's cache between the steps.
    def resized(filtered: bool) -> tf.Tensor:
        clip = [
            resize_frames(frame[None], size, size, filtered=filtered)
            for frame in frames
        ]
        return tf.concat(clip, axis=0)

    def higher(frame: tf.Tensor) -> tf.Tensor:
        # Whole rows as channels of one pixel: the same result, four times faster.
        rows = tf.reshape(frame, (1, -1, 1, 3 * size))
        rows = resize_frames(rows, size, 1, filtered=False)
        return tf.reshape(rows, (1, size, size, 3))

    much_larger = tf.reduce_max(sides) > largest_plain_side(size)
    return tf.case(
        [
            (tf.reduce_all(sides == size), lambda: tf.stack(frames)),
            (much_larger, lambda: resized(filtered=True)),
            (sides[1] == size, lambda: tf.concat([*map(higher, frames)], axis=0)),
        ],
        default=lambda: resized(filtered=False),
    )
