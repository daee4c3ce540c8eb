"""Batch normalisation folded into the convolutions in front of it, for inference."""

from collections import Counter
from dataclasses import replace

import keras
import numpy as np
from keras import layers

from tsi_keras.models.layer_graph import Call
from tsi_keras.models.layer_graph import LayerGraph
from tsi_keras.models.layer_graph import read_graph
from tsi_keras.models.layer_graph import rebuild
from tsi_keras.models.video_backbone import VideoBackbone
from tsi_keras.models.video_classifier import VideoClassifier

# Subclasses may compute something else with their kernel.
_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy that computes the same in inference with fewer layers.

    Every `Conv2D` and `DepthwiseConv2D` whose only consumer is a BatchNormalization gets
    its scale, multiplied into the kernel, and its shift, as a bias; the normalisation is
    gone. Layers inside a temporal module are not touched, nor are convolutions with an
    activation of their own, shared layers, BN that always normalises by the batch, and
    layers that compute in half precision (whose rounding would change).

    Products are formed in float64 and rounded once. What remains is the difference of
    two orders of summation: some 5e-6 of the largest logit in a ResNet-50.

    Args:
        model: a `VideoClassifier`, whose backbone is folded, or any functional or
            Sequential model with one input. It stays as it is.

    Returns:
        A `VideoClassifier` with the same names, classes and preprocessing; a
        `VideoBackbone` for a backbone that knows its number of frames; otherwise a
        `keras.Model`. Nested models are replaced by their layers. It is meant for
        inference: training it trains another network than the original.

    Raises:
        ValueError: a model whose layers cannot be followed or copied.

    Example:
        ```python
        fast = fold_batch_norm(load_classifier("runs/mine"))
        fast.predict(clips)
        ```
    """
    if isinstance(model, VideoClassifier):
        return _fold_classifier(model)
    graph = read_graph(model)
    for convolution, norm in _pairs(graph):
        _merge(graph, convolution, norm)
    (source,) = model.inputs
    inputs = keras.Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)
    outputs = rebuild(graph, inputs, lambda call, value, x: x, lambda value, x: x)
    num_frames = getattr(model, "num_frames", None)
    if num_frames is None:
        return keras.Model(inputs, outputs, name=model.name)
    temporal = getattr(model, "temporal", None)
    registered = temporal if isinstance(temporal, str) else None
    return VideoBackbone(inputs, outputs, num_frames, registered, name=model.name)


def foldable_layers(model: keras.Model) -> list[tuple[str, str]]:
    """Names of the convolutions and the normalisations that go into them.

    Args:
        model: as for `fold_batch_norm`.

    Raises:
        ValueError: a model whose layers cannot be followed.

    Example:
        ```python
        foldable_layers(TSNResNet50())[0]  # ("conv1", "bn1")
        ```
    """
    if isinstance(model, VideoClassifier):
        model = model.backbone
    return [(conv.name, norm.name) for conv, norm in _pairs(read_graph(model))]


def _fold_classifier(model: VideoClassifier) -> VideoClassifier:
    """The same head on a folded backbone."""
    folded = type(model)(
        fold_batch_norm(model.backbone),
        model.num_classes,
        model.dropout_rate,
        model.class_names,
        model.preprocessing,
        model.head_stddev,
        name=model.name,
    )
    head = folded.get_layer("classifier")
    head.set_weights(model.get_layer("classifier").get_weights())
    return folded


def _pairs(graph: LayerGraph) -> list[tuple[Call, Call]]:
    """Convolutions and the normalisations that are all there is behind them."""
    consumers = {}
    for call in graph.calls:
        for value in call.inputs:
            consumers.setdefault(value, []).append(call)
    results = set(keras.tree.flatten(graph.output))
    times = Counter(call.operation for call in graph.calls)
    pairs = []
    for call in graph.calls:
        behind = consumers.get(call.outputs[0], [])
        if len(behind) != 1 or call.outputs[0] in results:
            continue
        once = times[call.operation] == times[behind[0].operation] == 1
        if once and _is_plain(call) and _normalizes_channels(behind[0], call.operation):
            pairs.append((call, behind[0]))
    return pairs


def _is_plain(call: Call) -> bool:
    """Whether the call is a convolution and nothing besides, in float32."""
    layer = call.operation
    return (
        type(layer) in _CONVOLUTIONS
        and layer.activation is keras.activations.linear
        and layer.compute_dtype == "float32"
        and not getattr(layer, "lora_enabled", False)
    )


def _normalizes_channels(call: Call, convolution: layers.Layer) -> bool:
    """Whether the call is BN by stored statistics, over the convolution's channels."""
    layer = call.operation
    # Ours inherits `call`; a subclass with another one computes something else.
    if getattr(type(layer), "call", None) is not layers.BatchNormalization.call:
        return False
    channels = 3 if convolution.data_format == "channels_last" else 1
    by_stored = not call.kwargs.get("training") and call.kwargs.get("mask") is None
    in_float32 = layer.compute_dtype == "float32"
    return by_stored and in_float32 and layer.axis % 4 == channels


def _merge(graph: LayerGraph, convolution: Call, norm: Call) -> None:
    """Put one convolution with a bias in the place of the two."""
    layer = _folded(convolution, norm.operation)
    merged = replace(convolution, operation=layer, outputs=norm.outputs)
    graph.calls[graph.calls.index(convolution)] = merged
    graph.calls.remove(norm)


def _folded(call: Call, norm: layers.BatchNormalization) -> layers.Layer:
    """A convolution, built, with the weights of the two layers."""
    layer = call.operation
    # No time for random values that are replaced at once.
    plain = {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
    if isinstance(layer, layers.DepthwiseConv2D):
        plain["depthwise_initializer"] = plain.pop("kernel_initializer")
    config = {**layer.get_config(), **plain, "use_bias": True}
    folded = type(layer).from_config(config)
    folded.build(call.inputs[0].shape)
    scale, shift = _scale_and_shift(norm)
    kernel = _float64(layer.kernel)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel *= scale.reshape(kernel.shape[2:])  # (C, multiplier)
    else:
        kernel *= scale
    bias = shift + (scale * _float64(layer.bias) if layer.use_bias else 0.0)
    folded.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return folded


def _scale_and_shift(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What the normalisation does to every channel, float64 `(C,)` each."""
    scale = 1.0 / np.sqrt(_float64(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale *= _float64(norm.gamma)
    shift = -scale * _float64(norm.moving_mean)
    if norm.center:
        shift += _float64(norm.beta)
    return scale, shift


def _float64(variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype(np.float64)
