"""Independent float64 NumPy implementation of GTDNet's module, frame by frame."""

import numpy as np

from tests.reference import sigmoid
from tests.reference import softmax


def lstm_last_state(frames, kernel, recurrent, bias):
    """Last hidden state of an LSTM; `frames` (T, d), gates in the order i, f, c, o."""
    units = recurrent.shape[0]
    h, c = np.zeros(units), np.zeros(units)
    for x in frames:
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def aggregate(z, w, mode):
    """`(T, d)` to `(d,)`."""
    if mode == "avg":
        return sum(z) / len(z)
    if mode == "mta":
        out = np.zeros(z.shape[1])
        for c in range(z.shape[1]):
            hidden = _linear(z[:, c], w["time_expand"])
            out[c] = _linear(hidden, w["time_reduce"])[0]
        return out
    states = [lstm_last_state(z, *w["lstm"][0])]
    if mode == "bilstm":
        states.append(lstm_last_state(z[::-1], *w["lstm"][1]))
    return np.mean(states, axis=0)


def channel_convolution(x, weights):
    """Three taps along a vector, zero outside."""
    kernel, bias = weights
    padded = np.concatenate([[0.0], x, [0.0]])
    return np.array([padded[i : i + 3] @ kernel for i in range(len(x))]) + bias


def gtd(x, num_frames, w, aggregation, qkv, gate):
    """`x` (N*T, H, W, C); `w` holds (kernel, bias) pairs by sub-layer name."""
    project = channel_convolution if qkv == "eca" else _linear
    out = np.zeros_like(x)
    for start in range(0, len(x), num_frames):
        clip = x[start : start + num_frames]
        z = np.stack([_linear(f.mean((0, 1)), w["reduce"]) for f in clip])
        whole = aggregate(z, w, aggregation)
        for t in range(num_frames):
            differing = sigmoid(_linear(whole - z[t], w["difference"])) * z[t]
            q, k, v = (project(differing, p) for p in w["qkv"])
            attended = np.array([softmax(q[i] * k) @ v for i in range(len(q))])
            g = sigmoid(_linear(attended + z[t], w["expand"]))
            g = {"sigmoid": g, "centered": g - 0.5, "symmetric": 2 * g - 1}[gate]
            out[start + t] = clip[t] * (1 + g)
    return out


def _linear(x, weights):
    kernel, bias = weights
    return x @ kernel + bias
