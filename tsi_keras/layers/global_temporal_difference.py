"""Global temporal difference (GTD), the module of GTDNet."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_divisible
from tsi_keras.layers._frames import check_frame_count
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._initializers import kaiming
from tsi_keras.layers.salient_motion_excitation import GATES

AGGREGATIONS = ("avg", "mta", "lstm", "bilstm")
PROJECTIONS = ("full", "shared", "eca")
ECA_KERNEL_SIZE = 3


@keras.saving.register_keras_serializable(package="tsi_keras")
class GlobalTemporalDifference(keras.layers.Layer):
    """Excite channels by how each frame differs from the whole clip.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. With d = C / r:

        z    = reduce(mean over H, W of x)                (N, T, d)
        z_m  = aggregate(z) over the T frames             (N, 1, d)
        z'   = sigmoid(difference(z_m - z)) * z           global difference
        q, k, v = projections of z'                       one d-vector per frame
        z''  = softmax(q k^T) v                           d x d attention of channels
        out  = x + x * gate(expand(z'' + z))

    The softmax runs over the key channels, without scaling, in float32. In GTDNet the
    module sits in all 16 residual branches, between a temporal shift and the block's
    first convolution.

    The published parameter count, 33.9 M, is unexplained: ResNet-50 with 174 classes has
    35,811,566 parameters with `reduction=4, qkv="full", use_bias=False` (35,841,086 with
    biases) and 33,820,398 with `qkv="shared"` (33,843,358).

    Args:
        num_frames: frames per clip, T; at least 2.
        reduction: r, the channel reduction ratio.
        aggregation: how T frames become one vector: `"avg"` (their mean), `"mta"` (two
            linear layers along time, T to `expansion` T to 1, shared by the channels;
            not TEA's MTA), `"lstm"` (last hidden state of d units) or `"bilstm"` (mean
            of the last hidden states of both directions).
        qkv: `"full"` (three d x d projections), `"shared"` (one for query, key and
            value alike) or `"eca"` (three convolutions of 3 taps along the channel
            axis, without biases, as in ECA-Net).
        use_bias: whether the linear layers, convolutions and LSTMs have biases.
        gate: `"sigmoid"` (the paper's), `"centered"` (sigmoid - 0.5) or `"symmetric"`
            (2 sigmoid - 1).
        zero_init: start `expand` at zero: the module starts as the identity under
            `"centered"` and `"symmetric"`, as x 1.5 under `"sigmoid"`.
        expansion: width of the hidden layer of `"mta"`, in T.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: an unknown option, C not divisible by `reduction`, or a batch axis
            that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 14, 14, 256))
        excited = GlobalTemporalDifference(num_frames=8)(frames)  # (16, 14, 14, 256)
        ```

    Reference: Xie et al., "Global temporal difference network for action recognition",
    IEEE Transactions on Multimedia, 2022, figures 1, 3 and 4. No code is public; the
    softmax axis, biases and the missing BN and activations are our reading.
    """

    def __init__(
        self,
        num_frames,
        reduction=4,
        aggregation="avg",
        qkv="full",
        use_bias=True,
        gate="sigmoid",
        zero_init=False,
        expansion=2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduction = check_positive("reduction", reduction)
        self.aggregation = check_choice("aggregation", aggregation, AGGREGATIONS)
        self.qkv = check_choice("qkv", qkv, PROJECTIONS)
        self.use_bias = bool(use_bias)
        self.gate = check_choice("gate", gate, tuple(GATES))
        self.zero_init = bool(zero_init)
        self.expansion = check_positive("expansion", expansion)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        reduced = check_divisible(channels, "reduction", self.reduction)
        self.reduce = self._linear("reduce", channels, reduced)
        self._build_aggregation(reduced)
        self.difference = self._linear("difference", reduced, reduced)
        self._build_projections(reduced)
        self.expand = self._linear("expand", reduced, channels, zero=self.zero_init)

    def _build_aggregation(self, reduced):
        if self.aggregation == "mta":
            hidden = self.expansion * self.num_frames
            self.time_expand = self._linear("time_expand", self.num_frames, hidden)
            self.time_reduce = self._linear("time_reduce", hidden, 1)
        elif self.aggregation != "avg":
            self.recurrence = self._recurrence(reduced)
            self.recurrence.build((None, self.num_frames, reduced))

    def _recurrence(self, units):
        bidirectional = self.aggregation == "bilstm"
        lstm = keras.layers.LSTM(
            units,
            use_bias=self.use_bias,
            unroll=True,  # a handful of frames; exports and compiles without a loop
            use_cudnn=False,
            dtype=self.dtype_policy,
            name="lstm" if bidirectional else "recurrence",
        )
        if not bidirectional:
            return lstm
        return keras.layers.Bidirectional(
            lstm, merge_mode="ave", dtype=self.dtype_policy, name="recurrence"
        )

    def _build_projections(self, reduced):
        names = ("projection",) if self.qkv == "shared" else ("query", "key", "value")
        make = self._channel_convolution if self.qkv == "eca" else self._linear
        self.projections = [make(name, reduced, reduced) for name in names]

    def _linear(self, name, inputs, units, zero=False):
        layer = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer="zeros" if zero else kaiming(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, inputs))
        return layer

    def _channel_convolution(self, name, inputs, units):
        layer = keras.layers.Conv1D(
            1,
            ECA_KERNEL_SIZE,
            padding="same",
            use_bias=False,  # as ECA-Net; the key's would cancel in the softmax
            kernel_initializer=kaiming(),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, inputs, 1))
        return layer

    def call(self, x):
        check_frame_count(x, self.num_frames)
        pooled = ops.mean(ops.cast(x, precise_dtype(x)), axis=(1, 2))  # (N*T, C)
        pooled = ops.reshape(pooled, (-1, self.num_frames, pooled.shape[-1]))
        z = self._precise(self.reduce(pooled))  # (N, T, d)
        difference = self._precise(self.difference(self._aggregate(z) - z))
        attended = self._attend(ops.sigmoid(difference) * z)
        excitation = GATES[self.gate](self.expand(attended + z))
        excitation = ops.reshape(excitation, (-1, 1, 1, excitation.shape[-1]))
        return x + x * ops.cast(excitation, x.dtype)

    def _precise(self, x):
        return ops.cast(x, precise_dtype(x))

    def _aggregate(self, z):
        """`(N, T, d)` to `(N, 1, d)`."""
        if self.aggregation == "avg":
            return ops.mean(z, axis=1, keepdims=True)
        if self.aggregation == "mta":
            series = ops.swapaxes(z, 1, 2)
            series = self.time_reduce(self.time_expand(series))
            return self._precise(ops.swapaxes(series, 1, 2))
        return self._precise(self.recurrence(z))[:, None]

    def _attend(self, z):
        """Attention of the channels of one frame to each other: `(N, T, d)`."""
        query, key, value = self._project(z)
        weights = ops.softmax(query[..., :, None] * key[..., None, :], axis=-1)
        return ops.matmul(weights, value[..., None])[..., 0]

    def _project(self, z):
        if self.qkv == "shared":
            return (self._precise(self.projections[0](z)),) * 3
        if self.qkv == "full":
            return [self._precise(layer(z)) for layer in self.projections]
        line = ops.reshape(z, (-1, z.shape[-1], 1))
        shape = (-1, *z.shape[1:])
        return [
            self._precise(ops.reshape(layer(line), shape)) for layer in self.projections
        ]

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduction": self.reduction,
            "aggregation": self.aggregation,
            "qkv": self.qkv,
            "use_bias": self.use_bias,
            "gate": self.gate,
            "zero_init": self.zero_init,
            "expansion": self.expansion,
        }
