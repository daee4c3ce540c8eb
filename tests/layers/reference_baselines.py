"""TSM, TEINet, STM, TANet and GSM in float64 NumPy, and the golden input's checks.

Written frame by frame from the papers and the official codes' formulas; nothing here
shares code with the package.
"""

import numpy as np
from keras import ops

from tests.reference import batch_norm
from tests.reference import fill
from tests.reference import sigmoid
from tests.reference import softmax
from tests.reference import temporal_conv

# 2 clips of 4 frames, filled in PyTorch's (N, C, H, W) order.
INPUT = fill((8, 32, 6, 6), 0.37, 1.0).transpose(0, 2, 3, 1)

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


def run(layer, x=INPUT, training=None):
    """The layer's output in float64, at the layer's own precision."""
    options = {} if training is None else {"training": training}
    y = layer(ops.cast(x, layer.compute_dtype), **options)
    return np.asarray(ops.convert_to_numpy(y), "float64")


def check_golden(output, total, norm, first, last, dtype):
    """Compare `(N*T, H, W, C)` with sums and entries published for NCHW."""
    flat = output.transpose(0, 3, 1, 2).ravel()
    found = [flat.sum(), np.linalg.norm(flat), *flat[: len(first)], flat[-1]]
    expected = [total, norm, *first, last]
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0.1 * tolerance)


def randomize(layer, rng):
    """Generic values for every weight; scales and variances stay positive."""
    for weight in layer.weights:
        low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(rng.uniform(low, low + 1.0, weight.shape))


def numpy_of(weight):
    return np.asarray(ops.convert_to_numpy(weight), "float64")


def norm_of(layer):
    """gamma, beta, mean, variance of a batch normalisation."""
    return tuple(
        numpy_of(w)
        for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )


def per_clip(function):
    """Make `function(clip, ...)` of (T, H, W, C) one of whole batches."""

    def whole(x, num_frames, *args, **kwargs):
        clips = x.reshape(-1, num_frames, *x.shape[1:])
        return np.concatenate([function(clip, *args, **kwargs) for clip in clips])

    return whole


@per_clip
def temporal_shift(clip, shift_div=8, bidirectional=True):
    frames, fold = len(clip), clip.shape[-1] // shift_div
    out = clip.copy()
    for t in range(frames):
        for c in range(fold):
            source, other = (t + 1, fold + c) if bidirectional else (t - 1, None)
            out[t, ..., c] = clip[source, ..., c] if 0 <= source < frames else 0.0
            if other is not None:
                out[t, ..., other] = clip[t - 1, ..., other] if t else 0.0
    return out


@per_clip
def motion_enhancement(clip, w, activation=None):
    """`w`: current, next (C, d) and expand (d, C), each a (kernel, bias) pair, or with
    the four arrays of a normalisation as a third entry."""
    out = clip.copy()
    for t in range(len(clip) - 1):
        following = _reduced(clip[t + 1].mean((0, 1)), w["next"], activation)
        current = _reduced(clip[t].mean((0, 1)), w["current"], activation)
        kernel, bias = w["expand"]
        out[t] = clip[t] * sigmoid((following - current) @ kernel + bias)
    return out


def _reduced(pooled, weights, activation):
    kernel, bias, *norm = weights
    reduced = pooled @ kernel + bias
    reduced = batch_norm(reduced, *norm[0]) if norm else reduced
    return np.maximum(reduced, 0.0) if activation == "relu" else reduced


def convolve(x, kernel, stride=1):
    """`x` (H, W, C), `kernel` (k, k, C, D): padding k // 2, cross-correlation."""
    size = kernel.shape[0]
    padded = np.pad(x, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    rows, columns = (range(0, n, stride) for n in x.shape[:2])
    return np.array(
        [
            [
                np.einsum("ijc,ijcd->d", padded[r : r + size, c : c + size], kernel)
                for c in columns
            ]
            for r in rows
        ]
    )


@per_clip
def channelwise_motion(clip, w, stride=1):
    """`w`: reduce (C, d), transform (3, 3, d), expand (d, C); maybe reduce_bn,
    expand_bn."""
    z = clip @ w["reduce"]
    z = batch_norm(z, *w["reduce_bn"]) if "reduce_bn" in w else z
    # A depthwise kernel is a diagonal one.
    diagonal = w["transform"][..., None] * np.eye(z.shape[-1])
    motion = [convolve(z[t + 1], diagonal) - z[t] for t in range(len(z) - 1)]
    motion = np.stack([*motion, np.zeros_like(z[0])]) @ w["expand"]
    motion = batch_norm(motion, *w["expand_bn"]) if "expand_bn" in w else motion
    return motion[:, ::stride, ::stride]


@per_clip
def channelwise_spatio_temporal(clip, temporal, spatial=None, stride=1):
    mixed = temporal_conv(clip, temporal)
    if spatial is None:
        return mixed
    return np.stack([convolve(frame, spatial, stride) for frame in mixed])


@per_clip
def temporal_adaptive(clip, w):
    """`w`: g0 (T, 2T), g_bn, g3 (2T, 3), l0 (3, C, d), l_bn, l3 (d, C)."""
    frames, channels = len(clip), clip.shape[-1]
    pooled = clip.mean((1, 2))
    hidden = np.zeros((frames, w["l0"].shape[-1]))
    for t in range(frames):
        for i in range(3):
            if 0 <= t + i - 1 < frames:
                hidden[t] += pooled[t + i - 1] @ w["l0"][i]
    local = sigmoid(np.maximum(batch_norm(hidden, *w["l_bn"]), 0.0) @ w["l3"])
    gated = clip * local[:, None, None]
    out = np.zeros_like(clip)
    for c in range(channels):
        units = np.maximum(batch_norm(pooled[:, c] @ w["g0"], *w["g_bn"]), 0.0)
        kernel = softmax(units @ w["g3"])
        out[..., c] = temporal_conv(gated[..., c : c + 1], kernel[:, None])[..., 0]
    return out


@per_clip
def gate_shift(clip, w, interleave=True):
    """`w`: kernel (3, 3, 3, C/2, 2), bias (2,), bn."""
    frames, half = len(clip), clip.shape[-1] // 2
    active = np.maximum(batch_norm(clip, *w["bn"]), 0.0)
    out = np.zeros_like(clip)
    for h, direction in ((0, 1), (1, -1)):
        part = slice(h * half, (h + 1) * half)
        gate = np.tanh(_gate(active[..., part], w["kernel"][..., h]) + w["bias"][h])
        moved = gate * clip[..., part]
        for t in range(frames):
            source = t + direction
            arriving = moved[source] if 0 <= source < frames else 0.0
            out[t, ..., part] = arriving + clip[t, ..., part] - moved[t]
    if not interleave:
        return out
    quarter = half // 2
    order = [
        h * half + i * quarter + j
        for h in (0, 1)
        for j in range(quarter)
        for i in (0, 1)
    ]
    return out[..., order]


def _gate(clip, kernel):
    """3x3x3 convolution of (T, H, W, c) to (T, H, W, 1), zero padded."""
    gate = np.zeros((*clip.shape[:3], 1))
    for t in range(len(clip)):
        for i in range(3):
            if 0 <= t + i - 1 < len(clip):
                gate[t] += convolve(clip[t + i - 1], kernel[i][..., None])
    return gate
