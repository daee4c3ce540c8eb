"""The multiple temporal aggregation module (MTA) of TEA."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_divisible
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._initializers import kaiming
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.channelwise_motion import strided_shape
from tsi_keras.layers.temporal_conv1d import TemporalConv1D


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalHalfShiftInitializer(keras.initializers.Initializer):
    """Kernels `(k, C)` that move every channel: C/2 look ahead, the others back.

    Of an odd number of channels the last stays.

    Reference: TEA's official code, the temporal convolution of the last fragment.
    """

    def __call__(self, shape, dtype=None):
        size, channels = shape
        taps = ops.concatenate(
            [
                ops.full((channels // 2,), size // 2 + 1, dtype="int32"),
                ops.full((channels // 2,), size // 2 - 1, dtype="int32"),
                ops.full((channels % 2,), size // 2, dtype="int32"),
            ]
        )
        return ops.one_hot(taps, size, axis=0, dtype=dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="tsi_keras")
class MultipleTemporalAggregation(keras.layers.Layer):
    """A Res2Net cascade of convolutions, each preceded by a temporal one.

    Stands in the place of a bottleneck's 3x3 convolution with its BN and ReLU, all of
    which are inside. Input `(N*T, H, W, C)`, the frames of a clip contiguous; output
    `(N*T, ceil(H/s), ceil(W/s), C)` for strides s. The channels are split into `scale`
    fragments of w = C / scale. Every fragment but the last gives
    `y_i = ReLU(BN_i(convs_i(temporal_i(x_i + y_{i-1}))))`, with kernels of 3 frames per
    channel and 3x3 positions over all w channels; the last one is convolved in time
    only. In the first block of a stage (`block_type="stage"`), where the size may
    change, the fragments do not add up (`y_{i-1}` is left out) and the last is averaged
    over 3x3 positions.

    Args:
        num_frames: frames per clip, T.
        scale: number of fragments; at least 2.
        strides: of the 3x3 convolutions; other than 1 in stage blocks only.
        block_type: `"normal"`, or `"stage"` for the first block of a stage.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: an unknown `block_type`, `scale` < 2, `strides` in a normal block, C
            not divisible by `scale`, or a batch axis that is not a multiple of
            `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 416))
        layer = MultipleTemporalAggregation(num_frames=8, strides=2, block_type="stage")
        aggregated = layer(frames)  # (16, 14, 14, 416)
        ```

    Reference: TEA, arXiv 2004.01398, multiple temporal aggregation, as in its official
    code; the paper's formula convolves all fragments but the first instead of all but
    the last. The cascade is Res2Net's, arXiv 1904.01169, whose ImageNet weights fit
    `convs_*` and `bns_*`.
    """

    def __init__(self, num_frames, scale=4, strides=1, block_type="normal", **kwargs):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        self.scale = check_positive("scale", scale)
        self.strides = check_positive("strides", strides)
        self.block_type = check_choice("block_type", block_type, ("normal", "stage"))
        if self.scale < 2:
            raise ValueError(f"`scale` must be at least 2. Received: scale={scale}")
        if self.strides > 1 and block_type == "normal":
            raise ValueError(
                '`strides` other than 1 need `block_type="stage"`. '
                f"Received: strides={strides}, block_type={block_type!r}"
            )

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        width = check_divisible(channels, "scale", self.scale)
        fragment = (None, None, None, width)
        for index in range(self.scale - 1):
            self._build_temporal(index, "identity", fragment)
            self._build_convolution(index, fragment)
        self._build_temporal(self.scale - 1, TemporalHalfShiftInitializer(), fragment)

    def _build_temporal(self, index, initializer, shape):
        layer = TemporalConv1D(
            self.num_frames,
            temporal_initializer=initializer,
            dtype=self.dtype_policy,
            name=f"temporal_{index}",
        )
        layer.build(shape)
        setattr(self, f"temporal_{index}", layer)

    def _build_convolution(self, index, shape):
        convolution = keras.layers.Conv2D(
            shape[-1],
            3,
            strides=self.strides,
            # "same" padding is not symmetric where strides > 1.
            padding="same" if self.strides == 1 else "valid",
            use_bias=False,
            kernel_initializer=kaiming("fan_out"),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=f"convs_{index}",
        )
        convolution.build(shape)
        setattr(self, f"convs_{index}", convolution)
        norm = BatchNormalization(name=f"bns_{index}", dtype=self.dtype_policy)
        norm.build(shape)
        setattr(self, f"bns_{index}", norm)

    def call(self, x, training=None):
        *fragments, last = ops.split(x, self.scale, axis=-1)
        outputs = []
        for index, fragment in enumerate(fragments):
            if index and self.block_type == "normal":
                fragment = fragment + outputs[-1]
            outputs.append(self._convolve(index, fragment, training))
        last = getattr(self, f"temporal_{self.scale - 1}")(last)
        if self.block_type == "stage":
            last = self._pool(last)
        return ops.concatenate([*outputs, last], axis=-1)

    def _convolve(self, index, x, training):
        x = getattr(self, f"temporal_{index}")(x)
        x = x if self.strides == 1 else _pad(x)
        x = getattr(self, f"convs_{index}")(x)
        return ops.relu(getattr(self, f"bns_{index}")(x, training=training))

    def _pool(self, x):
        """Mean of 3x3 positions; the zeros around the frame count, as in PyTorch."""
        return ops.average_pool(
            _pad(x), 3, strides=self.strides, data_format="channels_last"
        )

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "scale": self.scale,
            "strides": self.strides,
            "block_type": self.block_type,
        }


def _pad(x):
    return ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
