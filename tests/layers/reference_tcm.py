"""TCM in float64 NumPy, position by position from the official code's formulas.

Nothing here shares code with the package.
"""

import numpy as np

from tests.reference import batch_norm
from tests.reference import depthwise3x3
from tests.reference import sigmoid
from tests.reference import softmax


def match(query, key, patch_size=15, sigma=5.0, temperature=100.0):
    """u, v and confidence of every position of two frames (H, W, C)."""
    radius = patch_size // 2
    height, width, _ = query.shape
    out = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            similarity = np.zeros((patch_size, patch_size))
            for i in range(patch_size):
                for j in range(patch_size):
                    row, column = y + i - radius, x + j - radius
                    if 0 <= row < height and 0 <= column < width:
                        product = query[y, x] @ key[row, column]
                        similarity[i, j] = max(0.0, product)
            out[y, x] = _displacement(similarity, radius, sigma, temperature)
    return out


def _displacement(similarity, radius, sigma, temperature):
    size = len(similarity)
    top, left = np.unravel_index(similarity.argmax(), similarity.shape)
    rows, columns = np.mgrid[:size, :size]
    window = np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * sigma**2))
    p = softmax((temperature * window * similarity).ravel())
    u = p @ (columns.ravel() - radius) / radius
    v = p @ (rows.ravel() - radius) / radius
    return u, v, similarity.max()


def motion(x, num_frames, w, patch_size=15):
    """MTDM; `x` (N*T, H, W, C) to (N*T, H, W, 6); `w`: reduction, reduction_bn."""
    z = np.maximum(batch_norm(x @ w["reduction"], *w["reduction_bn"]), 0.0)
    z = z / np.sqrt((z**2).sum(-1, keepdims=True) + 1e-6)
    out = []
    for clip in z.reshape(-1, num_frames, *z.shape[1:]):
        pairs = [
            np.concatenate(
                [
                    match(clip[t], clip[t + 1], patch_size),
                    match(clip[0], clip[t + 1], patch_size),
                ],
                axis=-1,
            )
            for t in range(num_frames - 1)
        ]
        out += [*pairs, pairs[-1]]
    return np.stack(out)


def attention(y, num_frames, w):
    """TAM; `y` (N*T, H, W, 6).

    `w`: layers, a list of a kind, a kernel and the tuple of a BN; eta (k,).
    """
    for kind, kernel, norm in w["layers"]:
        convolve = {
            "grouped": pairwise3x3,
            "depthwise": depthwise3x3,
            "pointwise": lambda frame, kernel: frame @ kernel,
        }[kind]
        y = np.stack([convolve(frame, kernel) for frame in y])
        y = np.maximum(batch_norm(y, *norm), 0.0)
    out = []
    half = len(w["eta"]) // 2
    for clip in y.reshape(-1, num_frames, *y.shape[1:]):
        pooled = clip.mean((1, 2))
        for t in range(num_frames):
            seen = [s for s in range(t - half, t + half + 1) if 0 <= s < num_frames]
            gate = sigmoid(sum(w["eta"][s - t + half] * pooled[s] for s in seen))
            out.append(clip[t] * gate)
    return np.stack(out)


def pairwise3x3(x, kernel):
    """3x3 convolution from each pair of channels to a pair; kernel (3, 3, 2, c)."""
    out = np.zeros_like(x)
    for channel in range(x.shape[-1]):
        first = channel // 2 * 2
        for inside in range(2):
            out[..., channel] += depthwise3x3(
                x[..., first + inside, None], kernel[:, :, inside, channel, None]
            )[..., 0]
    return out


def temporal_correlation(x, num_frames, w, patch_size=15):
    """TCM: `x + TAM(MTDM(x))`."""
    return x + attention(motion(x, num_frames, w, patch_size), num_frames, w)
