"""From PyTorch's weight layouts to Keras'."""

import keras
import numpy as np

# PyTorch name: the Keras names it may stand for.
PARAMETERS = {
    "weight": ("kernel", "gamma", "weight"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
}


def to_keras(array: np.ndarray, shape: tuple[int, ...], layer) -> np.ndarray:
    """A PyTorch weight in the layout of a Keras one.

    Args:
        array: convolutions `(out, in / groups, ...)`, depthwise ones `(C, 1, ...)`,
            linear layers `(out, in)`, or a vector.
        shape: of the Keras weight.
        layer: the Keras layer that owns it.

    Returns:
        `(..., in / groups, out)`, `(..., C, 1)`, `(in, out)` or the vector. Its shape is
        `shape` if the weights correspond; otherwise it shows what does not.

    Example:
        ```python
        to_keras(np.zeros((64, 3, 7, 7)), (7, 7, 3, 64), layer).shape  # (7, 7, 3, 64)
        ```
    """
    if array.ndim < 2:
        return array
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.DepthwiseConv1D):
        return _depthwise(array, shape)
    if array.ndim == 3 and array.shape[1] == 1 and len(shape) == 2:
        return array[:, 0].T  # one temporal kernel per channel, (C, 1, k) to (k, C)
    moved = np.moveaxis(array, (0, 1), (-1, -2))
    return _fit_rank(moved, len(shape))


def _depthwise(array, shape):
    """`(C * m, 1, ...)` to `(..., C, m)`."""
    moved = np.moveaxis(array[:, 0], 0, -1)
    return moved.reshape(*moved.shape[:-1], -1, shape[-1])


def _fit_rank(array, rank):
    """Add or drop leading axes of size 1: a linear layer is a 1x1 convolution."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def widen_input(array: np.ndarray, channels: int) -> np.ndarray:
    """A kernel `(..., in, out)` for several copies of its input, side by side.

    Each copy gets the same share, so that equal copies give the same output as before
    (modules joined by `fusion="concat"`).
    """
    copies = channels // array.shape[-2]
    return np.concatenate([array / copies] * copies, axis=-2)
