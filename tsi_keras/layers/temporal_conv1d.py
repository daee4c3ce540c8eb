"""Depthwise temporal convolution, the building block of TIM and CTI."""

import math

import keras
from keras import ops

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import unfold_frames


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalShiftInitializer(keras.initializers.Initializer):
    """Kernels `(k, C)` that start as a temporal shift (TSM) of part of the channels.

    The first C/8 channels take the next frame, the second C/8 the previous one, the rest
    stay. Below 8 channels one channel moves each way, so that narrow models mix time
    from the start as wide ones do.

    Reference: TEINet (arXiv 1911.09435) and TEA initialise their temporal convolutions
    so; the shift itself is TSM's (arXiv 1811.08383).
    """

    def __call__(self, shape, dtype=None):
        size, channels = shape
        fold = max(1, channels // 8) if channels >= 3 else 0
        taps = ops.concatenate(
            [
                ops.full((fold,), size // 2 + 1, dtype="int32"),
                ops.full((fold,), size // 2 - 1, dtype="int32"),
                ops.full((channels - 2 * fold,), size // 2, dtype="int32"),
            ]
        )
        return ops.one_hot(taps, size, axis=0, dtype=dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalIdentityInitializer(keras.initializers.Initializer):
    """Kernels `(k, C)` that pass every channel through unchanged."""

    def __call__(self, shape, dtype=None):
        size, channels = shape
        taps = ops.full((channels,), size // 2, dtype="int32")
        return ops.one_hot(taps, size, axis=0, dtype=dtype or keras.config.floatx())


def get_temporal_initializer(identifier) -> keras.initializers.Initializer:
    """Resolve `"shift"`, `"identity"` or whatever `keras.initializers.get` takes."""
    if identifier == "shift":
        return TemporalShiftInitializer()
    if identifier == "identity":
        return TemporalIdentityInitializer()
    return keras.initializers.get(identifier)


def temporal_convolution(x, kernel):
    """Depthwise convolution over the second axis, zero padded, same length.

    Args:
        x: `(N, T, ..., C)`.
        kernel: `(k, C)`, k odd, ordered from the earliest frame to the latest.

    Returns:
        `y_t = sum_i kernel_i * x_{t + i - k//2}`, the shape of `x`.
    """
    shape = ops.shape(x)
    # One depthwise convolution over (T, everything between) is an order of magnitude
    # faster on CPUs, backward above all, than the sum of shifted products it equals.
    columns = ops.reshape(x, (-1, shape[1], math.prod(shape[2:-1]), shape[-1]))
    mixed = ops.depthwise_conv(
        columns,
        ops.cast(kernel, x.dtype)[:, None, :, None],
        padding="same",
        data_format="channels_last",
    )
    return ops.reshape(mixed, (-1, *shape[1:]))


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalConv1D(keras.layers.Layer):
    """Convolution along time, one kernel per channel, no bias.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. Frames before the
    first and after the last count as zero.

    Args:
        num_frames: frames per clip, T.
        kernel_size: odd length of the kernel in frames.
        temporal_initializer: `"shift"` (an eighth of the channels looks one frame ahead,
            an eighth one back), `"identity"`, or any Keras initializer for `(k, C)`.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, an even `kernel_size`, or a batch axis that is not
            a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 14, 14, 256))
        mixed = TemporalConv1D(num_frames=8)(frames)  # (16, 14, 14, 256)
        ```

    Reference: the temporal interaction module (TIM) of TEINet, arXiv 1911.09435.
    """

    def __init__(
        self, num_frames, kernel_size=3, temporal_initializer="shift", **kwargs
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        if int(kernel_size) != kernel_size or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` must be a positive odd integer. "
                f"Received: kernel_size={kernel_size!r}"
            )
        self.kernel_size = int(kernel_size)
        self.temporal_initializer = get_temporal_initializer(temporal_initializer)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, channels),
            initializer=self.temporal_initializer,
        )

    def call(self, x):
        clips = unfold_frames(x, self.num_frames)
        return fold_frames(temporal_convolution(clips, self.kernel))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "kernel_size": self.kernel_size,
            "temporal_initializer": keras.saving.serialize_keras_object(
                self.temporal_initializer
            ),
        }
