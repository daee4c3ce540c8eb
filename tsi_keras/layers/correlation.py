"""Matching of two frames by local correlation (TCM's motion estimate).

Every position of the query frame is compared with the patch of positions around it in
the key frame; the soft argmax of the similarities says where it moved, their maximum how
sure that is. The patch is computed row by row: a product of every row of the query frame
with one of the key frame holds all horizontal displacements in its diagonals, which a
reshape turns into columns. Query and key alone are kept for the backward pass, which
computes the similarities again.

Measured on two CPU cores, forward and backward, 2 clips of 8 frames of 28x28x64: 0.16 s
and 0.4 GB. By automatic differentiation of P^2 shifted products: 2.3 s and 3.3 GB, of a
gather from the full (HW)^2 product: 0.32 s and 0.45 GB, of extracted patches: more.
"""

from keras import ops

from tsi_keras.layers.export_scope import is_exporting


def l2_normalize(x, epsilon=1e-6):
    """`x / sqrt(sum(x^2) + epsilon)` over the last axis."""
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + epsilon)


def match(query, key, patch_size=15, sigma=5.0, temperature=100.0):
    """Displacement from query to key at every position, and its confidence.

    With the similarities `s_ij = max(0, <query[h, w], key[h + i - r, w + j - r]>)`,
    r = patch_size // 2 and zeros outside the frame, and a Gaussian window G around their
    argmax, through which no gradient flows: `p = softmax(temperature * G * s)`.

    Args:
        query: `(B, H, W, C)`, float32 or float64, of unit length along C.
        key: the same shape.
        patch_size: P, odd and at least 3; the largest displacement is P // 2.
        sigma: standard deviation of the window, in positions.
        temperature: factor before the softmax.

    Returns:
        `(B, H, W, 3)`: the expectations under p of the horizontal and the vertical
        displacement, divided by r (so from -1 to 1), and the largest similarity.
    """

    @ops.custom_gradient
    def matching(query, key):
        # TensorFlow's eager tape would record, and keep, what is computed in here.
        query, key = ops.stop_gradient(query), ops.stop_gradient(key)

        def backward(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            products = correlate(query, key, patch_size)
            gradient = _soft_argmax_gradient(products, upstream, sigma, temperature)
            return correlate_gradient(query, key, gradient)

        products = correlate(query, key, patch_size)
        return _soft_argmax(products, sigma, temperature), backward

    return matching(query, key)


def correlate(query, key, patch_size):
    """Products of every query position with a patch of the key frame.

    Args:
        query: `(B, H, W, C)`.
        key: the same shape.
        patch_size: P, odd.

    Returns:
        `(B, H, W, P, P)`: entry `[b, h, w, i, j]` is the product over C of
        `query[b, h, w]` and `key[b, h + i - P // 2, w + j - P // 2]`, zero outside.
    """
    shape = ops.shape(query)[:3]
    key = ops.swapaxes(_pad(key, patch_size // 2), 2, 3)
    rows = [
        _band(ops.matmul(query, key[:, i : i + shape[1]]), patch_size)
        for i in range(patch_size)
    ]
    # The reshape makes both P known where H and W are not.
    return ops.reshape(ops.stack(rows, axis=3), (*shape, patch_size, patch_size))


def correlate_gradient(query, key, upstream):
    """Gradients of `correlate` with respect to `query` and `key`."""
    height, width = ops.shape(query)[1:3]
    size = upstream.shape[-1]
    radius = size // 2
    key = _pad(key, radius)
    query_gradient, key_gradient = 0.0, 0.0
    for i in range(size):
        band = _unband(upstream[:, :, :, i])
        query_gradient += ops.matmul(band, key[:, i : i + height])
        row = ops.matmul(ops.swapaxes(band, 2, 3), query)
        key_gradient += ops.pad(row, [(0, 0), (i, size - 1 - i), (0, 0), (0, 0)])
    rows, columns = slice(radius, radius + height), slice(radius, radius + width)
    return query_gradient, key_gradient[:, rows, columns]


def _pad(x, radius):
    return ops.pad(x, [(0, 0), (radius, radius), (radius, radius), (0, 0)])


def _band(x, size):
    """`y[..., w, j] = x[..., w, w + j]`, j < size, from `(B, H, W, W + size - 1)`.

    Rows one longer than they are shift by one position each when read row after row.
    """
    batch, height, width, length = ops.shape(x)
    flat = ops.reshape(x, (batch, height, width * length))
    flat = ops.concatenate([flat, ops.zeros_like(x[..., 0])], axis=-1)
    return ops.reshape(flat, (batch, height, width, length + 1))[..., :size]


def _unband(y):
    """The transpose of `_band`: `(B, H, W, size)` to `(B, H, W, W + size - 1)`."""
    batch, height, width, size = ops.shape(y)
    zeros = ops.zeros((batch, height, width, width), dtype=y.dtype)
    flat = ops.concatenate([y, zeros], axis=-1)
    flat = ops.reshape(flat, (batch, height, width * (width + size)))
    flat = flat[..., : width * (width + size - 1)]
    return ops.reshape(flat, (batch, height, width, width + size - 1))


def _soft_argmax(products, sigma, temperature):
    """`(B, H, W, P, P)` products to u, v and confidence `(B, H, W, 3)`."""
    similarity = ops.relu(products)
    p = _probabilities(similarity, *_window(similarity, sigma)[:2], temperature)
    u, v = _expectations(p)
    return ops.stack([u, v, ops.max(similarity, axis=(3, 4))], axis=-1)


def _soft_argmax_gradient(products, upstream, sigma, temperature):
    """Gradient of `_soft_argmax` with respect to the products.

    Softmax: `p_ij (d_ij - sum p d)` with `d_ij = du * x_j + dv * y_i`.
    """
    similarity = ops.relu(products)
    vertical, horizontal, index = _window(similarity, sigma)
    p = _probabilities(similarity, vertical, horizontal, temperature)
    du, dv, dc = (upstream[..., k, None, None] for k in range(3))
    u, v = (e[..., None, None] for e in _expectations(p))
    offsets = _offsets(p)
    inner = temperature * p * (du * (offsets - u) + dv * (offsets[:, None] - v))
    inner *= vertical[..., :, None] * horizontal[..., None, :]
    peak = ops.one_hot(index, p.shape[-1] ** 2, dtype=p.dtype)
    gradient = inner + dc * ops.reshape(peak, ops.shape(p))
    return ops.where(products > 0, gradient, ops.zeros_like(gradient))


def _window(similarity, sigma):
    """Gaussian window around the argmax.

    Returns:
        Its vertical and its horizontal factor, `(B, H, W, P)`, and the argmax `(B, H, W)`
        in `0 ... P * P - 1`.
    """
    size, dtype = similarity.shape[-1], similarity.dtype
    flat = ops.reshape(similarity, (*ops.shape(similarity)[:3], size * size))
    index = _first_maximum(flat)
    positions = ops.arange(size, dtype=dtype)

    def gaussian(center):
        distance = positions - ops.cast(center, dtype)[..., None]
        return ops.exp(-ops.square(distance) / (2.0 * sigma**2))

    return gaussian(index // size), gaussian(index % size), index


def _first_maximum(x):
    """Position of the first maximum along the last axis, int32."""
    if not is_exporting():
        return ops.argmax(x, axis=-1)
    # Keras' argmax looks at the bits of its input, which TFLite has no operator for.
    count = x.shape[-1]
    order = ops.arange(count, 0, -1, dtype=x.dtype)
    found = x == ops.max(x, axis=-1, keepdims=True)
    found = ops.where(found, order, ops.zeros_like(order))
    return count - ops.cast(ops.max(found, axis=-1), "int32")


def _probabilities(similarity, vertical, horizontal, temperature):
    """Softmax over the patch of the windowed similarities."""
    x = temperature * similarity * vertical[..., :, None] * horizontal[..., None, :]
    e = ops.exp(x - ops.max(x, axis=(3, 4), keepdims=True))
    return e / ops.sum(e, axis=(3, 4), keepdims=True)


def _expectations(p):
    """Mean horizontal and vertical displacement under p, each `(B, H, W)`."""
    offsets = _offsets(p)
    horizontal = ops.sum(ops.sum(p, axis=3) * offsets, axis=-1)
    return horizontal, ops.sum(ops.sum(p, axis=4) * offsets, axis=-1)


def _offsets(p):
    """-1 to 1 in steps of 1 / (P // 2)."""
    radius = p.shape[-1] // 2
    return ops.arange(-radius, radius + 1, dtype=p.dtype) / radius
