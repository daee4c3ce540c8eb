"""The motion enhancement module (MEM) of TEINet."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import current_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import following_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.batch_normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="tsi_keras")
class MotionEnhancement(keras.layers.Layer):
    """Gate the channels of each frame by what differs in the next one.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. With the pooled
    frames g_t and two separate reductions to d = C // reduction channels,
    `m_t = sigmoid(expand(reduce_next(g_{t+1}) - reduce_current(g_t)))` and the output is
    `m_t * x_t`, without a residual. The last frame passes unchanged (m_T = 1).

    The gate halves the activations at the start, which a pretrained network notices. A
    sigmoid never reaches one, so no setting makes the layer an exact identity;
    `zero_init=True` makes the gate one constant, `sigmoid(gate_bias)`: 0.982 for
    `gate_bias=4`, 0.998 for 6. The higher it is, the slower the gate learns, as its
    slope is `m (1 - m)`.

    Args:
        num_frames: frames per clip, T; at least 2.
        reduction: r, the channel reduction ratio; d is at least 1.
        activation: Keras activation of the two reductions, such as `"relu"`, or None.
        use_bn: whether batch normalisation follows the two reductions, which then have
            no bias.
        gate_bias: value at which the bias before the sigmoid starts.
        zero_init: whether the kernel before the sigmoid starts at zero.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 2, a `reduction` that is no positive integer, an
            unknown activation, or a batch axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 256))
        enhanced = MotionEnhancement(num_frames=8)(frames)  # (16, 28, 28, 256)
        ```

    Reference: TEINet, arXiv 1911.09435, motion enhanced module. There is no official
    code: biases and no normalisation give the published number of parameters
    (5,989,904 in a ResNet-50). Reimplementations disagree on the sign of the difference,
    which the last convolution absorbs, and on BN and ReLU, which are options here.
    """

    def __init__(
        self,
        num_frames,
        reduction=8,
        activation=None,
        use_bn=False,
        gate_bias=0.0,
        zero_init=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduction = check_positive("reduction", reduction)
        self.activation = keras.activations.get(activation)
        self.use_bn = bool(use_bn)
        self.gate_bias = float(gate_bias)
        self.zero_init = bool(zero_init)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "MotionEnhancement")
        reduced = max(1, channels // self.reduction)
        for name in ("reduce_current", "reduce_next"):
            self._build_pointwise(name, channels, reduced, use_bias=not self.use_bn)
            if self.use_bn:
                norm = BatchNormalization(name=f"{name}_bn", dtype=self.dtype_policy)
                norm.build((None, 1, 1, reduced))
                setattr(self, f"{name}_bn", norm)
        self._build_pointwise(
            "expand",
            reduced,
            channels,
            bias_initializer=keras.initializers.Constant(self.gate_bias),
        )

    def _build_pointwise(self, name, channels, filters, **options):
        # PyTorch's default, U(+-1/sqrt(fan_in)): modules added to a pretrained network
        # keep it, and it keeps the gates near sigmoid(gate_bias).
        default = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        zero = self.zero_init and name == "expand"
        layer = keras.layers.Conv2D(
            filters,
            1,
            kernel_initializer="zeros" if zero else default,
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
            **options,
        )
        layer.build((None, 1, 1, channels))
        setattr(self, name, layer)

    def call(self, x, training=None):
        clips = unfold_frames(x, self.num_frames)
        precise = ops.cast(clips, precise_dtype(clips))
        pooled = ops.mean(precise, axis=(2, 3), keepdims=True)
        current = self._reduce(current_frames(pooled), "reduce_current", training)
        following = self._reduce(following_frames(pooled), "reduce_next", training)
        gate = ops.sigmoid(self.expand(following - current))
        gate = unfold_frames(gate, self.num_frames - 1)
        gate = ops.concatenate([gate, ops.ones_like(gate[:, :1])], axis=1)
        return x * fold_frames(gate)

    def _reduce(self, pooled, name, training):
        reduced = getattr(self, name)(fold_frames(pooled))
        if self.use_bn:
            reduced = getattr(self, f"{name}_bn")(reduced, training=training)
        return self.activation(reduced)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduction": self.reduction,
            "activation": keras.activations.serialize(self.activation),
            "use_bn": self.use_bn,
            "gate_bias": self.gate_bias,
            "zero_init": self.zero_init,
        }
