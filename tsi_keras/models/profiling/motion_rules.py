"""Cost rules of TEA and TCM: what their official codes compute."""

from tsi_keras.layers import MotionExcitation
from tsi_keras.layers import MultipleTemporalAggregation
from tsi_keras.layers import TemporalCorrelation
from tsi_keras.layers.temporal_correlation import MOTION_CHANNELS
from tsi_keras.models.profiling.costs import keep_inputs
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.costs import size
from tsi_keras.models.profiling.keras_rules import softmax_operations
from tsi_keras.models.profiling.tsi_rules import like
from tsi_keras.models.profiling.tsi_rules import normalized


@register_cost(MotionExcitation)
def motion_excitation(ledger, layer, inputs, output):
    """`(C d + 9 d) HW T + C d T`; the pooling is a module in the official code."""
    (x,) = inputs
    reduced = normalized(ledger, layer, "reduce", x)
    depth, frames = reduced.shape[-1], x.shape[0]
    ledger.spend(9 * size(reduced), 9 * size(reduced))
    ledger.spend(thop=size(reduced) + frames * depth)
    ledger.keep(like(x, x.shape[:3], depth, layer, precise=True))
    pooled = like(x, (frames, 1, 1), depth, layer)
    ledger.keep(normalized(ledger, layer, "expand", pooled))
    keep_inputs(ledger, layer, inputs)


@register_cost(MultipleTemporalAggregation)
def multiple_temporal_aggregation(ledger, layer, inputs, output):
    """`3 w HW T` per fragment, and `9 w^2 H'W' T` for all but the last."""
    (x,) = inputs
    width, last = x.shape[-1] // layer.scale, layer.scale - 1
    border = 0 if layer.strides == 1 else 2
    padded = (x.shape[0], *(n + border for n in x.shape[1:3]))
    for index in range(last):
        fragment = like(x, x.shape[:3], width, layer)
        ledger(getattr(layer, f"temporal_{index}"), fragment)
        mixed = like(x, padded, width, layer)
        mixed = ledger(getattr(layer, f"convs_{index}"), mixed)
        rectified = ledger(getattr(layer, f"bns_{index}"), mixed)
        ledger.keep(rectified)
    ledger(getattr(layer, f"temporal_{last}"), like(x, x.shape[:3], width, layer))
    if layer.block_type == "stage":
        ledger.spend(thop=size(rectified))  # the average pooling of the last fragment


@register_cost(TemporalCorrelation)
def temporal_correlation(ledger, layer, inputs, output):
    """The convolutions, and `2 (T-1) P^2 d HW` for the correlation of both tempos."""
    (x,) = inputs
    reduced = normalized(ledger, layer, "reduction", x)
    ledger.keep(reduced)  # of the ReLU
    _match(ledger, layer, x, reduced.shape[-1])
    y = like(x, x.shape[:3], MOTION_CHANNELS, layer)
    for convolution, norm in zip(
        layer.attention[::2], layer.attention[1::2], strict=True
    ):
        y = ledger(norm, ledger(convolution, y))
        ledger.keep(y)  # of the ReLU
    gates = x.shape[0] * x.shape[-1]
    window = layer.eta.kernel.shape[0]
    ledger.spend(window * gates, window * gates)
    ledger.spend(thop=size(y) + gates)  # its pooling is a module
    ledger.keep_elements(gates, layer.compute_dtype)


def _match(ledger, layer, x, depth):
    """Correlation and softmax over the patch; queries and keys are kept, no more."""
    clips = x.shape[0] // layer.num_frames
    pairs = clips * 2 * (layer.num_frames - 1)
    patch = layer.patch_size**2
    positions = pairs * x.shape[1] * x.shape[2]
    ledger.spend(macs=positions * patch * depth)
    ledger.spend(thop=softmax_operations(positions * patch, patch))
    normal = like(x, x.shape[:3], depth, layer, precise=True)
    matched = like(x, (pairs - clips, *x.shape[1:3]), 2 * depth, layer, precise=True)
    ledger.keep(normal, matched)
