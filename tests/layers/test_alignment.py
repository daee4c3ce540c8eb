"""The blocked, recomputed alignment against the plain one."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from tests.reference import RTOL
from tsi_keras.layers import alignment
from tsi_keras.layers.pyramid import pooled_pyramid_difference
from tsi_keras.layers.pyramid import pyramid_difference


def naive(q, k):
    depth = q.shape[-1]
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) / np.sqrt(depth)
    return ops.matmul(ops.softmax(scores, axis=-1), k)


def value_and_gradients(function, *arrays):
    """`sum(weights * function(*arrays))` and its gradients, on either backend."""
    weights = np.cos(np.arange(arrays[0].size, dtype=arrays[0].dtype))
    weights = weights.reshape(arrays[0].shape)
    if keras.backend.backend() == "jax":
        import jax

        def loss(*xs):
            return ops.sum(function(*xs) * weights)

        value, grads = jax.value_and_grad(loss, range(len(arrays)))(*arrays)
    else:
        import tensorflow as tf

        xs = [tf.constant(a) for a in arrays]
        with tf.GradientTape() as tape:
            tape.watch(xs)
            value = ops.sum(function(*xs) * weights)
        grads = tape.gradient(value, xs)
    return np.asarray(value), [np.asarray(g) for g in grads]


def query_and_key(positions, dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 2, 6, positions, 4)).astype(dtype)


# Blocks of 56 rows of a pair, of one pair (336,400 bytes), of three pairs, of all.
@pytest.mark.parametrize("block_bytes", [2**16, 350_000, 1_200_000, 2**30])
def test_blocked_attention_equals_naive(block_bytes, monkeypatch):
    q, k = query_and_key(290)
    # All matrices take 4 MB; blocks of a tenth of that would need no loop.
    monkeypatch.setattr(alignment, "BLOCKS_IN_FLIGHT", 1)
    value, grads = value_and_gradients(
        lambda q, k: alignment.softmax_attention(q, k, block_bytes), q, k
    )
    expected, expected_grads = value_and_gradients(naive, q, k)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-6, atol=1e-11)


def test_small_maps_take_no_loop_and_agree():
    q, k = query_and_key(49)
    value, grads = value_and_gradients(alignment.softmax_attention, q, k)
    expected, expected_grads = value_and_gradients(naive, q, k)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-8, atol=1e-12)


def test_single_precision_gradient():
    q, k = query_and_key(300, "float32")
    _, grads = value_and_gradients(
        lambda q, k: alignment.softmax_attention(q, k, 2**16), q, k
    )
    _, expected = value_and_gradients(naive, q, k)
    for grad, expected_grad in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "pairs, positions, block_bytes, expected",
    [
        (7, 3136, 2**20, 1),
        (7, 784, 20 * 2**20, 7),
        (15, 784, 20 * 2**20, 5),
        (6, None, 1, 1),
    ],
)
def test_pairs_per_block(pairs, positions, block_bytes, expected):
    assert alignment._pairs_per_block(pairs, positions, block_bytes) == expected


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function")
@pytest.mark.parametrize("block_bytes", [2**12, 2**21])
def test_unknown_sizes_in_a_graph(block_bytes):
    import tensorflow as tf

    spec = tf.TensorSpec((None, 3, None, 4), "float64")

    @tf.function(input_signature=[spec, spec])
    def graph(q, k):
        with tf.GradientTape() as tape:
            tape.watch([q, k])
            y = alignment.softmax_attention(q, k, block_bytes)
        return y, *tape.gradient(y, [q, k])

    @tf.function(input_signature=[spec, spec])
    def expected(q, k):
        with tf.GradientTape() as tape:
            tape.watch([q, k])
            y = naive(q, k)
        return y, *tape.gradient(y, [q, k])

    rng = np.random.default_rng(0)
    for clips, positions in ((1, 30), (3, 77)):
        q, k = rng.normal(size=(2, clips, 3, positions, 4))
        for got, want in zip(graph(q, k), expected(q, k), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("positions", [200, 300])
def test_attention_matrix_is_not_kept(positions, monkeypatch):
    """Between the forward and the backward pass no attention matrix is alive."""
    if keras.backend.backend() == "jax":
        import jax

        q, k = query_and_key(positions, "float32")
        _, backward = jax.vjp(alignment.softmax_attention, q, k)
        assert 0 < max(x.size for x in jax.tree.leaves(backward)) < positions**2
        return
    import tensorflow as tf

    matrices = []

    def recording(q, k, compute=alignment._probabilities):
        matrix = compute(q, k)
        matrices.append(weakref.ref(matrix))
        return matrix

    monkeypatch.setattr(alignment, "_probabilities", recording)
    with tf.GradientTape() as tape:
        tape.watch(inputs := [tf.constant(x) for x in query_and_key(positions)])
        output = alignment.softmax_attention(*inputs)
        gc.collect()
        assert matrices and all(matrix() is None for matrix in matrices)
    computed = len(matrices)
    assert tape.gradient(output, inputs)[0] is not None
    assert len(matrices) > computed


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (14, 9)])
@pytest.mark.parametrize("levels", [1, 5])
def test_adjoint_pyramid_equals_literal(size, levels):
    rng = np.random.default_rng(4)
    aligned, current = rng.normal(size=(2, 3, *size, 4))
    convolutions = []
    for _ in range(levels):
        convolution = keras.layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, dtype="float64"
        )
        convolution.build(aligned.shape)
        convolution.kernel.assign(rng.normal(size=(3, 3, 4, 1)))
        convolutions.append(convolution)
    literal = pyramid_difference(aligned, current, convolutions)
    literal = ops.mean(literal, axis=(1, 2), keepdims=True)
    pooled = pooled_pyramid_difference(
        ops.convert_to_tensor(aligned), current, [c.kernel for c in convolutions]
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(pooled),
        ops.convert_to_numpy(literal),
        rtol=RTOL,
        atol=RTOL,
    )
