"""The motion excitation module (ME) of TEA."""

import keras
from keras import ops

from tsi_keras.layers._convolutions import depthwise
from tsi_keras.layers._convolutions import pointwise
from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import current_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import following_frames
from tsi_keras.layers._frames import pad_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.pyramid import pooled_pyramid_difference
from tsi_keras.layers.salient_motion_excitation import GATES


@keras.saving.register_keras_serializable(package="tsi_keras")
class MotionExcitation(keras.layers.Layer):
    """Excite the channels that differ between a frame and the next.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. With the reduced
    frames `z = BN(reduce(x))` of d = C // reduction channels (at least 1), the motion
    `transform(z_{t+1}) - z_t` is pooled over the positions and gates the input:
    `x + x * (sigmoid(BN(expand(motion))) - 0.5)`. The last frame has no successor and
    zero motion. `transform` is a depthwise 3x3 convolution: linear and then pooled, it
    is computed by its adjoint, exactly, at no cost per frame (`tsi_keras.layers.pyramid`).

    Args:
        num_frames: frames per clip, T; at least 2.
        reduction: r, the channel reduction ratio.
        gate: `"centered"` (sigmoid - 0.5, the official code), `"symmetric"`
            (2 sigmoid - 1, the paper: twice that) or `"sigmoid"`.
        zero_init: whether the scale of the last batch normalisation starts at zero, so
            that the module starts as the identity, in a pretrained network without an
            effect. Not with `gate="sigmoid"`, which is never zero.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 2, an unknown `gate`, `zero_init` with
            `gate="sigmoid"`, or a batch axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 208))
        excited = MotionExcitation(num_frames=8)(frames)  # (16, 28, 28, 208)
        ```

    Reference: TEA, arXiv 2004.01398, motion excitation, as in its official code, which
    has half the paper's gate.
    """

    def __init__(
        self, num_frames, reduction=16, gate="centered", zero_init=False, **kwargs
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduction = check_positive("reduction", reduction)
        self.gate = check_choice("gate", gate, ("centered", "symmetric", "sigmoid"))
        self.zero_init = bool(zero_init)
        if self.zero_init and gate == "sigmoid":
            raise ValueError(
                '`zero_init` makes the module the identity only with `gate="centered"` '
                f'or "symmetric". Received: zero_init=True, gate={gate!r}'
            )

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "MotionExcitation")
        reduced = max(1, channels // self.reduction)
        self.reduce = self._build_pointwise("reduce", channels, reduced)
        self.reduce_bn = self._build_norm("reduce_bn", reduced)
        self.transform = depthwise("transform", self.dtype_policy)
        self.transform.build((None, None, None, reduced))
        self.expand = self._build_pointwise("expand", reduced, channels)
        self.expand_bn = self._build_norm(
            "expand_bn",
            channels,
            gamma_initializer="zeros" if self.zero_init else "ones",
        )

    def _build_pointwise(self, name, channels, filters):
        layer = pointwise(filters, name, self.dtype_policy)
        layer.build((None, None, None, channels))
        return layer

    def _build_norm(self, name, channels, **options):
        layer = BatchNormalization(name=name, dtype=self.dtype_policy, **options)
        layer.build((None, None, None, channels))
        return layer

    def call(self, x, training=None):
        reduced = self.reduce_bn(self.reduce(x), training=training)
        motion = ops.cast(self._pooled_motion(reduced), self.compute_dtype)
        encoded = self.expand_bn(self.expand(motion), training=training)
        return x + x * GATES[self.gate](encoded)

    def _pooled_motion(self, reduced):
        """`(N*T, H, W, d)` to the mean motion `(N*T, 1, 1, d)`, zero at the last frame."""
        clips = unfold_frames(reduced, self.num_frames)
        clips = ops.cast(clips, precise_dtype(clips))
        motion = pooled_pyramid_difference(
            fold_frames(following_frames(clips)),
            fold_frames(current_frames(clips)),
            [self.transform.kernel],
        )
        motion = unfold_frames(motion, self.num_frames - 1)
        return fold_frames(pad_frames(motion, (0, 1)))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduction": self.reduction,
            "gate": self.gate,
            "zero_init": self.zero_init,
        }
