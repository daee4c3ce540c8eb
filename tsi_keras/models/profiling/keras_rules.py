"""Cost rules of the layers of Keras; the conventions are those of `profile`."""

import math

from keras import KerasTensor
from keras import activations
from keras import layers

from tsi_keras.models.profiling.costs import keep_inputs
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.costs import size

# What the derivative of an activation needs; all others need their input.
FROM_OUTPUT = {"relu", "relu6", "sigmoid", "tanh", "softmax", "elu", "leaky_relu"}


@register_cost(
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.Dense,
)
def weighted_sum(ledger, layer, inputs, output):
    """Every output element is a sum over the kernel's axes but the last.

    A depthwise kernel is `(*window, C, multiplier)`: over the window only.
    """
    summed = layer.kernel.shape[:-1]
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        summed = summed[:-1]
    macs = size(output) * math.prod(summed)
    ledger.spend(macs, macs)
    keep_inputs(ledger, layer, inputs)
    activated(ledger, layer.activation, output)


@register_cost(layers.SeparableConv1D, layers.SeparableConv2D)
def separable(ledger, layer, inputs, output):
    window = math.prod(layer.depthwise_kernel.shape[:-2])
    between = math.prod(layer.depthwise_kernel.shape[-2:])
    positions = size(output) // layer.filters
    macs = positions * between * (window + layer.filters)
    ledger.spend(macs, macs)
    keep_inputs(ledger, layer, inputs)
    ledger.keep_elements(positions * between, layer.compute_dtype)
    activated(ledger, layer.activation, output)


@register_cost(layers.EinsumDense)
def einsum_dense(ledger, layer, inputs, output):
    """Every output element sums over the kernel's axes that the output lacks."""
    operands, result = layer.equation.split("->")
    axes = zip(operands.split(",")[1], layer.kernel.shape, strict=True)
    macs = size(output) * math.prod(n for letter, n in axes if letter not in result)
    ledger.spend(macs, macs)
    keep_inputs(ledger, layer, inputs)
    activated(ledger, layer.activation, output)


@register_cost(layers.BatchNormalization)
def batch_normalization(ledger, layer, inputs, output):
    affine = layer.scale or layer.center
    ledger.spend(thop=(4 if affine else 2) * size(output))
    keep_inputs(ledger, layer, inputs)


@register_cost(layers.LayerNormalization)
def layer_normalization(ledger, layer, inputs, output):
    affine = layer.scale or layer.center
    ledger.spend(thop=(4 if affine else 2) * size(output))
    keep_inputs(ledger, layer, inputs)


@register_cost(
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.Multiply,
    layers.Maximum,
    layers.Minimum,
    "LayerScale",  # of keras.applications' ConvNeXt
)
def inputs_only(ledger, layer, inputs, output):
    """Nothing that is counted, but the derivative needs the inputs."""
    keep_inputs(ledger, layer, inputs)


@register_cost(
    layers.ActivityRegularization,
    layers.Add,
    layers.Average,
    layers.Concatenate,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Embedding,
    layers.Flatten,
    layers.GaussianNoise,
    layers.Identity,
    layers.InputLayer,
    layers.Masking,
    layers.Normalization,
    layers.Permute,
    layers.RepeatVector,
    layers.Rescaling,
    layers.Reshape,
    layers.Resizing,
    layers.Subtract,
    layers.UpSampling1D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    "StochasticDepth",
)
def free(ledger, layer, inputs, output):
    """No multiply-adds, and a derivative that needs no tensor."""


@register_cost(layers.UpSampling2D)
def up_sampling(ledger, layer, inputs, output):
    per_element = {"nearest": 1, "bilinear": 11, "bicubic": 259}
    ledger.spend(thop=per_element.get(layer.interpolation, 0) * size(output))


@register_cost(
    layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D
)
def average_pooling(ledger, layer, inputs, output):
    ledger.spend(thop=size(output))


@register_cost(
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
)
def global_average_pooling(ledger, layer, inputs, output):
    """thop: one addition per element and one division per mean."""
    ledger.spend(thop=size(inputs[0]) + size(output))


@register_cost(
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.AdaptiveMaxPooling1D,
    layers.AdaptiveMaxPooling2D,
    layers.AdaptiveMaxPooling3D,
)
def max_pooling(ledger, layer, inputs, output):
    keep_inputs(ledger, layer, inputs)
    ledger.keep(output)


@register_cost(layers.ReLU, layers.LeakyReLU, layers.ELU)
def rectifier(ledger, layer, inputs, output):
    ledger.keep(output)


@register_cost(layers.PReLU)
def parametric_rectifier(ledger, layer, inputs, output):
    ledger.spend(thop=size(output))
    keep_inputs(ledger, layer, inputs)


@register_cost(layers.Activation)
def activation(ledger, layer, inputs, output):
    name = activation_name(layer.activation)
    if name == "softmax":
        ledger.spend(thop=softmax_operations(size(output), output.shape[-1]))
    if name in FROM_OUTPUT:
        ledger.keep(output)
    elif name != "linear":
        keep_inputs(ledger, layer, inputs)


@register_cost(layers.Softmax)
def softmax(ledger, layer, inputs, output):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    length = math.prod(output.shape[axis] for axis in axes)
    ledger.spend(thop=softmax_operations(size(output), length))
    ledger.keep(output)


@register_cost(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
def dropout(ledger, layer, inputs, output):
    """The mask is kept."""
    if layer.rate:
        ledger.keep_elements(size(output), "bool")


@register_cost(layers.Dot)
def dot(ledger, layer, inputs, output):
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    ledger.spend(macs=size(output) * inputs[0].shape[axes])
    keep_inputs(ledger, layer, inputs)


@register_cost(layers.MultiHeadAttention)
def multi_head_attention(ledger, layer, inputs, output):
    """Projections, both products, and the softmax of the attention maps."""
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    key = inputs[2] if len(inputs) > 2 else value
    q, k = ledger(layer.query_dense, query), ledger(layer.key_dense, key)
    v = ledger(layer.value_dense, value)
    axes = layer.get_config()["attention_axes"] or range(1, len(value.shape) - 1)
    attended = attention(ledger, q, k, v, math.prod(value.shape[a] for a in axes))
    ledger(layer.output_dense, attended)


def attention(ledger, q, k, v, keys: int):
    """`softmax(q k^T) v` of heads `(..., d)`, each query seeing `keys` positions."""
    scores = size(q) // q.shape[-1] * keys
    ledger.spend(macs=scores * (q.shape[-1] + v.shape[-1]))
    ledger.spend(thop=softmax_operations(scores, keys))
    ledger.keep(q, k, v)
    ledger.keep_elements(scores, q.dtype)
    return KerasTensor((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)


@register_cost(layers.LSTM)
def lstm(ledger, layer, inputs, output):
    (x,) = inputs
    steps, features, units = x.shape[0] * x.shape[1], x.shape[-1], layer.units
    gates = 4 * (features + units) * units
    # thop also counts the additions of two biases and of the gates (12 + 4 per unit).
    ledger.spend(macs=steps * gates, thop=steps * (gates + 16 * units))
    keep_inputs(ledger, layer, inputs)
    # Four gates, the cell state and its tanh, and the output of every step.
    ledger.keep_elements(7 * steps * units, layer.compute_dtype)


@register_cost(layers.Bidirectional)
def bidirectional(ledger, layer, inputs, output):
    ledger(layer.forward_layer, *inputs)
    ledger(layer.backward_layer, *inputs)


def activated(ledger, function, output):
    """What the derivative of a layer's own activation needs, given its output."""
    name = activation_name(function)
    if name in FROM_OUTPUT:
        ledger.keep(output)
    elif name != "linear":
        ledger.keep_elements(size(output), output.dtype)


def activation_name(function) -> str:
    """`"relu"`, `"linear"`, ... of an activation function."""
    if function is None or function is activations.linear:
        return "linear"
    name = getattr(function, "name", None) or getattr(function, "__name__", "")
    return str(name)


def softmax_operations(elements: int, length: int) -> int:
    """thop: an exponential and a division per element, `length - 1` additions per row."""
    return 3 * elements - elements // length
