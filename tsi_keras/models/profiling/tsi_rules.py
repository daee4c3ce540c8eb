"""Cost rules of TSI's modules, and what the rules of all temporal modules share.

Each rule follows the mathematics of its layer, with the layer's own sub-layers on
symbolic tensors, so that options such as `use_bn` are reflected. What is kept for the
backward pass is what the layer's implementation keeps.
"""

import keras

from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import FoldFrames
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers import UnfoldFrames
from tsi_keras.models.image_preprocessing import ImagePreprocessing
from tsi_keras.models.profiling.costs import keep_inputs
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.costs import size
from tsi_keras.models.profiling.keras_rules import softmax_operations


@register_cost(FoldFrames, UnfoldFrames, ImagePreprocessing)
def free(ledger, layer, inputs, output):
    """Reshapes, and the scaling of frames."""


@register_cost(TemporalConv1D)
def temporal_convolution(ledger, layer, inputs, output):
    """`k C HW T`."""
    macs = layer.kernel.shape[0] * size(output)
    ledger.spend(macs, macs)
    keep_inputs(ledger, layer, inputs)


@register_cost(CrossScaleTemporalIntegration)
def cross_scale_integration(ledger, layer, inputs, output):
    """`3 (G-1) g HW T` for the convolutions, `(G-1) g^2 T` for the Dense layers.

    Per group the mixing keeps the difference of its two operands and alpha, and the
    convolution its input.
    """
    x = inputs[0]
    width, frames = x.shape[-1] // layer.groups, layer.num_frames
    clips = x.shape[0] // frames
    for dense, convolution in zip(layer.integrate, layer.temporal, strict=True):
        group = like(x, x.shape[:3], width, layer)
        alpha = ledger(dense, like(x, (clips, frames), width, layer))
        if layer.integration != "branch":
            rows = {"channel": clips * frames, "time": clips * width, "joint": clips}
            length = size(alpha) // rows[layer.integration]
            ledger.spend(thop=softmax_operations(size(alpha), length))
        ledger.keep(alpha, group)
        ledger(convolution, like(x, x.shape[:3], width, layer))


@register_cost(SalientMotionExcitation)
def salient_motion(ledger, layer, inputs, output):
    """`T HW C d` to reduce, attention per pair, `9 L d HW (T-1)` for the pyramid.

    The recovery costs `T C d` after pooling, `T HW C d` before it.
    """
    (x,) = inputs
    reduced = normalized(ledger, layer, "reduce", x)
    pairs = (x.shape[0] // layer.num_frames) * (layer.num_frames - 1)
    depth = reduced.shape[-1]
    aligned = like(x, (pairs, *x.shape[1:3]), depth, layer, precise=True)
    _align(ledger, layer.alignment, aligned)
    _pyramid(ledger, layer, aligned)
    pooled = layer.attention == "channel" and layer.pool_first
    positions = (1, 1) if pooled else x.shape[1:3]
    motion = like(x, (x.shape[0], *positions), depth, layer)
    encoded = normalized(ledger, layer, "expand", motion)
    if layer.attention == "none":
        return
    if layer.attention == "channel":
        encoded = like(x, (x.shape[0], 1, 1), x.shape[-1], layer)
    ledger.keep(encoded)  # as the gate
    keep_inputs(ledger, layer, inputs)


def _align(ledger, mode: str, aligned):
    """Both products of the attention of Eq. 3; query, key and attended are kept."""
    if mode == "none":
        return
    pairs, height, width, depth = aligned.shape
    positions = height * width
    ledger.keep_elements(3 * size(aligned), aligned.dtype)
    if mode == "softmax":
        scores = pairs * positions**2
        ledger.spend(2 * scores * depth, softmax_operations(scores, positions))
    elif mode == "row":
        scores = pairs * depth * height**2
        ledger.spend(2 * scores * width, softmax_operations(scores, height))
        ledger.keep_elements(scores, aligned.dtype)
    else:
        ledger.spend(2 * size(aligned) * depth)
        ledger.keep_elements(pairs * depth**2, aligned.dtype)
    if mode == "efficient":
        over_positions = softmax_operations(size(aligned), positions)
        ledger.spend(thop=over_positions + softmax_operations(size(aligned), depth))
        ledger.keep_elements(2 * size(aligned), aligned.dtype)


def _pyramid(ledger, layer, aligned):
    """The cascade of Eq. 4; linear and pooled it keeps its first input only."""
    linear = layer.attention == "channel" and layer.pool_first
    linear = linear and layer.pyramid_activation is None
    for convolution in layer.pyramid:
        ledger.spend(9 * size(aligned), 9 * size(aligned))
        if linear:
            ledger.keep(aligned)
        else:
            keep_inputs(ledger, convolution, [like_tensor(aligned)])
        if layer.pyramid_activation is not None:
            ledger.keep_elements(size(aligned), convolution.compute_dtype)


def normalized(ledger, layer, name: str, x):
    """The sub-layer `name`, and `name_bn` after it where the layer has one."""
    x = ledger(getattr(layer, name), x)
    after = getattr(layer, f"{name}_bn", None)
    return x if after is None else ledger(after, x)


def like(x, leading, channels: int, layer, precise: bool = False):
    """A new tensor `(*leading, channels)` in the layer's type (float32 if `precise`)."""
    dtype = layer.compute_dtype
    if precise and dtype != "float64":
        dtype = "float32"
    return keras.KerasTensor((*leading, channels), dtype=dtype)


def like_tensor(x):
    """Another tensor of the same shape and type."""
    return keras.KerasTensor(x.shape, dtype=x.dtype)
