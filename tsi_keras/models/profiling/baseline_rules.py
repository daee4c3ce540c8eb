"""Cost rules of TSM, TEINet, STM, TANet and GSM: the formulas of their papers.

Where a module works on the T - 1 differences of a clip, its small convolutions are
counted for all T frames, as the papers' reimplementations compute them.
"""

from tsi_keras.layers import ChannelwiseMotion
from tsi_keras.layers import ChannelwiseSpatioTemporal
from tsi_keras.layers import GateShift
from tsi_keras.layers import MotionEnhancement
from tsi_keras.layers import TemporalAdaptive
from tsi_keras.layers import TemporalShift
from tsi_keras.models.profiling.costs import keep_inputs
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.costs import size
from tsi_keras.models.profiling.keras_rules import activated
from tsi_keras.models.profiling.keras_rules import softmax_operations
from tsi_keras.models.profiling.tsi_rules import like
from tsi_keras.models.profiling.tsi_rules import normalized


@register_cost(TemporalShift)
def temporal_shift(ledger, layer, inputs, output):
    """Moves memory only."""


@register_cost(MotionEnhancement)
def motion_enhancement(ledger, layer, inputs, output):
    """`3 C d T`: three convolutions of pooled frames."""
    (x,) = inputs
    pooled = like(x, (x.shape[0], 1, 1), x.shape[-1], layer)
    for name in ("reduce_current", "reduce_next"):
        reduced = normalized(ledger, layer, name, pooled)
        activated(ledger, layer.activation, reduced)
    gate = ledger(layer.expand, like(x, reduced.shape[:3], reduced.shape[-1], layer))
    ledger.keep(gate)
    keep_inputs(ledger, layer, inputs)


@register_cost(ChannelwiseMotion)
def channelwise_motion(ledger, layer, inputs, output):
    """`(2 C d + 9 d) HW T`, the last convolution at the stride."""
    (x,) = inputs
    reduced = normalized(ledger, layer, "reduce", x)
    ledger(layer.transform, reduced)
    motion = like(x, output.shape[:3], reduced.shape[-1], layer)
    normalized(ledger, layer, "expand", motion)


@register_cost(ChannelwiseSpatioTemporal)
def channelwise_spatio_temporal(ledger, layer, inputs, output):
    """`3 C HW T`, and the spatial convolution where the layer has one."""
    (x,) = inputs
    ledger(layer.temporal, x)
    if layer.spatial_kernel_size is None:
        return
    summed = layer.spatial_kernel_size**2 * x.shape[-1]
    ledger.spend(summed * size(output), summed * size(output))
    border = 2 * (layer.spatial_kernel_size // 2)
    padded = (x.shape[0], *(n + border for n in x.shape[1:3]))
    ledger.keep(like(x, padded, x.shape[-1], layer))


@register_cost(TemporalAdaptive)
def temporal_adaptive(ledger, layer, inputs, output):
    """`(2 T^2 + 6 T) C + C^2 T` for the branches, `3 C HW T` for the convolution.

    The convolution's kernel is computed: thop, which knows modules, misses it.
    """
    (x,) = inputs
    frames, channels = layer.num_frames, x.shape[-1]
    clips = x.shape[0] // frames
    hidden = ledger(layer.global_expand, like(x, (clips, channels), frames, layer))
    ledger.keep(hidden)
    weights = ledger(layer.global_kernel, ledger(layer.global_bn, hidden))
    ledger.spend(thop=softmax_operations(size(weights), 3))
    reduced = ledger(layer.local_reduce, like(x, (clips, frames), channels, layer))
    gate = ledger(layer.local_expand, ledger(layer.local_bn, reduced))
    ledger.keep(weights, gate)
    ledger.spend(macs=3 * size(x))
    # The frame before, the frame and the frame after, each times its gated kernel.
    shifted = (like(x, x.shape[:3], channels, layer) for _ in range(2))
    ledger.keep(*shifted)
    keep_inputs(ledger, layer, inputs)


@register_cost(GateShift)
def gate_shift(ledger, layer, inputs, output):
    """`27 C HW T`: a 3x3x3 convolution in two groups to one gate each."""
    (x,) = inputs
    rectified = ledger(layer.bn, x)
    ledger.spend(27 * size(x), 27 * size(x))
    gates = like(x, x.shape[:3], 2, layer)
    halves = like(x, x.shape[:3], x.shape[-1], layer)
    ledger.keep(rectified, gates, halves)
