"""Independent float64 NumPy implementations of the temporal modules.

Written from the papers' equations with explicit loops where the layers use fast forms:
nothing here shares code with the package.
"""

import keras
import numpy as np

# Keras' mean on JAX computes in float32 whatever it is given.
RTOL = 1e-9 if keras.backend.backend() == "tensorflow" else 1e-5


def fill(shape, a, s):
    """`s * sin(a * (i + 1))` over the flat index: the inputs of the golden values."""
    return (s * np.sin(a * (np.arange(np.prod(shape)) + 1.0))).reshape(shape)


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-5):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def depthwise3x3(x, kernel):
    """`x` (H, W, d), `kernel` (3, 3, d): zero padding 1, cross-correlation."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        kernel[i, j] * padded[i : i + height, j : j + width]
        for i in range(3)
        for j in range(3)
    ]
    return sum(shifted)


def temporal_conv(x, kernel):
    """`x` (T, ...), `kernel` (k, C): zero outside the clip."""
    frames, half = x.shape[0], kernel.shape[0] // 2
    out = np.zeros_like(x)
    for t in range(frames):
        for i in range(kernel.shape[0]):
            if 0 <= t + i - half < frames:
                out[t] += kernel[i] * x[t + i - half]
    return out


def attended(query, key, mode):
    """Attention of one frame pair (H, W, d), before the product with the key."""
    height, width, depth = key.shape
    q, k = query.reshape(-1, depth), key.reshape(-1, depth)
    if mode == "softmax":
        out = softmax(q @ k.T / np.sqrt(depth)) @ k
    elif mode == "linear":
        out = (q @ k.T) @ k / (height * width * np.sqrt(depth))
    elif mode == "efficient":
        out = softmax(q, 1) @ (softmax(k, 0).T @ k)
    elif mode == "row":
        out = np.zeros_like(key)
        for c in range(depth):
            scores = query[..., c] @ key[..., c].T / np.sqrt(width)
            out[..., c] = softmax(scores) @ key[..., c]
    return out.reshape(key.shape)


def sme(x, num_frames, w, options=None):
    """Salient motion excitation; `x` (N*T, H, W, C).

    `w`: reduce (C, d), pyramid [(3, 3, d)], expand (d, C), and for use_bn the tuples
    reduce_bn and expand_bn of gamma, beta, mean, variance.
    """
    o = {
        "alignment": "softmax",
        "attention": "channel",
        "gate": "sigmoid",
        "last_frame": "zero",
        "alignment_gate": None,
        "pyramid_activation": None,
        "pool_first": True,
        **(options or {}),
    }
    out = []
    for clip in x.reshape(-1, num_frames, *x.shape[1:]):
        z = clip @ w["reduce"]
        z = batch_norm(z, *w["reduce_bn"]) if "reduce_bn" in w else z
        motions = [
            _motion(z[t], z[t + 1], w["pyramid"], o) for t in range(num_frames - 1)
        ]
        last = motions[-1] if o["last_frame"] == "repeat" else np.zeros_like(motions[0])
        out += _excite(clip, np.stack([*motions, last]), w, o)
    return np.stack(out)


def _motion(current, following, kernels, o):
    aligned = following
    if o["alignment"] != "none":
        weights = attended(current, following, o["alignment"])
        weights = sigmoid(weights) if o["alignment_gate"] else weights
        aligned = following * weights
    level, motion = np.zeros_like(aligned), np.zeros_like(aligned)
    for kernel in kernels:
        level = depthwise3x3(level + aligned, kernel)
        level = np.maximum(level, 0) if o["pyramid_activation"] == "relu" else level
        motion += level - current
    return motion


def _excite(clip, motion, w, o):
    if o["attention"] == "channel" and o["pool_first"]:
        motion = motion.mean((1, 2), keepdims=True)
    encoded = motion @ w["expand"]
    encoded = batch_norm(encoded, *w["expand_bn"]) if "expand_bn" in w else encoded
    if o["attention"] == "channel" and not o["pool_first"]:
        encoded = encoded.mean((1, 2), keepdims=True)
    if o["attention"] != "none":
        gate = sigmoid(encoded)
        offset = {"sigmoid": 0.0, "centered": -0.5, "symmetric": -1.0}[o["gate"]]
        encoded = (2.0 if o["gate"] == "symmetric" else 1.0) * gate + offset
    if o["last_frame"] == "identity":
        encoded[-1] = 0.0
    return list(clip + (encoded if o["attention"] == "none" else clip * encoded))


def cti(x, num_frames, w, integration="branch"):
    """Cross-scale temporal integration; `x` (N*T, H, W, C).

    `w`: temporal [(3, g)], dense [(kernel (g, g), bias (g,))].
    """
    groups = len(w["temporal"]) + 1
    out = []
    for clip in x.reshape(-1, num_frames, *x.shape[1:]):
        parts = np.split(clip, groups, axis=-1)
        previous, scales = parts[0], [parts[0]]
        for part, kernel, (matrix, bias) in zip(
            parts[1:], w["temporal"], w["dense"], strict=True
        ):
            logits = (previous + part).mean((1, 2)) @ matrix + bias
            alpha = {
                "branch": sigmoid,
                "channel": lambda z: softmax(z, 1),
                "time": lambda z: softmax(z, 0),
                "joint": lambda z: softmax(z.ravel()).reshape(z.shape),
            }[integration](logits)[:, None, None, :]
            previous = temporal_conv(alpha * part + (1 - alpha) * previous, kernel)
            scales.append(previous)
        out.append(np.concatenate(scales, -1))
    return np.concatenate(out)
