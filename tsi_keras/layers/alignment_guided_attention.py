"""Alignment-guided temporal attention (ATA): attention along matched tokens."""

import math

import keras
from keras import ops

from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_frame_count
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers.assignment import greedy_assignment
from tsi_keras.layers.assignment import invert_permutation
from tsi_keras.layers.assignment import optimal_assignment
from tsi_keras.layers.assignment import sinkhorn_assignment

PERMUTATIONS = {"hungarian": optimal_assignment, "greedy": greedy_assignment}
MATCHERS = (*PERMUTATIONS, "sinkhorn", "none")


@keras.saving.register_keras_serializable(package="tsi_keras")
class AlignmentGuidedTemporalAttention(keras.layers.Layer):
    """Attention over time, along tokens that were matched from frame to frame.

    Input and output are frame maps `(N*T, H, W, C)`, every position a token, or tokens
    `(N*T, P, C)`; the frames of a clip are contiguous. The tokens of each frame are
    matched one to one with those of the next by cosine similarity; composing the
    matches gives L chains of T tokens. Layer normalisation, multi-head self-attention
    and two linear layers run along each chain, and the update returns to where its
    tokens came from: `x + dealign(fc(proj(attention(norm(align(x))))))`.

    The last linear layer starts at zero, and the module as the identity. The matching
    has no parameters, and through permutations no gradient. Exact matching of an
    8-frame clip takes about 10 ms at 7x7 on two CPU cores, 0.1 s at 14x14 and seconds
    at 28x28, where `"greedy"` serves better.

    Args:
        num_frames: frames per clip, T; at least 2.
        num_heads: attention heads.
        matcher: `"hungarian"` (the best permutation, exact), `"greedy"` (a permutation
            that takes the most similar pairs first; faster, for many tokens),
            `"sinkhorn"` (soft: chains are averages of tokens under the transport plan,
            and the update returns by the plan's transpose, which only approximates the
            inverse; differentiable) or `"none"` (chains stay in place: the divided
            attention of TimeSformer).
        reduction: the attention is C / `reduction` wide.
        dropout: rate for the attention weights and after the projection.
        num_prefix_tokens: tokens at the start of each frame (class token, registers)
            that are neither matched nor attended, and pass unchanged, as in TimeSformer;
            0 for frame maps.
        sinkhorn_epsilon: temperature of `"sinkhorn"`, in units of cosine similarity.
        sinkhorn_iterations: normalisations of `"sinkhorn"`.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: an unknown option, C not divisible by `num_heads * reduction`,
            prefix tokens in frame maps, or a batch axis that is not a multiple of
            `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 14, 14, 256))
        mixed = AlignmentGuidedTemporalAttention(num_frames=8)(frames)

        tokens = keras.random.normal((2 * 8, 197, 768))
        ata = AlignmentGuidedTemporalAttention(8, num_heads=12, num_prefix_tokens=1)
        mixed = ata(tokens)  # (16, 197, 768)
        ```

    Reference: ATA, arXiv 2210.00132; no code is public. Attention, `temporal_fc` and its
    zero start follow TimeSformer, arXiv 2102.05095, whose `temporal_norm1`,
    `temporal_attn.qkv`, `temporal_attn.proj` and `temporal_fc` are `norm`, `qkv`,
    `proj` and `temporal_fc` here, in the same order of channels.
    """

    def __init__(
        self,
        num_frames,
        num_heads=8,
        matcher="hungarian",
        reduction=1,
        dropout=0.0,
        num_prefix_tokens=0,
        sinkhorn_epsilon=0.05,
        sinkhorn_iterations=20,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.num_heads = _check_integer("num_heads", num_heads, 1)
        self.matcher = check_choice("matcher", matcher, MATCHERS)
        self.reduction = _check_integer("reduction", reduction, 1)
        self.dropout = _check_rate(dropout)
        self.num_prefix_tokens = _check_integer(
            "num_prefix_tokens", num_prefix_tokens, 0
        )
        self.sinkhorn_epsilon = _check_epsilon(sinkhorn_epsilon)
        self.sinkhorn_iterations = _check_integer(
            "sinkhorn_iterations", sinkhorn_iterations, 1
        )

    def build(self, input_shape):
        channels = self._check_shape(input_shape)
        self.width = channels // self.reduction
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, dtype=self.dtype_policy, name="norm"
        )
        self.qkv = self._dense(3 * self.width, "qkv")
        self.attention_dropout = self._dropout("attention_dropout")
        self.proj = self._dense(self.width, "proj")
        self.proj_dropout = self._dropout("proj_dropout")
        self.temporal_fc = self._dense(channels, "temporal_fc", "zeros")
        outer = (None, self.num_frames, channels)
        inner = (None, self.num_frames, self.width)
        self.norm.build(outer)
        self.qkv.build(outer)
        self.proj.build(inner)
        self.temporal_fc.build(inner)

    def _check_shape(self, input_shape) -> int:
        name = type(self).__name__
        shape = tuple(input_shape)
        if len(shape) == 3:
            shape = (shape[0], shape[1], 1, shape[2])
        elif self.num_prefix_tokens:
            raise ValueError(
                "`num_prefix_tokens` needs tokens of shape (N*T, P, C). Received: "
                f"num_prefix_tokens={self.num_prefix_tokens}, shape {shape}"
            )
        channels = check_frame_maps(shape, self.num_frames, name)
        if channels % (self.num_heads * self.reduction):
            raise ValueError(
                f"The {channels} channels of the input must be divisible by "
                f"`num_heads * reduction`. Received: num_heads={self.num_heads}, "
                f"reduction={self.reduction}"
            )
        return channels

    def _dense(self, units, name, initializer=None):
        initializer = initializer or keras.initializers.TruncatedNormal(stddev=0.02)
        return keras.layers.Dense(
            units, kernel_initializer=initializer, dtype=self.dtype_policy, name=name
        )

    def _dropout(self, name):
        return keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name=name)

    def call(self, x, training=None):
        check_frame_count(x, self.num_frames)
        shape = ops.shape(x)
        tokens = ops.reshape(x, (-1, math.prod(shape[1:-1]), shape[-1]))
        prefix = tokens[:, : self.num_prefix_tokens]
        tokens = tokens[:, self.num_prefix_tokens :]
        size = ops.shape(tokens)[1]
        clips = ops.reshape(tokens, (-1, self.num_frames, size, shape[-1]))
        align, dealign = self._alignment(clips)
        chains = ops.reshape(align(clips), (-1, self.num_frames, shape[-1]))
        update = ops.reshape(
            self._attend(chains, training), (-1, size, self.num_frames, shape[-1])
        )
        tokens = tokens + ops.reshape(dealign(update), ops.shape(tokens))
        if self.num_prefix_tokens:
            tokens = ops.concatenate([prefix, tokens], axis=1)
        return ops.reshape(tokens, shape)

    def _alignment(self, clips):
        """Functions from clips `(N, T, L, C)` to chains `(N, L, T, C)` and back."""
        if self.matcher == "none":
            return _swap_time, _swap_time
        similarity = neighbour_similarity(clips)
        shape = ops.shape(similarity)  # (N, T-1, L, L)
        pairs = ops.reshape(similarity, (-1, *shape[2:]))
        if self.matcher == "sinkhorn":
            plan = sinkhorn_assignment(
                pairs, self.sinkhorn_epsilon, self.sinkhorn_iterations
            )
            return _soft_alignment(compose_plans(ops.reshape(plan, shape)))
        permutation = PERMUTATIONS[self.matcher](pairs)
        return _hard_alignment(
            compose_permutations(ops.reshape(permutation, shape[:3]))
        )

    def _attend(self, chains, training):
        """`(N*L, T, C)` chains to their updates."""
        shape = (-1, self.num_frames, 3, self.num_heads, self.width // self.num_heads)
        qkv = ops.reshape(self.qkv(self.norm(chains)), shape)
        precise = ops.cast(qkv, precise_dtype(qkv))
        q, k, v = (ops.swapaxes(precise[:, :, i], 1, 2) for i in range(3))
        scores = ops.matmul(q / math.sqrt(shape[-1]), ops.swapaxes(k, 2, 3))
        weights = self.attention_dropout(ops.softmax(scores), training=training)
        mixed = ops.matmul(ops.cast(weights, v.dtype), v)  # (N*L, heads, T, e)
        mixed = ops.reshape(
            ops.swapaxes(mixed, 1, 2), (-1, self.num_frames, self.width)
        )
        mixed = self.proj(ops.cast(mixed, self.compute_dtype))
        return self.temporal_fc(self.proj_dropout(mixed, training=training))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "num_heads": self.num_heads,
            "matcher": self.matcher,
            "reduction": self.reduction,
            "dropout": self.dropout,
            "num_prefix_tokens": self.num_prefix_tokens,
            "sinkhorn_epsilon": self.sinkhorn_epsilon,
            "sinkhorn_iterations": self.sinkhorn_iterations,
        }


def neighbour_similarity(clips):
    """Cosine similarity of the tokens of frame t and of frame t + 1.

    Args:
        clips: `(N, T, L, C)`.

    Returns:
        `(N, T-1, L, L)` of float32 (float64 for float64 input).
    """
    precise = ops.cast(clips, precise_dtype(clips))
    squares = ops.sum(ops.square(precise), axis=-1, keepdims=True)
    unit = precise * ops.rsqrt(ops.maximum(squares, 1e-12))
    return ops.matmul(unit[:, :-1], ops.swapaxes(unit[:, 1:], 2, 3))


def compose_permutations(neighbours):
    """Matches of neighbouring frames to matches with the first frame.

    Args:
        neighbours: `(N, T-1, L)`; entry t maps tokens of frame t to those of t + 1.

    Returns:
        `(N, T, L)`: the token of each frame that belongs to each chain; frame 0 counts
        the chains.
    """
    first = ops.zeros_like(neighbours[:, 0])
    chain = [first + ops.arange(ops.shape(neighbours)[2], dtype="int32")]
    for t in range(neighbours.shape[1]):
        chain.append(ops.take_along_axis(neighbours[:, t], chain[-1], axis=1))
    return ops.stack(chain, axis=1)


def compose_plans(neighbours):
    """As `compose_permutations`, for transport plans `(N, T-1, L, L)`."""
    positions = ops.arange(ops.shape(neighbours)[2], dtype="int32")
    identity = ops.cast(ops.expand_dims(positions, 1) == positions, neighbours.dtype)
    chain = [identity + ops.zeros_like(neighbours[:, 0])]
    for t in range(neighbours.shape[1]):
        chain.append(ops.matmul(chain[-1], neighbours[:, t]))
    return ops.stack(chain, axis=1)


def _hard_alignment(permutation):
    """Alignment by permutations `(N, T, L)`, and its exact inverse."""
    frames, size = permutation.shape[1], ops.shape(permutation)[2]
    flat = ops.reshape(permutation, (-1, size))
    inverse = ops.reshape(invert_permutation(flat), ops.shape(permutation))
    clip = ops.arange(ops.shape(permutation)[0], dtype="int32")
    clip = ops.expand_dims(clip, (1, 2))
    frame = ops.expand_dims(ops.arange(frames, dtype="int32"), 1)
    # Row numbers in the flattened clips and in the flattened chains.
    tokens = ops.swapaxes((clip * frames + frame) * size + permutation, 1, 2)
    places = (clip * size + inverse) * frames + frame
    return lambda clips: _gather(clips, tokens), lambda chains: _gather(chains, places)


def _gather(x, rows):
    return ops.take(ops.reshape(x, (-1, ops.shape(x)[-1])), rows, axis=0)


def _soft_alignment(plan):
    """Alignment by plans `(N, T, L, L)`, and back by their transposes."""

    def align(clips):
        aligned = ops.matmul(plan, ops.cast(clips, plan.dtype))
        return ops.cast(_swap_time(aligned), clips.dtype)

    def dealign(chains):
        tokens = ops.cast(_swap_time(chains), plan.dtype)
        moved = ops.matmul(ops.swapaxes(plan, 2, 3), tokens)
        return ops.cast(moved, chains.dtype)

    return align, dealign


def _swap_time(x):
    return ops.swapaxes(x, 1, 2)


def _check_integer(argument, value, minimum):
    if isinstance(value, bool | str) or int(value) != value or value < minimum:
        raise ValueError(
            f"`{argument}` must be an integer of at least {minimum}. "
            f"Received: {argument}={value!r}"
        )
    return int(value)


def _check_rate(dropout):
    if isinstance(dropout, bool | str) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout!r}")
    return float(dropout)


def _check_epsilon(epsilon):
    if isinstance(epsilon, bool | str) or not epsilon > 0:
        raise ValueError(
            "`sinkhorn_epsilon` must be a positive number. "
            f"Received: sinkhorn_epsilon={epsilon!r}"
        )
    return float(epsilon)
