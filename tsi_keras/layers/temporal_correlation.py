"""The temporal correlation module (TCM): motion at two tempos, and its attention."""

import math

import keras
from keras import ops

from tsi_keras.layers._convolutions import depthwise
from tsi_keras.layers._convolutions import pointwise
from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import precise_dtype
from tsi_keras.layers._frames import unfold_frames
from tsi_keras.layers._initializers import kaiming
from tsi_keras.layers.batch_normalization import BatchNormalization
from tsi_keras.layers.correlation import l2_normalize
from tsi_keras.layers.correlation import match
from tsi_keras.layers.temporal_conv1d import temporal_convolution

# u, v and confidence of the fast and of the slow tempo.
MOTION_CHANNELS = 6
MOTION_GROUPS = 3
# Kind and filters of the convolutions, each followed by BN and ReLU; None: as the input.
ATTENTION = {
    "conv1": (("grouped", 6), ("grouped", 6), ("grouped", 6), ("pointwise", 16)),
    "conv2": (("depthwise", 16), ("pointwise", 32)),
    "conv3": (("depthwise", 32), ("pointwise", 64)),
    "conv4": (("depthwise", 64), ("pointwise", None)),
}


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalCorrelation(keras.layers.Layer):
    """Add what moves, and where to, found by matching frames with each other.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous; meant to stand
    once in a network, after res3. The output is `x + TAM(MTDM(x))`.

    MTDM: the frames, reduced to 64 channels (1x1 convolution, BN, ReLU) and normalised,
    are matched by local correlation (`tsi_keras.layers.correlation`) with the next frame
    (fast tempo), and the first frame with every later one (slow tempo). A match has
    three values per position: horizontal and vertical displacement and confidence. The
    last frame has those of the frame before. It runs in float32 under mixed precision.

    TAM: convolutions from these six channels to C, each with BN and ReLU, then one gate
    per frame and channel: the sigmoid of a convolution over time of the pooled features
    (`eta`, one kernel for all channels, of length log2 T made odd).

    The grouped convolutions see (u, v) of the fast tempo, then (confidence fast, u
    slow), then (v slow, confidence slow), as in the official code.

    Args:
        num_frames: frames per clip, T; at least 2.
        reduced_channels: channels in which frames are matched.
        patch_size: size of the patch searched for a match, in positions; odd.
        sigma: standard deviation of the window around the best match, in positions.
        temperature: of the softmax over the patch.
        zero_init: whether the module starts as the identity, in a pretrained network
            without an effect: `x + scale * TAM(MTDM(x))` with one more trainable number,
            `scale`, which starts at zero. (A zero in the last BN would never leave it:
            the ReLU behind it passes no gradient.)
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 2, `patch_size` even or below 3, or a batch axis that
            is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 28, 28, 512))
        correlated = TemporalCorrelation(num_frames=8)(frames)  # (16, 28, 28, 512)
        ```

    Reference: TCM, arXiv 2202.12116, multi-scale temporal dynamics module (MTDM) and
    temporal attention module (TAM), as in its official code; the matching is MSNet's,
    arXiv 2007.09933.
    """

    def __init__(
        self,
        num_frames,
        reduced_channels=64,
        patch_size=15,
        sigma=5.0,
        temperature=100.0,
        zero_init=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames, minimum=2)
        self.reduced_channels = check_positive("reduced_channels", reduced_channels)
        self.patch_size = check_positive("patch_size", patch_size)
        if patch_size < 3 or patch_size % 2 == 0:
            raise ValueError(
                "`patch_size` must be odd and at least 3. "
                f"Received: patch_size={patch_size}"
            )
        self.sigma = float(sigma)
        self.temperature = float(temperature)
        self.zero_init = bool(zero_init)

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, type(self).__name__)
        self.reduction = self._convolution(
            "pointwise", self.reduced_channels, "reduction"
        )
        self.reduction.build((None, None, None, channels))
        self.reduction_bn = self._norm("reduction_bn", self.reduced_channels)
        self._build_attention(channels)
        self.eta = FrameGate(self.num_frames, dtype=self.dtype_policy, name="eta")
        self.eta.build(input_shape)
        if self.zero_init:
            self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def _build_attention(self, channels):
        """Convolution and BN in pairs, numbered as in the official code (ReLU last)."""
        self.attention = []
        width = MOTION_CHANNELS
        for stage, convolutions in ATTENTION.items():
            for index, (kind, filters) in enumerate(convolutions):
                name = f"{stage}_{3 * index}"
                convolution = self._convolution(kind, filters or channels, name)
                convolution.build((None, None, None, width))
                width = filters or channels
                norm = self._norm(f"{stage}_{3 * index + 1}", width)
                setattr(self, convolution.name, convolution)
                setattr(self, norm.name, norm)
                self.attention += [convolution, norm]

    def _convolution(self, kind, filters, name):
        if kind == "depthwise":
            return depthwise(name, self.dtype_policy)
        if kind == "pointwise":
            return pointwise(filters, name, self.dtype_policy)
        return GroupedConv2D(
            filters,
            3,
            groups=MOTION_GROUPS,
            padding="same",
            use_bias=False,
            kernel_initializer=kaiming("fan_out"),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm(self, name, channels):
        norm = BatchNormalization(name=name, dtype=self.dtype_policy)
        norm.build((None, None, None, channels))
        return norm

    def call(self, x, training=None):
        y = ops.cast(self.motion(x, training), self.compute_dtype)
        for convolution, norm in zip(
            self.attention[::2], self.attention[1::2], strict=True
        ):
            y = ops.relu(norm(convolution(y), training=training))
        y = self.eta(y)
        return x + (ops.cast(self.scale, y.dtype) * y if self.zero_init else y)

    def motion(self, x, training=None):
        """MTDM: `(N*T, H, W, C)` to u, v, confidence twice, `(N*T, H, W, 6)`."""
        reduced = ops.relu(self.reduction_bn(self.reduction(x), training=training))
        features = l2_normalize(ops.cast(reduced, precise_dtype(reduced)))
        clips = unfold_frames(features, self.num_frames)
        last = self.num_frames - 1
        # Frames 0 and 1 are a pair of both tempos, matched once.
        first = ops.repeat(clips[:, :1], last - 1, axis=1)
        queries = ops.concatenate([clips[:, :-1], first], axis=1)
        keys = ops.concatenate([clips[:, 1:], clips[:, 2:]], axis=1)
        matches = match(
            fold_frames(queries),
            fold_frames(keys),
            self.patch_size,
            self.sigma,
            self.temperature,
        )
        matches = unfold_frames(matches, 2 * last - 1)
        fast = matches[:, :last]
        slow = ops.concatenate([matches[:, :1], matches[:, last:]], axis=1)
        motion = ops.concatenate([fast, slow], axis=-1)
        return fold_frames(ops.concatenate([motion, motion[:, -1:]], axis=1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "reduced_channels": self.reduced_channels,
            "patch_size": self.patch_size,
            "sigma": self.sigma,
            "temperature": self.temperature,
            "zero_init": self.zero_init,
        }


class GroupedConv2D(keras.layers.Conv2D):
    """A convolution with `groups`, applied as the block-diagonal kernel it stands for.

    On TensorFlow, Keras has XLA compile grouped convolutions, anew for every frame size.
    With few channels the zeros cost nothing.
    """

    def convolution_op(self, inputs, kernel):
        inside, filters = kernel.shape[2:]
        channels = ops.arange(inside * self.groups) // inside
        blocks = channels[:, None] == ops.arange(filters) // (filters // self.groups)
        kernel = ops.tile(kernel, (1, 1, self.groups, 1))
        kernel = ops.where(blocks, kernel, ops.zeros_like(kernel))
        return super().convolution_op(inputs, kernel)


class FrameGate(keras.layers.Layer):
    """Gate every frame and channel by its pooled features and those of the frames nearby.

    `x * sigmoid(convolution over time of the mean over H and W)`, with one kernel
    `(k, 1)` for all channels, k = int(log2 T), plus one if that is even.
    """

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def build(self, input_shape):
        size = int(math.log2(self.num_frames)) // 2 * 2 + 1
        limit = 1.0 / math.sqrt(size)  # PyTorch's default
        self.kernel = self.add_weight(
            name="kernel",
            shape=(size, 1),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )

    def call(self, x):
        pooled = ops.mean(ops.cast(x, precise_dtype(x)), axis=(1, 2), keepdims=True)
        clips = unfold_frames(pooled, self.num_frames)
        kernel = ops.repeat(self.kernel, x.shape[-1], axis=1)
        gate = ops.sigmoid(temporal_convolution(clips, kernel))
        return x * ops.cast(fold_frames(gate), x.dtype)
