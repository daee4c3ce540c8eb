"""The evaluation's spatial preprocessing, defined once: decode, resize, centre crop.

Evaluation, prediction and the `serve_jpeg` signature of an exported model call these
functions. They use TensorFlow operations only, take any frame size and keep uint8;
the normalisation to the ImageNet mean and deviation is part of the model.
"""

import tensorflow as tf

from tsi_keras.utils.errors import InputError

# Up to this many frames a clip is decoded by as many parallel operations.
_MAX_UNROLLED_FRAMES = 64


def check_sizes(short_side: int, crop_size: int) -> None:
    """Refuse sizes that no frame can satisfy.

    Raises:
        InputError: a size is no positive integer or the crop exceeds the short side.
    """
    for name, value in (("short_side", short_side), ("crop_size", crop_size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"`{name}` must be a positive number of pixels. Received: {value!r}"
            )
    if crop_size > short_side:
        raise InputError(
            "`crop_size` must not exceed `short_side`, the size frames are brought to "
            f"before the crop. Received: crop_size={crop_size}, short_side={short_side}"
        )


def decode_frames(jpegs: tf.Tensor) -> tf.Tensor:
    """Decode the JPEG frames of one clip.

    Args:
        jpegs: string `(T,)`, JPEG files of equal height and width. A static T decodes
            in parallel, a dynamic T in a loop.

    Returns:
        uint8 `(T, H, W, 3)`, RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, a frame is no valid JPEG, is cut
            off, or has another size than the others.
    """
    jpegs = tf.convert_to_tensor(jpegs)
    num_frames = jpegs.shape[0]
    if num_frames is not None and 0 < num_frames <= _MAX_UNROLLED_FRAMES:
        return tf.stack([decode_frame(jpeg) for jpeg in tf.unstack(jpegs)])
    frame = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.map_fn(decode_frame, jpegs, fn_output_signature=frame)


def decode_frame(jpeg: tf.Tensor, box: tf.Tensor | None = None) -> tf.Tensor:
    """Decode a JPEG frame, whole or only a region of it.

    Args:
        jpeg: string scalar, a JPEG file.
        box: int32 `(4,)` as `(top, left, height, width)` in pixels, the region to
            keep; the rest is skipped by the decoder. `None` keeps all.

    Returns:
        uint8 `(H, W, 3)`, RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, the frame is no valid JPEG, is cut
            off, or `box` leaves it.
    """
    # The exact transform is as fast as TensorFlow's default on today's machines and
    # gives the same pixels whatever that default is.
    exact = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
    if box is None:
        return tf.io.decode_jpeg(jpeg, **exact)
    return tf.io.decode_and_crop_jpeg(jpeg, box, **exact)


def resize_frames(
    frames: tf.Tensor,
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    *,
    filtered: bool,
) -> tf.Tensor:
    """Resize bilinearly and round back to uint8.

    Args:
        frames: uint8 `(T, H, W, 3)`.
        height: height of the result in pixels.
        width: width of the result in pixels.
        filtered: widen the kernel when shrinking ("antialias"), which is what Pillow
            and thus the official code do; several times slower. Enlarging is the same
            either way.

    Returns:
        uint8 `(T, height, width, 3)`.
    """
    if not filtered:
        # The plain kernel is a third faster on floats; the result is the same.
        frames = tf.cast(frames, tf.float32)
    resized = tf.image.resize(frames, (height, width), "bilinear", antialias=filtered)
    # Values stay within 0..255, so cutting off after + 0.5 rounds, in one pass less.
    return tf.cast(resized + 0.5, tf.uint8)


def resize_and_center_crop(
    frames: tf.Tensor, *, short_side: int, crop_size: int
) -> tf.Tensor:
    """Bring the short side to `short_side`, then cut the centre square.

    The resize is bilinear with a low-pass filter and keeps the aspect ratio (the long
    side is rounded to the nearest pixel). Frames that have the short side already are
    not resampled.

    Args:
        frames: uint8 `(T, H, W, 3)`, any T, H and W, static or dynamic.
        short_side: pixels of the shorter side before the crop.
        crop_size: pixels of the square that is cut; at most `short_side`.

    Returns:
        uint8 `(T, crop_size, crop_size, 3)`.

    Raises:
        InputError: `crop_size` exceeds `short_side` or a size is below 1.
        ValueError: `frames` are not uint8 of rank 4.

    Example:
        ```python
        clip = resize_and_center_crop(frames, short_side=256, crop_size=224)
        ```
    """
    check_sizes(short_side, crop_size)
    frames = tf.convert_to_tensor(frames)
    if frames.dtype != tf.uint8 or frames.shape.rank != 4:
        raise ValueError(
            "`frames` must be uint8 of shape (T, H, W, 3). Received: "
            f"{frames.dtype.name} of shape {frames.shape}"
        )
    frames = _resize_short_side(frames, short_side)
    size = tf.shape(frames)
    top, left = (size[1] - crop_size) // 2, (size[2] - crop_size) // 2
    crop = frames[:, top : top + crop_size, left : left + crop_size]
    return tf.ensure_shape(crop, (frames.shape[0], crop_size, crop_size, 3))


def _resize_short_side(frames: tf.Tensor, short_side: int) -> tf.Tensor:
    """Resize uint8 (T, H, W, 3) unless its short side fits already."""
    size = tf.shape(frames)
    height, width = size[1], size[2]
    shorter = tf.minimum(height, width)

    def resized() -> tf.Tensor:
        new_height = (height * short_side + shorter // 2) // shorter
        new_width = (width * short_side + shorter // 2) // shorter
        return resize_frames(frames, new_height, new_width, filtered=True)

    result = tf.cond(tf.equal(shorter, short_side), lambda: frames, resized)
    return tf.ensure_shape(result, (frames.shape[0], None, None, 3))
