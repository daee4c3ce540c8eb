"""Saliency alignment between neighbouring frames (TSI, Eq. 3).

`aligned = key * A(query, key) @ key` for each frame pair, where A is, by default, the
softmax over all positions of the scaled dot product. The position-by-position matrix A
has (HW)^2 entries for every pair of frames: 0.9 GB per 8-frame clip of 224x224 in
ResNet-50. It is therefore computed for a few pairs (and, where one pair is large, a few
query rows) at a time, thrown away, and computed again in the backward pass: the result
is exact, and only query and key stay alive.
"""

import math

from keras import ops

from tsi_keras.layers._frames import cut
from tsi_keras.layers.export_scope import is_exporting

ALIGNMENTS = ("softmax", "linear", "efficient", "row", "none")

# Bytes of one block of the attention matrix, and how many blocks of a loop TensorFlow
# computes at once; what fits into their product needs no loop.
BLOCK_BYTES = 20 * 2**20
BLOCKS_IN_FLIGHT = 10
# One block in an exported graph, where all of them are written out one after the other:
# a phone's cache holds it, and the graph stays small.
EXPORT_BLOCK_BYTES = 10 * 2**20
# For an unknown number of clips: up to here one pair takes 256 KiB.
UNBLOCKED_POSITIONS = 256


def align(query, key, mode: str = "softmax", gate=None, block_bytes: int = BLOCK_BYTES):
    """The key frame, weighted by what the query frame finds in it (Eq. 3).

    Args:
        query: `(N, P, H, W, d)` features of frame t of P pairs, float32 or float64.
        key: features of frame t+1, same shape; also the values.
        mode: `"softmax"` (over all HW key positions, scaled by 1/sqrt(d)), `"linear"`
            (no softmax, scaled by 1/(HW sqrt(d)), computed as Q (K^T V)), `"efficient"`
            (softmax of the query over d and of the key over positions), `"row"`
            (softmax over the rows of an image, per channel) or `"none"` (the key as it
            is, no weights).
        gate: function applied to the weights before they multiply the key, or None.
        block_bytes: upper bound for one block of the softmax attention, in bytes.

    Returns:
        The attended key features times the key: `(N, P, H, W, d)`.
    """
    if mode == "none":
        return key
    attended = attend(query, key, mode, block_bytes)
    return key * (gate(attended) if gate else attended)


def attend(query, key, mode: str, block_bytes: int = BLOCK_BYTES):
    """Attention of every query position over the positions of the key frame.

    Arguments and result as for `align`, without the product with the key; `mode` must
    not be `"none"`.
    """
    if mode == "row":
        return _row_attention(query, key)
    shape = ops.shape(key)
    positions, depth = shape[2] * shape[3], shape[4]
    # -1 and not the number of clips: where that is unknown, it would become a tensor,
    # and converters want shapes to be constants.
    flat = (-1, shape[1], positions, depth)
    q, k = ops.reshape(query, flat), ops.reshape(key, flat)
    if mode == "linear":
        attended = _linear_attention(q, k, positions)
    elif mode == "efficient":
        attended = _efficient_attention(q, k)
    elif is_exporting() and None not in q.shape[1:]:
        attended = _unrolled_attention(q, k, EXPORT_BLOCK_BYTES)
    else:
        attended = softmax_attention(q, k, block_bytes)
    return ops.reshape(attended, (-1, *shape[1:]))


def _linear_attention(q, k, positions):
    state = ops.matmul(ops.swapaxes(k, -1, -2), k)
    scale = ops.cast(positions, q.dtype) * math.sqrt(q.shape[-1])
    return ops.matmul(q, state) / scale


def _efficient_attention(q, k):
    state = ops.matmul(ops.swapaxes(ops.softmax(k, axis=-2), -1, -2), k)
    return ops.matmul(ops.softmax(q, axis=-1), state)


def _row_attention(query, key):
    """Per channel: rows of the query frame attend to rows of the key frame."""
    width = ops.cast(ops.shape(key)[3], query.dtype)
    scores = ops.einsum("nphwd,npgwd->npdhg", query, key) / ops.sqrt(width)
    return ops.einsum("npdhg,npgwd->nphwd", ops.softmax(scores, axis=-1), key)


def softmax_attention(q, k, block_bytes: int = BLOCK_BYTES):
    """`softmax(q k^T / sqrt(d)) k`, recomputed in the backward pass.

    Args:
        q: `(N, P, n, d)` queries.
        k: `(N, P, n, d)` keys, which are the values too.
        block_bytes: upper bound for one block of the attention matrix, in bytes.

    Returns:
        `(N, P, n, d)`; gradients flow to `q` and `k`.
    """

    @ops.custom_gradient
    def attention(q, k):
        # TensorFlow's eager tape would record, and keep, what is computed in here.
        q, k = ops.stop_gradient(q), ops.stop_gradient(k)

        def backward(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            return _in_blocks(_block_backward, q, k, upstream, block_bytes=block_bytes)

        (output,) = _in_blocks(_block_forward, q, k, block_bytes=block_bytes)
        return output, backward

    return attention(q, k)


def _unrolled_attention(q, k, block_bytes: int):
    """As `softmax_attention`, as a plain sequence of blocks: no loop, no gradient."""
    pairs, positions = q.shape[1:3]
    group = _pairs_per_block(pairs, positions, block_bytes)
    rows = _rows_per_block(positions, block_bytes)
    outputs = []
    for pair in range(0, pairs, group):
        key = cut(k, 1, pair, pair + group)
        query = cut(q, 1, pair, pair + group)
        blocks = [
            _block_forward(key, cut(query, 2, row, min(row + rows, positions)))[0]
            for row in range(0, positions, rows)
        ]
        outputs.append(ops.concatenate(blocks, axis=2))
    return ops.concatenate(outputs, axis=1)


def _probabilities(q, k):
    return ops.softmax(ops.matmul(q / math.sqrt(q.shape[-1]), _transpose(k)), axis=-1)


def _block_forward(k, q):
    return ops.matmul(_probabilities(q, k), k), ()


def _block_backward(k, q, upstream):
    """Per-query gradients, and the gradients to be summed over the query blocks."""
    p = _probabilities(q, k)
    output = ops.matmul(p, k)
    dp = ops.matmul(upstream, _transpose(k))
    ds = p * (dp - ops.sum(upstream * output, axis=-1, keepdims=True))
    ds = ds / math.sqrt(q.shape[-1])
    dk = ops.matmul(_transpose(p), upstream) + ops.matmul(_transpose(ds), q)
    return ops.matmul(ds, k), (dk,)


def _transpose(x):
    return ops.swapaxes(x, -1, -2)


def _in_blocks(function, q, k, *queries, block_bytes):
    """Apply `function(k, q, *queries)` to blocks of pairs, then of query rows.

    `function` returns a tensor with one row per query and a tuple of tensors with one
    row per key, which are sums over the queries.
    """
    positions = q.shape[2]
    if _fits_unblocked(q.shape, block_bytes):
        per_query, per_key = function(k, q, *queries)
        return per_query, *per_key
    group = _pairs_per_block(q.shape[1], positions, block_bytes)
    shape = ops.shape(q)
    grouped = (-1, group, shape[2], shape[3])
    blocks = tuple(ops.reshape(x, grouped) for x in (k, q, *queries))
    if positions is not None and positions**2 * 4 <= block_bytes:
        results = ops.map(lambda xs: _flatten(function(*xs)), blocks)
    else:
        results = ops.map(
            lambda xs: _in_rows(function, *xs, block_bytes=block_bytes), blocks
        )
    return tuple(ops.reshape(x, shape) for x in results)


def _fits_unblocked(shape, block_bytes: int) -> bool:
    """Whether all attention matrices together are as small as the blocks in flight."""
    clips, pairs, positions, _ = shape
    if positions is None:
        return False
    if clips is None:
        return positions <= UNBLOCKED_POSITIONS
    return 4 * clips * pairs * positions**2 <= BLOCKS_IN_FLIGHT * block_bytes


def _pairs_per_block(pairs: int, positions: int | None, block_bytes: int) -> int:
    """The largest divisor of `pairs` whose attention fits into a block."""
    if positions is None:
        return 1
    fitting = max(1, block_bytes // (4 * positions**2))
    return max(i for i in range(1, pairs + 1) if pairs % i == 0 and i <= fitting)


def _flatten(result):
    per_query, per_key = result
    return (per_query, *per_key)


def _in_rows(function, k, *queries, block_bytes):
    """`function` over blocks of query rows of one pair group `(g, n, d)`."""
    positions = ops.shape(k)[1]
    rows = _rows_per_block(positions, block_bytes)
    blocks = -(-positions // rows)
    padding = blocks * rows - positions
    split = tuple(_split_rows(x, blocks, rows, padding) for x in queries)
    per_query, *per_key = ops.map(lambda xs: _flatten(function(k, *xs)), split)
    joined = ops.reshape(ops.moveaxis(per_query, 0, 1), (k.shape[0], -1, k.shape[2]))
    return (joined[:, :positions], *(ops.sum(x, axis=0) for x in per_key))


def _rows_per_block(positions, block_bytes):
    """An int where the number of positions is one, otherwise a scalar tensor."""
    rows = block_bytes // (4 * positions)
    if isinstance(positions, int):
        return min(positions, max(1, rows))
    return ops.minimum(positions, ops.maximum(1, rows))


def _split_rows(x, blocks, rows, padding):
    """`(g, n, d)` to `(blocks, g, rows, d)`; padded rows are zero and add nothing."""
    zeros = ops.zeros((x.shape[0], padding, x.shape[2]), dtype=x.dtype)
    padded = ops.concatenate([x, zeros], axis=1)
    shape = (x.shape[0], blocks, rows, x.shape[2])
    return ops.moveaxis(ops.reshape(padded, shape), 1, 0)
