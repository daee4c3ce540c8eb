"""The temporal adaptive module (TAM) of TANet."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.temporal_shift import next_frames
from tsi_keras.layers.temporal_shift import previous_frames


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalAdaptive(keras.layers.Layer):
    """Temporal convolution with a kernel made for each video and channel.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. From the pooled
    frames, the global branch makes one softmax kernel over (previous, current, next) per
    clip and channel, by two dense layers along time; the local branch makes one gate per
    frame and channel, by convolutions over neighbouring frames. The output is the
    convolution of the gated features with those kernels, zero outside the clip, without
    a residual. TANet puts it between a bottleneck's first and second convolution.

    The dense layers run over the T frames: a trained layer works for its own
    `num_frames` only.

    Args:
        num_frames: frames per clip, T.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, or a batch axis that is not a multiple of
            `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        mixed = TemporalAdaptive(num_frames=8)(frames)  # (16, 28, 28, 128)
        ```

    Reference: TANet, arXiv 2005.06803, and its official code: no biases,
    batch normalisation of the global branch over its 2T hidden units.
    """

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "TemporalAdaptive")
        self._build_global(channels)
        self._build_local(channels, max(1, channels // 4))

    def _build_global(self, channels):
        hidden = 2 * self.num_frames
        options = self._options()
        self.global_expand = keras.layers.Dense(hidden, name="global_expand", **options)
        self.global_expand.build((None, channels, self.num_frames))
        self.global_bn = BatchNormalization(name="global_bn", dtype=self.dtype_policy)
        self.global_bn.build((None, channels, hidden))
        self.global_kernel = keras.layers.Dense(3, name="global_kernel", **options)
        self.global_kernel.build((None, channels, hidden))

    def _build_local(self, channels, reduced):
        options = {**self._options(), "data_format": "channels_last"}
        self.local_reduce = keras.layers.Conv1D(
            reduced, 3, padding="same", name="local_reduce", **options
        )
        self.local_reduce.build((None, self.num_frames, channels))
        self.local_bn = BatchNormalization(name="local_bn", dtype=self.dtype_policy)
        self.local_bn.build((None, self.num_frames, reduced))
        self.local_expand = keras.layers.Conv1D(
            channels, 1, name="local_expand", **options
        )
        self.local_expand.build((None, self.num_frames, reduced))

    def _options(self):
        return {
            "use_bias": False,
            # PyTorch's default, U(+-1/sqrt(fan_in)), which the official code keeps.
            "kernel_initializer": keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "uniform"
            ),
            "dtype": self.dtype_policy,
        }

    def call(self, x, training=None):
        clips = unfold_frames(x, self.num_frames)
        precise = ops.cast(clips, precise_dtype(clips))
        pooled = ops.mean(precise, axis=(2, 3))
        kernel = self._kernel(pooled, training)
        gate = self._gate(pooled, training)
        # Gate and kernel are multiplied while small: k * shift(x * gate) is
        # (k * shift(gate)) * shift(x).
        mixed = sum(
            ops.cast(kernel[:, i : i + 1] * shift(gate), x.dtype)[:, :, None, None]
            * shift(clips)
            for i, shift in enumerate((previous_frames, lambda z: z, next_frames))
        )
        return fold_frames(mixed)

    def _kernel(self, pooled, training):
        """`(N, T, C)` to the kernels `(N, 3, C)`."""
        hidden = self.global_expand(ops.transpose(pooled, (0, 2, 1)))
        hidden = ops.relu(self.global_bn(hidden, training=training))
        logits = self.global_kernel(hidden)
        weights = ops.softmax(ops.cast(logits, pooled.dtype), axis=-1)
        return ops.transpose(weights, (0, 2, 1))

    def _gate(self, pooled, training):
        """`(N, T, C)` to the gates of the same shape."""
        hidden = self.local_bn(self.local_reduce(pooled), training=training)
        logits = self.local_expand(ops.relu(hidden))
        return ops.sigmoid(ops.cast(logits, pooled.dtype))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}
