"""The channel-wise motion module (CMM) of STM."""

import keras

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import current_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import following_frames
from tsi_keras.layers._frames import pad_frames
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.batch_normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="tsi_keras")
class ChannelwiseMotion(keras.layers.Layer):
    """Differences between neighbouring frames, to be added to their features.

    Input `(N*T, H, W, C)`, the frames of a clip contiguous; output
    `(N*T, ceil(H/s), ceil(W/s), C)` for strides s. Each frame is reduced to
    d = C // reduction channels, the next frame runs through a depthwise 3x3 convolution,
    the current one is subtracted, and a 1x1 convolution restores C channels. The last
    frame, without a successor, has zero motion. STM computes it beside the spatial
    convolution of a bottleneck, on the same input, and adds the two: nothing here is a
    gate or a residual.

    Args:
        num_frames: frames per clip, T; at least 2.
        reduction: r, the channel reduction ratio; d is at least 1.
        strides: of the last 1x1 convolution, to match the convolution beside.
        use_bn: whether batch normalisation follows the two 1x1 convolutions. With it
            the last frame's output is that normalisation's value at zero.
        zero_init: whether the output starts at zero (the last kernel does, or with
            `use_bn` the last scale), so that a pretrained network is undisturbed.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 2, `reduction` or `strides` that are no positive
            integer, or a batch axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        motion = ChannelwiseMotion(num_frames=8, strides=2)(frames)  # (16, 14, 14, 128)
        ```

    Reference: STM, arXiv 1908.02486, channel-wise motion module. There is no official
    code: no BN and no biases give the published number of parameters; the strides are
    our decision.
    """

    def __init__(
        self,
        num_frames,
        reduction=16,
        strides=1,
        use_bn=False,
        zero_init=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduction = check_positive("reduction", reduction)
        self.strides = check_positive("strides", strides)
        self.use_bn = bool(use_bn)
        self.zero_init = bool(zero_init)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "ChannelwiseMotion")
        reduced = max(1, channels // self.reduction)
        self.reduce = self._pointwise(reduced, "reduce")
        self.reduce.build(input_shape)
        self.transform = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomUniform(-1 / 3, 1 / 3),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="transform",
        )
        self.transform.build((*input_shape[:3], reduced))
        self.expand = self._pointwise(channels, "expand")
        self.expand.build((*input_shape[:3], reduced))
        if self.use_bn:
            self._build_normalization(reduced, channels)

    def _pointwise(self, filters, name):
        # PyTorch's default, U(+-1/sqrt(fan_in)), here and in the depthwise convolution:
        # He's initialisation would drown the pretrained features it is added to.
        default = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        zero = self.zero_init and not self.use_bn and name == "expand"
        return keras.layers.Conv2D(
            filters,
            1,
            use_bias=False,
            kernel_initializer="zeros" if zero else default,
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
        )

    def _build_normalization(self, reduced, channels):
        self.reduce_bn = BatchNormalization(name="reduce_bn", dtype=self.dtype_policy)
        self.reduce_bn.build((None, None, None, reduced))
        self.expand_bn = BatchNormalization(
            gamma_initializer="zeros" if self.zero_init else "ones",
            name="expand_bn",
            dtype=self.dtype_policy,
        )
        self.expand_bn.build((None, None, None, channels))

    def call(self, x, training=None):
        reduced = self._normalize(self.reduce(x), "reduce_bn", training)
        clips = unfold_frames(reduced, self.num_frames)
        following = self.transform(fold_frames(following_frames(clips)))
        motion = unfold_frames(following, self.num_frames - 1) - current_frames(clips)
        # Strides in the 1x1 convolution would give the same, but TensorFlow's gradient of
        # such a kernel overruns its buffers on a CPU when there are few channels.
        if self.strides > 1:
            motion = motion[:, :, :: self.strides, :: self.strides]
        motion = self.expand(fold_frames(pad_frames(motion, (0, 1))))
        return self._normalize(motion, "expand_bn", training)

    def _normalize(self, x, name, training):
        return getattr(self, name)(x, training=training) if self.use_bn else x

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduction": self.reduction,
            "strides": self.strides,
            "use_bn": self.use_bn,
            "zero_init": self.zero_init,
        }


def strided_shape(input_shape, strides: int) -> tuple:
    """Shape of `(N*T, H, W, C)` maps after a convolution with symmetric padding."""
    batch, height, width, channels = input_shape
    height, width = (
        None if size is None else -(-size // strides) for size in (height, width)
    )
    return batch, height, width, channels
