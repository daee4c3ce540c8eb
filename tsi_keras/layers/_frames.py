"""Folding and unfolding of the time axis, and the checks every module shares."""

from numbers import Real

import keras
from keras import ops

from tsi_keras.layers.export_scope import is_exporting


def check_num_frames(num_frames: int, minimum: int = 1) -> int:
    """Return `num_frames` as an int of at least `minimum`, or raise `ValueError`."""
    if (
        isinstance(num_frames, bool)
        or not isinstance(num_frames, Real)
        or int(num_frames) != num_frames
    ):
        raise ValueError(f"`num_frames` must be an integer. Received: {num_frames!r}")
    if num_frames < minimum:
        raise ValueError(
            f"`num_frames` must be at least {minimum}. Received: num_frames={num_frames}"
        )
    return int(num_frames)


def check_positive(argument: str, value) -> int:
    """Return `value` as an int of at least 1, or raise a `ValueError` naming it."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or int(value) != value
        or value < 1
    ):
        raise ValueError(
            f"`{argument}` must be a positive integer. Received: {argument}={value!r}"
        )
    return int(value)


def check_choice(argument: str, value, choices: tuple):
    """Return `value` if it is one of `choices`, or raise a `ValueError` naming them."""
    if value not in choices:
        raise ValueError(
            f"`{argument}` must be one of {list(choices)}. "
            f"Received: {argument}={value!r}"
        )
    return value


def check_frame_maps(input_shape, num_frames: int, layer: str) -> int:
    """Check a `(N*T, H, W, C)` shape and return C."""
    if len(input_shape) != 4:
        raise ValueError(
            f"{layer} expects frame maps of shape (N*T, H, W, C). "
            f"Received shape: {tuple(input_shape)}"
        )
    batch, channels = input_shape[0], input_shape[-1]
    if channels is None:
        raise ValueError(
            f"{layer} needs a known number of channels in the last axis (channels_last). "
            f"Received shape: {tuple(input_shape)}"
        )
    if batch is not None and batch % num_frames:
        raise ValueError(
            f"{layer} was built for num_frames={num_frames}, and the batch axis must be "
            f"a multiple of it (clips x frames). Received shape: {tuple(input_shape)}"
        )
    return int(channels)


def check_divisible(channels: int, argument: str, value: int) -> int:
    """Return `channels / value`, or raise a `ValueError` naming the argument."""
    if channels % value:
        raise ValueError(
            f"The {channels} channels of the input must be divisible by `{argument}`. "
            f"Received: {argument}={value}"
        )
    return channels // value


def unfold_frames(x, num_frames: int):
    """`(N*T, ...)` to `(N, T, ...)`; every other axis may be dynamic."""
    check_frame_count(x, num_frames)
    return ops.reshape(x, (-1, num_frames, *ops.shape(x)[1:]))


def fold_frames(x):
    """`(N, T, ...)` to `(N*T, ...)`."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def check_frame_count(x, num_frames: int) -> None:
    """Raise when a statically known batch axis is not a multiple of `num_frames`."""
    batch = x.shape[0]
    if batch is not None and batch % num_frames:
        raise ValueError(
            f"The batch axis must be a multiple of num_frames={num_frames} (clips x "
            f"frames). Received shape: {tuple(x.shape)}"
        )


def precise_dtype(x) -> str:
    """float64 for float64 tensors, float32 for every other floating type."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return "float64" if dtype == "float64" else "float32"


def cut(x, axis: int, start: int, stop: int):
    """`x[..., start:stop, ...]` along one axis, both ends counted from the first."""
    shape = list(x.shape)
    if is_exporting() and None not in shape:
        # XNNPACK takes a slice of explicit sizes, but none with open ends.
        begin = [0] * len(shape)
        begin[axis], shape[axis] = start, stop - start
        return ops.slice(x, begin, shape)
    index = [slice(None)] * len(shape)
    index[axis] = slice(start, stop)
    return x[tuple(index)]


def current_frames(clips):
    """Clips `(N, T, ...)` without the last frame."""
    return cut(clips, 1, 0, clips.shape[1] - 1)


def following_frames(clips):
    """Clips `(N, T, ...)` without the first frame."""
    return cut(clips, 1, 1, clips.shape[1])


def pad_frames(clips, widths):
    """Clips `(N, T, ...)` with `widths` = (before, after) frames of zeros added."""
    return ops.pad(clips, [(0, 0), widths, *[(0, 0)] * (len(clips.shape) - 2)])
