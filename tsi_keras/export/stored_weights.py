"""Weights that take half the room in an exported model, and what that costs."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.export.parity import logits_on_cpu
from tsi_keras.export.parity_clips import EvaluationFrames
from tsi_keras.export.precision import float32_copy
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError

# How the variables of an export can be stored.
WEIGHTS = ("float32", "float16", "bfloat16")


def check_weights(weights: str) -> None:
    """Refuse an unknown type.

    Raises:
        InputError: it is none of `WEIGHTS`.
    """
    if weights not in WEIGHTS:
        raise InputError(
            f"`--weights` must be one of {', '.join(WEIGHTS)}. Received: {weights!r}"
        )


def stored_network(
    model: VideoClassifier, weights: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from clips to logits that is exported.

    With float32 it is the model. Otherwise every kernel (two dimensions or more) is kept
    in a variable of half its size and becomes float32 where it is used; biases and the
    vectors of BN, less than 1 % of a network, stay as they are.

    Args:
        model: the classifier.
        weights: one of `WEIGHTS`.

    Raises:
        InputError: an unknown type, or a weight that float16 cannot hold.
    """
    check_weights(weights)
    if weights == "float32":
        return lambda frames: model(frames, training=False)
    stored = [
        (variable, tf.Variable(_half(variable, weights), trainable=False))
        for variable in _kernels(model)
    ]

    def network(frames: tf.Tensor) -> tf.Tensor:
        whole = [(variable, tf.cast(half, tf.float32)) for variable, half in stored]
        with keras.StatelessScope(state_mapping=whole):
            return model(frames, training=False)

    return network


def rounded_model(model: VideoClassifier, weights: str) -> VideoClassifier:
    """Return a copy whose kernels hold only what `weights` can hold.

    Raises:
        InputError: an unknown type, or a weight that float16 cannot hold.
    """
    check_weights(weights)
    copy = float32_copy(model)
    if weights != "float32":
        for variable in _kernels(copy):
            variable.assign(tf.cast(_half(variable, weights), tf.float32))
    return copy


def rounding_effect(
    model: VideoClassifier,
    rounded: VideoClassifier,
    jpegs: list[list[bytes]],
    options: ClipOptions,
) -> dict[str, float]:
    """How far the logits of two models are apart, on clips of JPEG frames.

    Args:
        model: the one in float32.
        rounded: the one that is exported.
        jpegs: per clip a list of T JPEG files.
        options: sizes.

    Returns:
        JSON-ready: `max_difference` and `mean_difference` of the logits, and
        `top1_agreement`, the share of clips whose largest logit is the same.
    """
    # On the CPU: a GPU may itself compute with no more digits than float16 has.
    frames = EvaluationFrames(jpegs, options)
    expected, actual = (logits_on_cpu(m, frames) for m in (model, rounded))
    gap = np.abs(expected - actual)
    return {
        "max_difference": float(gap.max()),
        "mean_difference": float(gap.mean()),
        "top1_agreement": float((expected.argmax(1) == actual.argmax(1)).mean()),
    }


def _kernels(model: VideoClassifier) -> list[keras.Variable]:
    """The variables that make up the size of a model."""
    return [w for w in model.weights if w.dtype == "float32" and len(w.shape) > 1]


def _half(variable: keras.Variable, weights: str) -> tf.Tensor:
    """The values in half precision; float16 ends at 65504."""
    half = tf.cast(variable.value, weights)
    if not bool(tf.reduce_all(tf.math.is_finite(half))):
        largest = float(tf.reduce_max(tf.abs(variable.value)))
        raise InputError(
            f"`--weights` {weights} cannot hold {variable.path!r}, whose largest value "
            f"is {largest:.3g}; use bfloat16 or float32."
        )
    return half
