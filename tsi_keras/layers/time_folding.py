"""Layers between clips `(N, T, ...)` and the frames `(N*T, ...)` a 2D network takes."""

import keras

from tsi_keras.layers._frames import check_num_frames
from tsi_keras.layers._frames import fold_frames
from tsi_keras.layers._frames import unfold_frames


@keras.saving.register_keras_serializable(package="tsi_keras")
class FoldFrames(keras.layers.Layer):
    """`(N, T, ...)` to `(N*T, ...)`: every frame becomes a sample of a 2D network.

    Example:
        ```python
        frames = FoldFrames()(clips)  # (2, 8, 224, 224, 3) -> (16, 224, 224, 3)
        ```
    """

    def call(self, x):
        return fold_frames(x)

    def compute_output_shape(self, input_shape):
        clips, frames = input_shape[:2]
        batch = None if clips is None or frames is None else clips * frames
        return (batch, *input_shape[2:])


@keras.saving.register_keras_serializable(package="tsi_keras")
class UnfoldFrames(keras.layers.Layer):
    """`(N*T, ...)` back to `(N, T, ...)`.

    Args:
        num_frames: frames per clip, T.
        **kwargs: `name`, `dtype`, `trainable`.

    Example:
        ```python
        clips = UnfoldFrames(num_frames=8)(frames)  # (16, 7, 7, 2048) -> (2, 8, ...)
        ```
    """

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = check_num_frames(num_frames)

    def call(self, x):
        return unfold_frames(x, self.num_frames)

    def compute_output_shape(self, input_shape):
        batch = input_shape[0]
        clips = None if batch is None else batch // self.num_frames
        return (clips, self.num_frames, *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}
