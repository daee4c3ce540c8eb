"""Checks inside an exported graph, whose errors tell a client what he sent.

They are TensorFlow assertions, so that they hold wherever the SavedModel is loaded, also
in C++. A failed one ends the request it belongs to and nothing else.
"""

import tensorflow as tf


def checked(
    value: tf.Tensor, condition: tf.Tensor, message: str, *received: tf.Tensor
) -> tf.Tensor:
    """Return `value`; when the graph runs, fail unless `condition` holds.

    Args:
        value: what the rest of the graph goes on with, only after the check.
        condition: boolean scalar.
        message: for the error, with one `{}` for each of `received`.
        received: what to name.

    Raises:
        tf.errors.InvalidArgumentError: when it runs and the condition does not hold.
    """
    text = tf.strings.format(message, received) if received else message
    check = tf.debugging.Assert(condition, [text])
    with tf.control_dependencies([check]):
        return tf.identity(value)


def checked_clips(
    frames: tf.Tensor, num_frames: int, height: int | None, width: int | None
) -> tf.Tensor:
    """Return uint8 clips `(N, T, H, W, 3)` with all that is known of their shape.

    Args:
        frames: as they came, of any N, T, H and W.
        num_frames: the only T that fits.
        height: the only H that fits, or None.
        width: the only W that fits, or None.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, another shape, or an empty batch.
    """
    sizes = (num_frames, height or "H", width or "W")
    wanted = ", ".join(map(str, ("N", *sizes, 3)))
    shape = tf.shape(frames)
    fits = tf.reduce_all(shape > 0)
    for axis, size in enumerate((num_frames, height, width), start=1):
        if size is not None:
            fits &= tf.equal(shape[axis], size)
    message = (
        f"`frames` must be uint8 of shape ({wanted}): one or more clips of {num_frames} "
        "RGB frames. Received the shape {}"
    )
    frames = checked(frames, fits, message, shape)
    return tf.ensure_shape(frames, (None, num_frames, height, width, 3))


def checked_files(frames: tf.Tensor, num_frames: int) -> tf.Tensor:
    """Return JPEG files `(N, T)`, with T known.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, another T, or an empty batch.
    """
    shape = tf.shape(frames)
    message = (
        f"`frames` must be strings of shape (N, {num_frames}): one or more clips of "
        f"{num_frames} JPEG files. Received the shape {{}}"
    )
    # A server checks no ranks; without a second axis the product is 1.
    fits = (shape[0] > 0) & tf.equal(tf.reduce_prod(shape[1:]), num_frames)
    return tf.ensure_shape(checked(frames, fits, message, shape), (None, num_frames))


def checked_examples(examples: tf.Tensor) -> tf.Tensor:
    """Return serialized videos `(N,)`.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, an empty batch.
    """
    return checked(
        examples,
        tf.size(examples) > 0,
        "`examples` must be strings of shape (N,): one or more serialized "
        "tf.train.SequenceExample. Received an empty batch",
    )


def checked_lengths(frame_counts: tf.Tensor, key: str) -> tf.Tensor:
    """Return the numbers of frames of videos, int64 `(N,)`.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, a video has none; names the first.
    """
    empty = tf.equal(frame_counts, 0)
    message = (
        "`examples[{}]` has no frames: a tf.train.SequenceExample with the JPEG files "
        f"of a video in its feature list {key} is expected (counted from 0; "
        "{} of {} have none)"
    )
    first = tf.argmax(tf.cast(empty, tf.int32))
    count = tf.math.count_nonzero(empty)
    return checked(
        frame_counts,
        tf.equal(count, 0),
        message,
        first,
        count,
        tf.size(frame_counts),
    )


def checked_decoded(
    pixels: tf.Tensor, decoded: tf.Tensor, files: tf.Tensor, num_frames: int
) -> tf.Tensor:
    """Return decoded frames; fail unless all files could be decoded.

    Args:
        pixels: what the rest of the graph goes on with.
        decoded: int32, rising: positions of the files that could be decoded.
        files: string `(N * T,)`, all files.
        num_frames: T.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, a file is missing; names the
            first by clip and frame, and its size.
    """
    total = tf.size(files)
    missing = total - tf.size(decoded)
    # The first position at which the numbers no longer run along.
    along = tf.equal(tf.range(tf.size(decoded)), decoded)
    first = tf.reduce_sum(tf.math.cumprod(tf.cast(along, tf.int32)))
    first = tf.minimum(first, total - 1)
    message = (
        "frame {} of clip {} cannot be decoded: a whole JPEG file is expected. Received "
        "{} bytes (counted from 0; {} of {} frames are broken)"
    )
    return checked(
        pixels,
        tf.equal(missing, 0),
        message,
        first % num_frames,
        first // num_frames,
        tf.strings.length(files[first]),
        missing,
        total,
    )
