"""Pyramidal feature difference (TSI, Eq. 4 and 5): literal, and pooled by the adjoint.

Eq. 4 is a cascade of depthwise 3x3 convolutions, `D_k = conv_k(D_{k-1} + y)`; Eq. 5 sums
`D_k - X_t` over the levels. The cascade is linear. Where its sum over all positions is
all that is needed (channel attention pools it), the sum equals `<y, w>` with one map
`w = L^T 1` that depends on the kernels and the frame size only: five flipped convolutions
of a single `(1, H, W, d)` map instead of five convolutions of every frame. Borders
included, the result is the same up to rounding.
"""

from keras import ops


def pyramid_difference(aligned, current, convolutions, activation=None):
    """`sum_k (D_k - current)` at every position.

    Args:
        aligned: `(B, H, W, d)` aligned features of frame t+1.
        current: `(B, H, W, d)` features of frame t.
        convolutions: depthwise 3x3 convolutions, one per level.
        activation: function applied after each convolution, or None.

    Returns:
        The motion map `(B, H, W, d)`.
    """
    dtype = convolutions[0].compute_dtype
    aligned, current = ops.cast(aligned, dtype), ops.cast(current, dtype)
    level, total = None, None
    for convolution in convolutions:
        level = convolution(aligned if level is None else level + aligned)
        level = activation(level) if activation else level
        total = level if total is None else total + level
    return total - len(convolutions) * current


def pooled_pyramid_difference(aligned, current, kernels):
    """Mean over the positions of `pyramid_difference`, by the adjoint of the cascade.

    Args:
        aligned: `(B, H, W, d)` aligned features of frame t+1.
        current: `(B, H, W, d)` features of frame t.
        kernels: depthwise kernels `(3, 3, d, 1)`, one per level.

    Returns:
        `(B, 1, 1, d)` in the type of `aligned`.
    """
    weights = position_weights(kernels, ops.shape(aligned)[1:3], aligned.dtype)
    cascade = ops.mean(aligned * weights, axis=(1, 2), keepdims=True)
    return cascade - len(kernels) * ops.mean(current, axis=(1, 2), keepdims=True)


def position_weights(kernels, size, dtype):
    """`w = L^T 1`: what each position adds to the sum over all levels and positions.

    With `D_k = C_k (D_{k-1} + y)` and `s = sum_k 1^T D_k`, going backwards from the last
    level: `g_K = 1`, `h_k = C_k^T g_k`, `g_{k-1} = 1 + h_k`, and `w = sum_k h_k`. The
    transpose of a zero-padded depthwise convolution is the one with flipped kernels.

    Args:
        kernels: depthwise kernels `(3, 3, d, 1)`, one per level.
        size: `(H, W)`, each an int or a scalar tensor.
        dtype: type of the result.

    Returns:
        `(1, H, W, d)`.
    """
    ones = ops.ones((1, *size, kernels[0].shape[2]), dtype=dtype)
    weights = ops.zeros_like(ones)
    gradient = ones
    for kernel in reversed(kernels):
        flipped = ops.flip(ops.cast(kernel, dtype), axis=(0, 1))
        pulled = ops.depthwise_conv(
            gradient, flipped, padding="same", data_format="channels_last"
        )
        weights = weights + pulled
        gradient = ones + pulled
    return weights
