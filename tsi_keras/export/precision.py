"""Exports compute in float32, whatever the precision of the training was."""

from typing import Any

import keras

from tsi_keras.models.video_classifier import VideoClassifier


def in_float32(model: VideoClassifier) -> VideoClassifier:
    """Return the model itself, or a copy that computes in float32 if it does not."""
    if {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}:
        return model
    return float32_copy(model)


def float32_copy(model: VideoClassifier) -> VideoClassifier:
    """Return a copy of a model, with the same weights, that computes in float32."""
    config = _without_mixed_precision(keras.saving.serialize_keras_object(model))
    policy = keras.config.dtype_policy()
    # Configurations of our networks leave the precision to the global policy.
    keras.config.set_dtype_policy("float32")
    try:
        copy = keras.saving.deserialize_keras_object(config)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _without_mixed_precision(config: Any) -> Any:
    """A configuration whose layers all compute in float32."""
    if isinstance(config, dict):
        return {key: _without_mixed_precision(v) for key, v in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_without_mixed_precision(value) for value in config)
    return "float32" if config in ("mixed_float16", "mixed_bfloat16") else config
