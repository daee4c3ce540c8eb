"""Independent float64 NumPy implementation of ATA, token by token."""

import math

import numpy as np

from tests.reference import softmax


def cosine(a, b):
    """`(L, C)` and `(L, C)` to `(L, L)`."""
    return np.array([[x @ y / math.sqrt((x @ x) * (y @ y)) for y in b] for x in a])


def brute_force(similarity):
    """Hungarian method for small matrices, by dynamic programming over subsets."""
    size = len(similarity)
    best = {0: (0.0, ())}
    for row in range(size):
        step = {}
        for used, (value, chosen) in best.items():
            for column in range(size):
                key = used | 1 << column
                new = value + similarity[row][column]
                if not used & 1 << column and (key not in step or new > step[key][0]):
                    step[key] = (new, (*chosen, column))
        best = step
    return list(best[2**size - 1][1])


def greedy(similarity):
    """Best pair first; among equals, the least (column - row) mod L."""
    size = len(similarity)
    pairs = [(i, j) for i in range(size) for j in range(size)]
    pairs.sort(key=lambda p: (-similarity[p[0]][p[1]], (p[1] - p[0]) % size))
    match = {}
    for i, j in pairs:
        if i not in match and j not in match.values():
            match[i] = j
    return [match[i] for i in range(size)]


def sinkhorn(similarity, epsilon, iterations):
    plan = np.exp(similarity / epsilon)
    for _ in range(iterations):
        plan = plan / plan.sum(0, keepdims=True)
        plan = plan / plan.sum(1, keepdims=True)
    return plan


def alignments(clip, matcher, epsilon, iterations):
    """For each frame of `(T, L, C)` the matrix `(L, L)` from its tokens to chains."""
    chain = [np.eye(clip.shape[1])]
    for t in range(1, len(clip)):
        if matcher == "none":
            step = np.eye(clip.shape[1])
        elif matcher == "sinkhorn":
            step = sinkhorn(cosine(clip[t - 1], clip[t]), epsilon, iterations)
        else:
            solve = brute_force if matcher == "hungarian" else greedy
            step = np.eye(clip.shape[1])[solve(cosine(clip[t - 1], clip[t]))]
        chain.append(chain[-1] @ step)
    return chain


def temporal_attention(chain, w, num_heads):
    """Update of one chain `(T, C)`: pre-norm, attention, projection, last layer."""
    gamma, beta = w["norm"]
    mean, variance = chain.mean(1, keepdims=True), chain.var(1, keepdims=True)
    normal = gamma * (chain - mean) / np.sqrt(variance + 1e-6) + beta
    q, k, v = np.split(_linear(normal, w["qkv"]), 3, axis=1)
    heads = []
    for h in np.split(np.arange(q.shape[1]), num_heads):
        scores = q[:, h] @ k[:, h].T / math.sqrt(len(h))
        heads.append(softmax(scores) @ v[:, h])
    mixed = _linear(np.concatenate(heads, axis=1), w["proj"])
    return _linear(mixed, w["temporal_fc"])


def ata(x, num_frames, w, num_heads, matcher, prefix=0, epsilon=0.05, iterations=20):
    """`x` (N*T, P, C) tokens; `w`: norm (gamma, beta), the others (kernel, bias)."""
    out = x.copy()
    for start in range(0, len(x), num_frames):
        clip = x[start : start + num_frames, prefix:]
        to_chains = alignments(clip, matcher, epsilon, iterations)
        aligned = np.stack([a @ f for a, f in zip(to_chains, clip, strict=True)])
        for i in range(clip.shape[1]):
            update = temporal_attention(aligned[:, i], w, num_heads)
            for t in range(num_frames):
                out[start + t, prefix:] += np.outer(to_chains[t][i], update[t])
    return out


def _linear(x, weights):
    kernel, bias = weights
    return x @ kernel + bias
