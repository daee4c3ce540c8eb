"""The temporal interaction module (TIM) of TEINet."""

import keras

from tsi_keras.layers.temporal_conv1d import TemporalConv1D


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalInteraction(TemporalConv1D):
    """Temporal convolution of every channel by itself: a shift that learns.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. One kernel
    `(kernel_size, C)`, ordered previous, current, next; no bias, no normalisation;
    frames outside the clip count as zero. At the start it is exactly `TemporalShift`
    (C divisible by 8). TEINet puts it behind its motion enhancement module, before a
    block's first convolution.

    Args:
        num_frames: frames per clip, T.
        temporal_initializer: `"shift"` (an eighth of the channels looks one frame ahead,
            an eighth one back), `"identity"` (the output equals the input at the start),
            or any Keras initializer for `(kernel_size, C)`.
        kernel_size: odd length of the kernel in frames.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, an even `kernel_size`, or a batch axis that is not
            a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 14, 14, 256))
        mixed = TemporalInteraction(num_frames=8)(frames)  # (16, 14, 14, 256)
        ```

    Reference: TEINet, arXiv 1911.09435, temporal interaction module. There is no official
    code; the place and the kernels follow from the published number of parameters.
    """

    def __init__(
        self, num_frames, temporal_initializer="shift", kernel_size=3, **kwargs
    ):
        super().__init__(
            num_frames,
            kernel_size=kernel_size,
            temporal_initializer=temporal_initializer,
            **kwargs,
        )
