"""TEA's two modules in float64 NumPy, frame by frame from the official code's formulas.

Nothing here shares code with the package.
"""

import numpy as np

from tests.reference import batch_norm
from tests.reference import depthwise3x3
from tests.reference import sigmoid
from tests.reference import temporal_conv

GATES = {
    "centered": lambda z: sigmoid(z) - 0.5,
    "symmetric": lambda z: 2.0 * sigmoid(z) - 1.0,
    "sigmoid": sigmoid,
}


def motion_excitation(x, num_frames, w, gate="centered"):
    """ME; `x` (N*T, H, W, C).

    `w`: reduce (C, d), transform (3, 3, d), expand (d, C), and the tuples reduce_bn and
    expand_bn of gamma, beta, mean, variance.
    """
    out = []
    for clip in x.reshape(-1, num_frames, *x.shape[1:]):
        z = batch_norm(clip @ w["reduce"], *w["reduce_bn"])
        for t in range(num_frames):
            motion = np.zeros(z.shape[-1])
            if t + 1 < num_frames:
                motion = (depthwise3x3(z[t + 1], w["transform"]) - z[t]).mean((0, 1))
            encoded = batch_norm(motion @ w["expand"], *w["expand_bn"])
            out.append(clip[t] + clip[t] * GATES[gate](encoded))
    return np.stack(out)


def multiple_temporal_aggregation(x, num_frames, w, strides=1, block_type="normal"):
    """MTA; `x` (N*T, H, W, C).

    `w`: temporal [(3, C/s)] for all s fragments, and for all but the last convs
    [(3, 3, C/s, C/s)] and bns, tuples of gamma, beta, mean, variance.
    """
    parts = np.split(x, len(w["temporal"]), axis=-1)
    outputs = []
    for index, (kernel, norm) in enumerate(zip(w["convs"], w["bns"], strict=True)):
        part = parts[index]
        if index > 0 and block_type == "normal":
            part = part + outputs[-1]
        part = _over_time(part, num_frames, w["temporal"][index])
        part = np.stack([convolution3x3(frame, kernel, strides) for frame in part])
        outputs.append(np.maximum(batch_norm(part, *norm), 0.0))
    last = _over_time(parts[-1], num_frames, w["temporal"][-1])
    if block_type == "stage":
        box = np.einsum("hw,cd->hwcd", np.full((3, 3), 1 / 9), np.eye(last.shape[-1]))
        last = np.stack([convolution3x3(frame, box, strides) for frame in last])
    return np.concatenate([*outputs, last], axis=-1)


def _over_time(x, num_frames, kernel):
    clips = x.reshape(-1, num_frames, *x.shape[1:])
    return np.concatenate([temporal_conv(clip, kernel) for clip in clips])


def convolution3x3(x, kernel, stride=1):
    """`x` (H, W, c), `kernel` (3, 3, c, f): zero padding 1 on every side."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows, columns = range(0, x.shape[0], stride), range(0, x.shape[1], stride)
    out = np.empty((len(rows), len(columns), kernel.shape[-1]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = padded[top : top + 3, left : left + 3]
            out[i, j] = np.einsum("hwc,hwcf->f", window, kernel)
    return out
