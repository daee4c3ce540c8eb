"""Cross-scale temporal integration (CTI), the long-term module of TSI."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_choice
from tsi_keras.layers._frames import check_divisible
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers.temporal_conv1d import TemporalConv1D
from tsi_keras.layers.temporal_conv1d import get_temporal_initializer
from tsi_keras.layers.temporal_conv1d import temporal_convolution

INTEGRATIONS = {
    "branch": ops.sigmoid,
    "channel": lambda logits: ops.softmax(logits, axis=-1),
    "time": lambda logits: ops.softmax(logits, axis=1),
    "joint": lambda logits: _softmax_over_time_and_channels(logits),
}


@keras.saving.register_keras_serializable(package="tsi_keras")
class CrossScaleTemporalIntegration(keras.layers.Layer):
    """Temporal convolutions of growing reach over channel groups, mixed by attention.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. The channels are
    split into contiguous groups X_0, X_1, ... The first passes unchanged; each next one
    is mixed with its predecessor's output and convolved along time (Eq. 8, 10):
    `T_g = conv_g(alpha_g X_g + (1 - alpha_g) T_{g-1})`, so that the groups see 1, 3, 5
    and 7 frames. `alpha_g` comes from the pooled sum of the two (Eq. 9).

    Pooling over space and convolution along time commute, so all alphas are computed
    from one pooling of the input, before any full-size tensor is touched.

    Args:
        num_frames: frames per clip, T.
        groups: number of channel groups, at least 2.
        integration: what the softmax of Eq. 9 runs over. `"branch"`: over the two
            branches, which is a sigmoid, and leaves each alpha free in (0, 1).
            `"channel"`, `"time"` and `"joint"` are the literal alternatives; they tie
            the mean of alpha to 1/g, 1/T and 1/(gT), which all but deletes X_g.
        temporal_initializer: of the temporal kernels `(3, C/groups)`: `"shift"`,
            `"identity"` or a Keras initializer (see `TemporalConv1D`).
        alpha_bias: initial bias of the fully connected layers. 0 starts at alpha = 0.5;
            2 to 4 keeps the features of a pretrained image network nearly unmixed.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: an unknown option, C not divisible by `groups`, or a batch axis that
            is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 128))
        mixed = CrossScaleTemporalIntegration(num_frames=8)(frames)  # (16, 28, 28, 128)
        ```

    Reference: TSI, arXiv 2106.01088, section 3.3, Eq. 8 to 10.
    """

    def __init__(
        self,
        num_frames,
        groups=4,
        integration="branch",
        temporal_initializer="shift",
        alpha_bias=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        if isinstance(groups, bool) or int(groups) != groups or groups < 2:
            raise ValueError(
                f"`groups` must be an integer of at least 2. Received: groups={groups!r}"
            )
        self.groups = int(groups)
        self.integration = check_choice("integration", integration, tuple(INTEGRATIONS))
        self.temporal_initializer = get_temporal_initializer(temporal_initializer)
        self.alpha_bias = float(alpha_bias)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        width = check_divisible(channels, "groups", self.groups)
        self.integrate = [self._add_integrate(j, width) for j in range(1, self.groups)]
        self.temporal = [
            self._add_temporal(j, (*input_shape[:3], width))
            for j in range(1, self.groups)
        ]

    def _add_integrate(self, index, width):
        layer = keras.layers.Dense(
            width,
            bias_initializer=keras.initializers.Constant(self.alpha_bias),
            dtype=self.dtype_policy,
            name=f"integrate_{index}",
        )
        layer.build((None, self.num_frames, width))
        setattr(self, f"integrate_{index}", layer)
        return layer

    def _add_temporal(self, index, shape):
        layer = TemporalConv1D(
            self.num_frames,
            temporal_initializer=_clone(self.temporal_initializer),
            dtype=self.dtype_policy,
            name=f"temporal_{index}",
        )
        layer.build(shape)
        setattr(self, f"temporal_{index}", layer)
        return layer

    def call(self, x):
        shape = ops.shape(x)
        pooled = ops.mean(x, axis=(1, 2))
        alphas = self._alphas(unfold_frames(pooled, self.num_frames))
        # All positions in one axis, as the temporal convolution takes them.
        clips = ops.reshape(x, (-1, self.num_frames, shape[1] * shape[2], shape[3]))
        first, *others = ops.split(clips, self.groups, axis=-1)
        outputs = [first]
        for group, alpha, layer in zip(others, alphas, self.temporal, strict=True):
            mixed = _mix(ops.expand_dims(alpha, 2), group, outputs[-1])
            outputs.append(temporal_convolution(mixed, layer.kernel))
        return ops.reshape(ops.concatenate(outputs, axis=-1), (-1, *shape[1:]))

    def _alphas(self, pooled):
        """Eq. 9 for all groups from the pooled input `(N, T, C)`: each `(N, T, g)`."""
        previous, *others = ops.split(pooled, self.groups, axis=-1)
        alphas = []
        for group, dense, layer in zip(
            others, self.integrate, self.temporal, strict=True
        ):
            # Frame by frame: of three axes, Dense would ask for the number of clips.
            logits = dense(fold_frames(previous + group))
            logits = unfold_frames(logits, self.num_frames)
            alpha = INTEGRATIONS[self.integration](logits)
            alphas.append(alpha)
            mixed = _mix(alpha, group, previous)
            previous = temporal_convolution(mixed, layer.kernel)
        return alphas

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "groups": self.groups,
            "integration": self.integration,
            "temporal_initializer": keras.saving.serialize_keras_object(
                self.temporal_initializer
            ),
            "alpha_bias": self.alpha_bias,
        }


def _mix(alpha, group, previous):
    """`alpha * group + (1 - alpha) * previous` (Eq. 10) with one product."""
    return previous + alpha * (group - previous)


def _softmax_over_time_and_channels(logits):
    """Softmax over the last two axes of `(N, T, g)`."""
    frames, width = logits.shape[1:]
    flat = ops.softmax(ops.reshape(logits, (-1, frames * width)), axis=-1)
    return ops.reshape(flat, (-1, frames, width))


def _clone(initializer):
    """A fresh copy: a seeded Keras initializer warns when it is called twice."""
    return initializer.__class__.from_config(initializer.get_config())
