"""Cost rules of ATA and GTDNet: attention over time, and over channels."""

from tsi_keras.layers.alignment_guided_attention import AlignmentGuidedTemporalAttention
from tsi_keras.layers.global_temporal_difference import GlobalTemporalDifference
from tsi_keras.models.profiling.costs import keep_inputs
from tsi_keras.models.profiling.costs import register_cost
from tsi_keras.models.profiling.costs import size
from tsi_keras.models.profiling.keras_rules import attention
from tsi_keras.models.profiling.keras_rules import softmax_operations
from tsi_keras.models.profiling.tsi_rules import like


@register_cost(AlignmentGuidedTemporalAttention)
def alignment_guided_attention(ledger, layer, inputs, output):
    """`(T-1) L^2 C` to match, `4 L T C^2 + 2 L T^2 C` to attend, `L T C^2` at the end.

    Finding the permutations and applying them is free, as it multiplies nothing.
    """
    (x,) = inputs
    frames, channels = layer.num_frames, x.shape[-1]
    clips = x.shape[0] // frames
    tokens = size(x) // x.shape[0] // channels - layer.num_prefix_tokens
    _match(ledger, layer, clips, tokens, channels)
    chains = like(x, (clips * tokens, frames), channels, layer)
    ledger(layer.qkv, ledger(layer.norm, chains))
    heads = (clips * tokens, frames, layer.num_heads)
    query, key, value = (
        like(x, heads, layer.width // layer.num_heads, layer, precise=True)
        for _ in range(3)
    )
    attention(ledger, query, key, value, frames)
    mixed = ledger(layer.proj, like(x, (clips * tokens, frames), layer.width, layer))
    if layer.dropout:
        ledger.keep_elements(
            size(mixed) + size(query) // query.shape[-1] * frames, "bool"
        )
    ledger(layer.temporal_fc, mixed)


def _match(ledger, layer, clips, tokens, channels):
    """Similarities; transport plans also have to be composed, applied and undone."""
    if layer.matcher == "none":
        return
    pairs = clips * (layer.num_frames - 1)
    matrix = tokens**2
    ledger.spend(macs=pairs * matrix * channels)
    if layer.matcher != "sinkhorn":
        ledger.keep_elements(2 * (pairs + clips) * tokens, "int32")
        return
    ledger.spend(macs=2 * pairs * matrix * channels + (pairs - clips) * matrix * tokens)
    # A matrix per normalisation, the plan and its composition; the tokens, normalised.
    matrices = pairs * (2 * layer.sinkhorn_iterations + 2)
    ledger.keep_elements(matrices * matrix + 2 * pairs * tokens * channels, "float32")


@register_cost(GlobalTemporalDifference)
def global_temporal_difference(ledger, layer, inputs, output):
    """`T (2 C d + 4 d^2 + 2 d^2)`, and the aggregation over time.

    `4 d^2` are the projections, fewer with `qkv="shared"` or `"eca"`; `2 d^2` the outer
    product of query and key, and the weighted sum of the values.
    """
    (x,) = inputs
    frames, channels = layer.num_frames, x.shape[-1]
    clips = x.shape[0] // frames
    reduced = ledger(layer.reduce, like(x, (clips, frames), channels, layer))
    depth = reduced.shape[-1]
    _aggregate(ledger, layer, reduced)
    ledger.keep(ledger(layer.difference, like(x, (clips, frames), depth, layer)))
    gated = like(x, (clips, frames), depth, layer, precise=True)
    line = like(x, (clips * frames, depth), 1, layer)
    for projection in layer.projections:
        ledger.keep(ledger(projection, line if layer.qkv == "eca" else gated))
    scores = clips * frames * depth**2
    ledger.spend(macs=2 * scores, thop=softmax_operations(scores, depth))
    ledger.keep_elements(scores, gated.dtype)
    ledger.keep(ledger(layer.expand, like(x, (clips, frames), depth, layer)))
    keep_inputs(ledger, layer, inputs)


def _aggregate(ledger, layer, reduced):
    if layer.aggregation == "mta":
        clips, frames, depth = reduced.shape
        series = like(reduced, (clips, depth), frames, layer)
        ledger(layer.time_reduce, ledger(layer.time_expand, series))
    elif layer.aggregation != "avg":
        ledger(layer.recurrence, reduced)
