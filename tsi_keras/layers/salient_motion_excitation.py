"""Salient motion excitation (SME), the short-term motion module of TSI."""

import keras
from keras import ops

from tsi_keras.layers._convolutions import depthwise
from tsi_keras.layers._convolutions import pointwise
from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_divisible
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import current_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import following_frames
from tsi_keras.layers._frames import pad_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.alignment import ALIGNMENTS
from tsi_keras.layers.alignment import align
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.pyramid import pooled_pyramid_difference
from tsi_keras.layers.pyramid import pyramid_difference

GATES = {
    "sigmoid": ops.sigmoid,
    "centered": lambda x: ops.sigmoid(x) - 0.5,
    "symmetric": lambda x: 2.0 * ops.sigmoid(x) - 1.0,
}


@keras.saving.register_keras_serializable(package="tsi_keras")
class SalientMotionExcitation(keras.layers.Layer):
    """Excite the channels that move, after aligning what stays.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. Each frame is
    reduced to C/r channels and compared with the next one: the next frame is weighted
    by its attention from the current one (Eq. 3), run through a cascade of depthwise
    3x3 convolutions, the current frame is subtracted at every level (Eq. 4, 5), and the
    pooled result gates the channels of the input, `x + x * A` (Eq. 6, 7).

    Choices the paper leaves open follow TEA, its declared ancestor: BN without ReLU
    after both 1x1 convolutions, zero motion for the last frame, pooling before the
    recovery convolution (`pool_first=False` pools after it, as Eq. 6 is written; the two
    differ in the batch statistics of the recovery's BN only). The attention runs in
    float32 under mixed precision and its (HW)^2 matrix is never kept
    (`tsi_keras.layers.alignment`). Under channel attention without
    `pyramid_activation` the cascade is linear and pooled, and is computed exactly by
    its adjoint at no cost per frame (`tsi_keras.layers.pyramid`).

    Args:
        num_frames: frames per clip, T; at least 2.
        reduction: r, the channel reduction ratio.
        levels: number of convolutions in the pyramid (the paper's K + 1).
        alignment: `"softmax"`, `"linear"`, `"efficient"`, `"row"` or `"none"` (the
            ablation "w/o SA"); see `tsi_keras.layers.alignment.align`.
        attention: `"channel"` (Eq. 6), `"spatial"` (gate without pooling) or `"none"`
            (the ablation "w/o CA": the motion itself is added to the input).
        gate: `"sigmoid"` (Eq. 6), `"centered"` (sigmoid - 0.5, as TEA's code) or
            `"symmetric"` (2 sigmoid - 1, as TEA's paper). Unused when
            `attention="none"`.
        last_frame: motion of frame T, which has no successor: `"zero"`, `"identity"`
            (the frame passes unchanged) or `"repeat"` (that of frame T - 1).
        alignment_gate: None, or `"sigmoid"` to squash the attended features before they
            weight the key.
        pyramid_activation: Keras activation after each pyramid convolution, or None.
        use_bn: whether batch normalisation follows the two 1x1 convolutions.
        pool_first: pool before the recovery convolution rather than after it.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: an unknown option, C not divisible by `reduction`, or a batch axis
            that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        excited = SalientMotionExcitation(num_frames=8)(frames)  # (16, 28, 28, 128)
        ```

    Reference: TSI, arXiv 2106.01088, section 3.2, Eq. 3 to 7.
    """

    def __init__(
        self,
        num_frames,
        reduction=16,
        levels=5,
        alignment="softmax",
        attention="channel",
        gate="sigmoid",
        last_frame="zero",
        alignment_gate=None,
        pyramid_activation=None,
        use_bn=True,
        pool_first=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduction = check_positive("reduction", reduction)
        self.levels = check_positive("levels", levels)
        self.alignment = check_choice("alignment", alignment, ALIGNMENTS)
        self.attention = check_choice(
            "attention", attention, ("channel", "spatial", "none")
        )
        self.gate = check_choice("gate", gate, tuple(GATES))
        self.last_frame = check_choice(
            "last_frame", last_frame, ("zero", "identity", "repeat")
        )
        self.alignment_gate = check_choice(
            "alignment_gate", alignment_gate, (None, "sigmoid")
        )
        self.pyramid_activation = (
            None
            if pyramid_activation is None
            else keras.activations.get(pyramid_activation)
        )
        self.use_bn = bool(use_bn)
        self.pool_first = bool(pool_first)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        reduced = check_divisible(channels, "reduction", self.reduction)
        self._build_reduction(input_shape, reduced)
        self._build_pyramid((*input_shape[:3], reduced))
        self._build_recovery((*input_shape[:3], reduced), channels)

    def _build_reduction(self, shape, reduced):
        self.reduce = pointwise(reduced, "reduce", self.dtype_policy)
        self.reduce.build(shape)
        if self.use_bn:
            self.reduce_bn = BatchNormalization(
                name="reduce_bn", dtype=self.dtype_policy
            )
            self.reduce_bn.build((*shape[:3], reduced))

    def _build_pyramid(self, shape):
        self.pyramid = []
        for level in range(self.levels):
            convolution = depthwise(f"pyramid_{level}", self.dtype_policy)
            convolution.build(shape)
            setattr(self, f"pyramid_{level}", convolution)
            self.pyramid.append(convolution)

    def _build_recovery(self, shape, channels):
        self.expand = pointwise(channels, "expand", self.dtype_policy)
        self.expand.build(shape)
        if self.use_bn:
            self.expand_bn = BatchNormalization(
                name="expand_bn", dtype=self.dtype_policy
            )
            self.expand_bn.build((*shape[:3], channels))

    def call(self, x, training=None):
        reduced = self._normalize(self.reduce(x), "reduce_bn", training)
        motion = self._motion(unfold_frames(reduced, self.num_frames))
        motion = ops.cast(self._append_last_frame(motion), self.compute_dtype)
        encoded = self._normalize(
            self.expand(fold_frames(motion)), "expand_bn", training
        )
        if self.attention == "none":
            return x + self._mask_last_frame(encoded)
        if self.attention == "channel" and not self.pool_first:
            encoded = ops.mean(encoded, axis=(1, 2), keepdims=True)
        return x + x * self._mask_last_frame(GATES[self.gate](encoded))

    def _normalize(self, x, name, training):
        return getattr(self, name)(x, training=training) if self.use_bn else x

    def _motion(self, clips):
        """`(N, T, H, W, d)` to the motion `(N, T-1, h, w, d)`; h = w = 1 when pooled."""
        precise = ops.cast(clips, precise_dtype(clips))
        current, following = current_frames(precise), following_frames(precise)
        squash = ops.sigmoid if self.alignment_gate == "sigmoid" else None
        aligned = align(current, following, self.alignment, gate=squash)
        aligned, current = fold_frames(aligned), fold_frames(current)
        motion = self._pyramid_difference(aligned, current)
        return unfold_frames(motion, self.num_frames - 1)

    def _pyramid_difference(self, aligned, current):
        pooled = self.attention == "channel" and self.pool_first
        if pooled and self.pyramid_activation is None:
            kernels = [convolution.kernel for convolution in self.pyramid]
            return pooled_pyramid_difference(aligned, current, kernels)
        motion = pyramid_difference(
            aligned, current, self.pyramid, self.pyramid_activation
        )
        return ops.mean(motion, axis=(1, 2), keepdims=True) if pooled else motion

    def _append_last_frame(self, motion):
        """`(N, T-1, ...)` to `(N, T, ...)`: repeat the last motion, or zero."""
        if self.last_frame == "repeat":
            return ops.concatenate([motion, motion[:, -1:]], axis=1)
        return pad_frames(motion, (0, 1))

    def _mask_last_frame(self, excitation):
        if self.last_frame != "identity":
            return excitation
        clips = unfold_frames(excitation, self.num_frames)
        return fold_frames(pad_frames(current_frames(clips), (0, 1)))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduction": self.reduction,
            "levels": self.levels,
            "alignment": self.alignment,
            "attention": self.attention,
            "gate": self.gate,
            "last_frame": self.last_frame,
            "alignment_gate": self.alignment_gate,
            "pyramid_activation": (
                self.pyramid_activation
                and keras.activations.serialize(self.pyramid_activation)
            ),
            "use_bn": self.use_bn,
            "pool_first": self.pool_first,
        }
