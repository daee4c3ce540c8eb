"""RandAugment of a whole clip: a few random operations of one strength.

The operations are the paper's 14. Those of tf-models-official are used where they are
right for clips: AutoContrast, Equalize and Posterize, whose one table of values serves
all frames. Its `RandAugment` itself draws with a stateful generator, so that no run
could be repeated or resumed, and its strengths have a zero that changes the picture. Of
its operations, Contrast moves clips away from white instead of their mean, Cutout covers
some frames only, Color and Brightness take no random direction, and Sharpness, Solarize
and the geometric ones take several times as long as these.

Reference:
    [Cubuk et al., RandAugment](https://arxiv.org/abs/1909.13719).
"""

import importlib
import math
from collections.abc import Callable
from types import ModuleType

import tensorflow as tf

from tsi_keras.data.augmentation_color import recolor
from tsi_keras.utils.errors import InputError

# (frames, strength 0..1, +1 or -1) -> frames
_Operation = Callable[[tf.Tensor, float, tf.Tensor], tf.Tensor]

# Strengths at the largest magnitude, 10.
_DEGREES = 30.0
_SHEAR = 0.3
_SHIFT = 0.45  # of the side
_FACTOR = 0.9  # of colour, contrast, brightness and sharpness: from 0.1 to 1.9
_BITS = 4  # taken off by Posterize

# What comes in from beyond the border.
_GREY = 128.0


def rand_augment(
    frames: tf.Tensor, operations: int, magnitude: float, seed: tf.Tensor
) -> tf.Tensor:
    """Apply so many operations out of 14, drawn with replacement, to all frames alike.

    Args:
        frames: uint8 `(T, S, S, 3)`, RGB; S static.
        operations: how many, one after the other.
        magnitude: strength from 0 (nothing, but for AutoContrast and Equalize, which
            have no strength) to 10.
        seed: integers `(2,)`; equal seeds draw equal operations.

    Returns:
        uint8 `(T, S, S, 3)`.

    Raises:
        InputError: tf-models-official is not installed.

    Example:
        ```python
        rand_augment(frames, operations=2, magnitude=9.0, seed=[0, 1])
        ```
    """
    names = list(_operations())
    draws = tf.random.stateless_uniform((operations, 2), seed)
    for draw in tf.unstack(draws):
        number = tf.cast(draw[0] * len(names), tf.int32)
        sign = tf.where(draw[1] < 0.5, -1.0, 1.0)
        branches = [
            lambda name=name, old=frames, sign=sign: apply_operation(
                name, old, magnitude, sign
            )
            for name in names
        ]
        frames = tf.ensure_shape(tf.switch_case(number, branches), frames.shape)
    return frames


def apply_operation(
    name: str, frames: tf.Tensor, magnitude: float, sign: float | tf.Tensor
) -> tf.Tensor:
    """Apply one operation by its name in the paper, such as `"Rotate"`.

    Args:
        name: one of `operation_names()`.
        frames: uint8 `(T, S, S, 3)`.
        magnitude: strength from 0 to 10.
        sign: 1 or -1: which way, for operations that have two.

    Returns:
        uint8 `(T, S, S, 3)`.
    """
    return _operations()[name](frames, magnitude / 10, sign)


def operation_names() -> list[str]:
    """Return the names of the 14 operations in the order of their draws."""
    return list(_operations())


def _operations() -> dict[str, _Operation]:
    """The paper's operations by name."""
    official = official_operations()

    def posterize(frames, strength, sign):
        bits = round(strength * _BITS)
        return official.posterize(frames, 8 - bits) if bits else frames

    return {
        "Identity": lambda frames, strength, sign: frames,
        "AutoContrast": lambda frames, *_: official.autocontrast(frames),
        "Equalize": lambda frames, *_: official.equalize(frames),
        "Rotate": _rotate,
        "Solarize": _solarize,
        "Color": _enhancer("saturation"),
        "Posterize": posterize,
        "Contrast": _enhancer("contrast"),
        "Brightness": _enhancer("brightness"),
        "Sharpness": _sharpness,
        "ShearX": lambda frames, strength, sign: _affine(
            frames, [1.0, sign * strength * _SHEAR, 0.0, 1.0]
        ),
        "ShearY": lambda frames, strength, sign: _affine(
            frames, [1.0, 0.0, sign * strength * _SHEAR, 1.0]
        ),
        "TranslateX": lambda frames, strength, sign: _affine(
            frames, _SAME, x=sign * strength * _SHIFT
        ),
        "TranslateY": lambda frames, strength, sign: _affine(
            frames, _SAME, y=sign * strength * _SHIFT
        ),
    }


@tf.autograph.experimental.do_not_convert
def official_operations() -> ModuleType:
    """Return tf-models-official's image operations; it is imported only here.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("official.vision.ops.augment")
    except ImportError as error:
        raise InputError(
            "`rand_augment` needs tf-models-official, which cannot be imported "
            f"({error}); install it with: pip install 'tsi_keras[models]'"
        ) from error


def _enhancer(factor: str) -> _Operation:
    """An operation that strengthens or weakens one property of the colours."""

    def enhance(frames, strength, sign):
        return recolor(frames, **{factor: 1.0 + sign * strength * _FACTOR})

    return enhance


def _solarize(frames: tf.Tensor, strength: float, sign: float | tf.Tensor) -> tf.Tensor:
    """Invert what is bright; the stronger, the less bright it needs to be."""
    threshold = 256 - round(strength * 256)
    if threshold == 256:
        return frames
    # 255 - x is x with all bits turned.
    bright = tf.cast(frames >= threshold, tf.uint8) * 255
    return tf.bitwise.bitwise_xor(frames, bright)


_SAME = [1.0, 0.0, 0.0, 1.0]


def _rotate(frames: tf.Tensor, strength: float, sign: float | tf.Tensor) -> tf.Tensor:
    """Turn about the centre."""
    angle = sign * strength * math.radians(_DEGREES)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _affine(frames, [cos, -sin, sin, cos])


def _affine(
    frames: tf.Tensor,
    matrix: list[float | tf.Tensor],
    x: float | tf.Tensor = 0.0,
    y: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """Take each pixel from `matrix` times its place about the centre, and a shift.

    Args:
        frames: uint8 `(T, S, S, 3)`.
        matrix: row by row.
        x: shift to the right, as a share of the side.
        y: shift down.
    """
    size = frames.shape[1:3]
    centre = tf.constant([size[1] - 1, size[0] - 1], tf.float32) / 2
    linear = tf.reshape(tf.stack([tf.cast(v, tf.float32) for v in matrix]), (2, 2))
    shift = tf.stack([x * float(size[1]), y * float(size[0])])
    offset = centre - tf.linalg.matvec(linear, centre) - shift
    rows = tf.concat([linear, offset[:, None]], 1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=frames,
        transforms=tf.concat([tf.reshape(rows, (1, 6)), tf.zeros((1, 2))], 1),
        output_shape=size,
        fill_value=_GREY,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )


def _sharpness(
    frames: tf.Tensor, strength: float, sign: float | tf.Tensor
) -> tf.Tensor:
    """Add or take off the difference to Pillow's smoothed picture, but at the border."""
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernel = tf.tile(kernel[:, :, None, None], (1, 1, 3, 1))
    pixels = tf.cast(frames, tf.float32)
    smooth = tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "VALID")
    detail = pixels[:, 1:-1, 1:-1] - smooth
    detail = tf.pad(detail, ((0, 0), (1, 1), (1, 1), (0, 0)))
    sharper = pixels + sign * strength * _FACTOR * detail
    return tf.cast(tf.clip_by_value(sharper + 0.5, 0.0, 255.0), tf.uint8)
