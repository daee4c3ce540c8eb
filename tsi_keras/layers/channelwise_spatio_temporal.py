"""The channel-wise spatio-temporal module (CSTM) of STM."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers.channelwise_motion import strided_shape
from tsi_keras.layers.temporal_conv1d import TemporalConv1D
from tsi_keras.layers.temporal_conv1d import get_temporal_initializer


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalQuarterShiftInitializer(keras.initializers.Initializer):
    """Kernels `(k, C)` that start as STM's shift of half the channels.

    The first C/4 channels take the previous frame, the last C/4 the next one, those
    between stay: TSM's shift, but twice as much of it and in the other order. Below 4
    channels one channel moves each way, below 3 none.

    Reference: STM, arXiv 1908.02486, channel-wise spatio-temporal module.
    """

    def __call__(self, shape, dtype=None):
        size, channels = shape
        fold = max(1, channels // 4) if channels >= 3 else 0
        taps = ops.concatenate(
            [
                ops.full((fold,), size // 2 - 1, dtype="int32"),
                ops.full((channels - 2 * fold,), size // 2, dtype="int32"),
                ops.full((fold,), size // 2 + 1, dtype="int32"),
            ]
        )
        return ops.one_hot(taps, size, axis=0, dtype=dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="tsi_keras")
class ChannelwiseSpatioTemporal(keras.layers.Layer):
    """Temporal convolution of every channel by itself, then a spatial convolution.

    Input `(N*T, H, W, C)`, the frames of a clip contiguous; output
    `(N*T, ceil(H/s), ceil(W/s), C)` for strides s. The temporal kernels `(3, C)` are
    ordered previous, current, next and see zeros outside the clip; the spatial
    convolution is an ordinary one, C to C channels, padded symmetrically. Neither has a
    bias, a normalisation or an activation.

    Args:
        num_frames: frames per clip, T.
        spatial_kernel_size: odd size of the spatial convolution, or None to leave it
            out: in a pretrained network the block's own 3x3 convolution follows.
        strides: of the spatial convolution.
        temporal_initializer: `"quarter_shift"` (STM's: the first quarter of the channels
            looks one frame back, the last quarter one ahead), `"shift"` (TEINet's),
            `"identity"`, or any Keras initializer for `(3, C)`.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, an even `spatial_kernel_size`, `strides` without a
            spatial convolution, or a batch axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        mixed = ChannelwiseSpatioTemporal(num_frames=8)(frames)  # (16, 28, 28, 128)
        ```

    Reference: STM, arXiv 1908.02486, channel-wise spatio-temporal module. There is no
    official code; where the stride goes is our decision.
    """

    def __init__(
        self,
        num_frames,
        spatial_kernel_size=3,
        strides=1,
        temporal_initializer="quarter_shift",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        self.spatial_kernel_size = _check_kernel_size(spatial_kernel_size)
        self.strides = check_positive("strides", strides)
        if self.spatial_kernel_size is None and self.strides != 1:
            raise ValueError(
                "`strides` needs a spatial convolution; give a `spatial_kernel_size`. "
                f"Received: strides={strides}, spatial_kernel_size=None"
            )
        self.temporal_initializer = (
            TemporalQuarterShiftInitializer()
            if temporal_initializer == "quarter_shift"
            else get_temporal_initializer(temporal_initializer)
        )

    def build(self, input_shape):
        channels = check_frame_maps(
            input_shape, self.num_frames, "ChannelwiseSpatioTemporal"
        )
        self.temporal = TemporalConv1D(
            self.num_frames,
            temporal_initializer=self.temporal_initializer,
            dtype=self.dtype_policy,
            name="temporal",
        )
        self.temporal.build(input_shape)
        if self.spatial_kernel_size is not None:
            self._build_spatial(input_shape, channels)

    def _build_spatial(self, input_shape, channels):
        self.spatial = keras.layers.Conv2D(
            channels,
            self.spatial_kernel_size,
            strides=self.strides,
            use_bias=False,
            # He normal by fan-out, without truncation, as torchvision's ResNets.
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal"
            ),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="spatial",
        )
        self.spatial.build(input_shape)

    def call(self, x):
        mixed = self.temporal(x)
        if self.spatial_kernel_size is None:
            return mixed
        # "same" padding is not symmetric where strides > 1.
        border = (self.spatial_kernel_size // 2,) * 2
        return self.spatial(ops.pad(mixed, [(0, 0), border, border, (0, 0)]))

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "spatial_kernel_size": self.spatial_kernel_size,
            "strides": self.strides,
            "temporal_initializer": keras.saving.serialize_keras_object(
                self.temporal_initializer
            ),
        }


def _check_kernel_size(size):
    if size is not None and check_positive("spatial_kernel_size", size) % 2 == 0:
        raise ValueError(
            "`spatial_kernel_size` must be odd, or None for no spatial convolution. "
            f"Received: spatial_kernel_size={size}"
        )
    return size
