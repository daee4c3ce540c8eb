"""The gate-shift module (GSM)."""

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
class GateShift(keras.layers.Layer):
    """Shift, position by position, the part of the features that a gate picks.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. The channels form
    two halves. For each, a 3x3x3 convolution over BN and ReLU of the input gives one
    gate in (-1, 1) per position; the gated features of the first half are taken from the
    next frame, those of the second half from the previous one (zero outside the clip),
    and what the gate left is added. The convolution starts at zero, so that nothing
    moves at first.

    Args:
        num_frames: frames per clip, T.
        interleave: whether to permute the channels of each half at the end,
            `(0, C/4, 1, C/4 + 1, ...)`, as the official code does. The permutation
            stands from the start: a pretrained network needs `interleave=False`, with
            which the layer is the identity until it is trained.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, C not divisible by 4 (by 2 without `interleave`),
            or a batch axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        shifted = GateShift(num_frames=8)(frames)  # (16, 28, 28, 128)
        ```

    Reference: GSM, arXiv 1912.00381, and its official code. The kernel
    `(3, 3, 3, C/2, 2)` is that of a convolution in two groups, time first.
    """

    def __init__(self, num_frames, interleave=True, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        self.interleave = bool(interleave)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "GateShift")
        divisor = 4 if self.interleave else 2
        if channels % divisor:
            raise ValueError(
                f"GateShift needs a number of channels divisible by {divisor} with "
                f"`interleave={self.interleave}`. Received: {channels} channels"
            )
        self.bn = BatchNormalization(name="bn", dtype=self.dtype_policy)
        self.bn.build(input_shape)
        self.kernel = self.add_weight(
            name="kernel", shape=(3, 3, 3, channels // 2, 2), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=(2,), initializer="zeros")

    def call(self, x, training=None):
        gates = self._gates(ops.relu(self.bn(x, training=training)))
        halves = ops.split(unfold_frames(x, self.num_frames), 2, axis=-1)
        moved = [gate * half for gate, half in zip(gates, halves, strict=True)]
        first = next_frames(moved[0]) + (halves[0] - moved[0])
        second = previous_frames(moved[1]) + (halves[1] - moved[1])
        out = fold_frames(ops.concatenate([first, second], axis=-1))
        return _interleave(out) if self.interleave else out

    def _gates(self, x):
        """One gate `(N, T, H, W, 1)` per half of the channels of `x` (N*T, H, W, C)."""
        halves = ops.split(x, 2, axis=-1)
        return [self._gate(half, i) for i, half in enumerate(halves)]

    def _gate(self, x, index):
        # The 3x3x3 convolution to one channel is a 3x3 one to three channels, the taps
        # of which are then added over time. TensorFlow has no plain CPU kernel for the
        # grouped 3D convolution it replaces.
        kernel = ops.transpose(self.kernel[..., index], (1, 2, 3, 0))
        taps = ops.conv(x, kernel, padding="same", data_format="channels_last")
        taps = unfold_frames(ops.cast(taps, precise_dtype(taps)), self.num_frames)
        logits = (
            previous_frames(taps[..., 0:1])
            + taps[..., 1:2]
            + next_frames(taps[..., 2:3])
            + ops.cast(self.bias[index], taps.dtype)
        )
        return ops.cast(ops.tanh(logits), x.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "interleave": self.interleave,
        }


def _interleave(x):
    """Within each half of the channels, alternate its first and its second half."""
    shape = ops.shape(x)
    quarters = ops.reshape(x, (-1, 2, 2, shape[-1] // 4))
    return ops.reshape(ops.transpose(quarters, (0, 1, 3, 2)), shape)
