"""The temporal shift module (TSM), and shifting by one frame for its descendants."""

import keras
from keras import ops

from tsi_keras.layers._frames import check_frame_maps
from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import check_positive
from tsi_keras.layers._frames import current_frames
from tsi_keras.layers._frames import cut
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import following_frames
from tsi_keras.layers._frames import pad_frames
from tsi_keras.layers._frames import unfold_frames


def next_frames(clips):
    """Clips `(N, T, ...)` moved so that t holds frame t + 1; the last becomes zero."""
    return pad_frames(following_frames(clips), (0, 1))


def previous_frames(clips):
    """Clips `(N, T, ...)` moved so that t holds frame t - 1; the first becomes zero."""
    return pad_frames(current_frames(clips), (1, 0))


@keras.saving.register_keras_serializable(package="tsi_keras")
class TemporalShift(keras.layers.Layer):
    """Exchange an eighth of the channels with each neighbouring frame, free of charge.

    Input and output `(N*T, H, W, C)`, the frames of a clip contiguous. With
    fold = C // shift_div, the first fold channels take the next frame, the second fold
    the previous one, the others stay; beyond the ends of a clip there are zeros. There
    are no parameters. TSM puts it on the residual branch, before a block's first
    convolution.

    Args:
        num_frames: frames per clip, T.
        shift_div: one part in `shift_div` of the channels moves each way.
        bidirectional: False for the online TSM, in which no frame sees the future: only
            the first fold channels move, and they take the previous frame.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: `num_frames` < 1, `shift_div` that is no positive integer (or 1 while
            both directions are asked for), fewer channels than `shift_div`, or a batch
            axis that is not a multiple of `num_frames`.

    Example:
        ```python
        frames = keras.random.normal((2 * 8, 14, 14, 256))
        shifted = TemporalShift(num_frames=8)(frames)  # (16, 14, 14, 256)
        ```

    Reference: TSM, arXiv 1811.08383, and its official code (offline models, online
    demonstration).
    """

    def __init__(self, num_frames, shift_div=8, bidirectional=True, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)
        self.shift_div = check_positive("shift_div", shift_div)
        self.bidirectional = bool(bidirectional)
        if self.bidirectional and self.shift_div == 1:
            raise ValueError(
                "`shift_div` must be at least 2 to shift in both directions. "
                f"Received: shift_div={shift_div}"
            )

    def build(self, input_shape):
        channels = check_frame_maps(input_shape, self.num_frames, "TemporalShift")
        if channels < self.shift_div:
            raise ValueError(
                f"TemporalShift would move no channel: the input has {channels} and "
                "needs at least `shift_div`. Lower `shift_div` or leave this place "
                f"without a shift. Received: shift_div={self.shift_div}"
            )

    def call(self, x):
        channels = x.shape[-1]
        fold = channels // self.shift_div
        clips = unfold_frames(x, self.num_frames)
        first = cut(clips, -1, 0, fold)
        if not self.bidirectional:
            parts = [previous_frames(first), cut(clips, -1, fold, channels)]
        else:
            parts = [
                next_frames(first),
                previous_frames(cut(clips, -1, fold, 2 * fold)),
                cut(clips, -1, 2 * fold, channels),
            ]
        return fold_frames(ops.concatenate(parts, axis=-1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "shift_div": self.shift_div,
            "bidirectional": self.bidirectional,
        }
