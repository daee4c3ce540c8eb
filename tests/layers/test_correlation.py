"""Local correlation against NumPy: values, gradients, precision, what it keeps."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.layers import reference_tcm as reference
from tests.reference import RTOL
from tsi_keras.layers.correlation import correlate
from tsi_keras.layers.correlation import correlate_gradient
from tsi_keras.layers.correlation import l2_normalize
from tsi_keras.layers.correlation import match


def frames(shape, seed):
    """Directions of generic features, float64."""
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("patch_size", [3, 5, 15])
@pytest.mark.parametrize("size", [(4, 6), (1, 5), (17, 2)])
def test_match_equals_numpy(size, patch_size):
    query, key = (frames((2, *size, 5), seed) for seed in (0, 1))
    expected = [
        reference.match(q, k, patch_size) for q, k in zip(query, key, strict=True)
    ]
    y = match(ops.convert_to_tensor(query), ops.convert_to_tensor(key), patch_size)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


def test_window_and_temperature_are_options():
    query, key = (frames((1, 4, 6, 5), seed) for seed in (0, 1))
    expected = reference.match(query[0], key[0], 5, sigma=1.5, temperature=3.0)
    y = match(ops.convert_to_tensor(query), ops.convert_to_tensor(key), 5, 1.5, 3.0)
    np.testing.assert_allclose(y[0], expected, rtol=RTOL, atol=RTOL)


def test_match_finds_a_translation():
    """Content that moves 1 column and 2 rows gives u = 1/7, v = 2/7."""
    field = frames((1, 30, 30, 64), 0)
    query, key = field[:, 4:24, 4:24], field[:, 2:22, 3:23]
    y = ops.convert_to_numpy(match(*(ops.cast(x, "float32") for x in (query, key))))
    inside = y[0, :18, :19]
    np.testing.assert_allclose(inside[..., 0], 1 / 7, atol=1e-3)
    np.testing.assert_allclose(inside[..., 1], 2 / 7, atol=1e-3)
    np.testing.assert_allclose(inside[..., 2], 1.0, atol=1e-5)


def test_frames_without_a_match_stay_in_place():
    """No positive similarity: no displacement, no confidence, no gradient."""
    zeros = np.zeros((1, 3, 3, 4), "float32")
    assert np.abs(ops.convert_to_numpy(match(zeros, zeros, 3))).max() < 1e-7


def test_correlation_gradient_is_its_adjoint():
    """`<correlate(q, k), g>` is linear in q and in k."""
    rng = np.random.default_rng(0)
    query, key, other = (rng.normal(size=(2, 4, 6, 3)) for _ in range(3))
    upstream = rng.normal(size=(2, 4, 6, 5, 5))
    of_query, of_key = correlate_gradient(
        *map(ops.convert_to_tensor, (query, key, upstream))
    )
    for_query = (ops.convert_to_numpy(correlate(other, key, 5)) * upstream).sum()
    for_key = (ops.convert_to_numpy(correlate(query, other, 5)) * upstream).sum()
    assert (ops.convert_to_numpy(of_query) * other).sum() == pytest.approx(for_query)
    assert (ops.convert_to_numpy(of_key) * other).sum() == pytest.approx(for_key)


def gradients(query, key, upstream, jit=False):
    """Gradients of `<match(query, key, 5), upstream>`."""
    if keras.backend.backend() == "jax":
        import jax

        def loss(q, k):
            return (match(q, k, 5) * upstream).sum()

        return jax.grad(loss, argnums=(0, 1))(query, key)
    import tensorflow as tf

    def of(q, k):
        with tf.GradientTape() as tape:
            tape.watch([q, k])
            loss = tf.reduce_sum(match(q, k, 5) * upstream)
        return tape.gradient(loss, [q, k])

    spec = tf.TensorSpec((None, None, None, query.shape[-1]), query.dtype)
    of = tf.function(of, input_signature=[spec, spec]) if jit else of
    return of(tf.constant(query), tf.constant(key))


@pytest.mark.parametrize("jit", [False, True])
def test_gradients_equal_differences_of_numpy(jit):
    """Central differences of the reference, in every direction of a few positions."""
    query, key = (frames((1, 3, 4, 3), seed) for seed in (2, 3))
    upstream = np.random.default_rng(4).normal(size=(1, 3, 4, 3))

    def loss(q, k):
        return (reference.match(q[0], k[0], 5) * upstream[0]).sum()

    found = gradients(query, key, upstream, jit)
    step = 1e-6
    for position in ((0, 0, 0), (1, 2, 1), (2, 3, 2), (2, 0, 0)):
        for argument, gradient in enumerate(found):
            nudge = np.zeros_like(query)
            nudge[(0, *position)] = step
            ahead = [query, key]
            back = [query, key]
            ahead[argument] = ahead[argument] + nudge
            back[argument] = back[argument] - nudge
            expected = (loss(*ahead) - loss(*back)) / (2 * step)
            value = float(gradient[(0, *position)])
            assert value == pytest.approx(
                expected, rel=1e-4, abs=1e-4 * np.abs(gradient).max()
            )


def test_normalised_features_have_unit_length():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 8))
    y = ops.convert_to_numpy(l2_normalize(ops.convert_to_tensor(x)))
    expected = x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, expected, rtol=RTOL)
    assert np.array_equal(
        ops.convert_to_numpy(l2_normalize(np.zeros((1, 4)))), [[0] * 4]
    )
