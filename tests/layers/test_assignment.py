"""The matchers against SciPy's optimum, brute definitions and awkward input."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from scipy.optimize import linear_sum_assignment

from tests.layers import reference_ata as reference
from tsi_keras.layers.assignment import greedy_assignment
from tsi_keras.layers.assignment import invert_permutation
from tsi_keras.layers.assignment import optimal_assignment
from tsi_keras.layers.assignment import sinkhorn_assignment

PERMUTATIONS = [optimal_assignment, greedy_assignment]


@functools.cache
def compiled(function):
    """In one graph, as in training; eager loops are slow."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, reduce_retracing=True)


def solve(function, similarity):
    found = compiled(function)(ops.convert_to_tensor(similarity))
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    found = ops.convert_to_numpy(found)
    size = similarity.shape[-1]
    assert np.array_equal(np.sort(found, axis=1), [np.arange(size)] * len(found))
    return found


def total(similarity, columns):
    rows = np.arange(similarity.shape[-1])
    return np.array(
        [
            s[rows, c].sum()
            for s, c in zip(similarity.astype("float64"), columns, strict=True)
        ]
    )


def optimum(similarity):
    columns = [linear_sum_assignment(s, maximize=True)[1] for s in similarity]
    return total(similarity, columns)


def smooth_features(rng, pairs, side, channels):
    """Spatially smooth maps `(pairs, side, side, channels)`."""
    maps = rng.normal(size=(pairs, side, side, channels))
    for _ in range(8):
        maps = sum(np.roll(maps, s, a) for s in (-1, 0, 1) for a in (1, 2)) / 6
    return maps


def cosines(a, b):
    a = a.reshape(len(a), -1, a.shape[-1])
    b = b.reshape(len(b), -1, b.shape[-1])
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return a @ b.swapaxes(1, 2)


def instances(name, side=7, pairs=3):
    rng = np.random.default_rng(0)
    size = side * side
    shape = (pairs, size, 32)
    if name == "random features":
        return cosines(rng.normal(size=shape), rng.normal(size=shape))
    if name == "uniform random":
        return rng.uniform(size=(pairs, size, size))
    if name == "smooth maps moved by a pixel":
        maps = smooth_features(rng, pairs, side + 1, 32)
        return cosines(maps[:, :-1, :-1], maps[:, :-1, 1:])
    if name == "unrelated smooth maps after a ReLU":
        maps = np.maximum(smooth_features(rng, 2 * pairs, side, 32), 0) + 0.1
        return cosines(maps[:pairs], maps[pairs:])
    if name == "a few kinds of tokens":
        kinds = rng.normal(size=(2, 5, 32))[:, rng.integers(0, 5, size=shape[:2])]
        return cosines(*kinds)
    if name == "zeros and ones":
        return (rng.uniform(size=(pairs, size, size)) < 2 / size).astype("float64")
    if name == "points on a line":
        points = rng.normal(size=(2, pairs, size))
        return -np.square(points[0][:, :, None] - points[1][:, None])
    raise KeyError(name)


INSTANCES = [
    "random features",
    "uniform random",
    "smooth maps moved by a pixel",
    "unrelated smooth maps after a ReLU",
    "a few kinds of tokens",
    "zeros and ones",
    "points on a line",
]


@pytest.mark.parametrize("name", INSTANCES)
def test_optimal_assignment_reaches_the_optimum_of_scipy(name):
    similarity = instances(name).astype("float32")
    found = total(similarity, solve(optimal_assignment, similarity))
    np.testing.assert_allclose(found, optimum(similarity), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTANCES)
def test_optimal_assignment_of_196_tokens(name):
    similarity = instances(name, side=14, pairs=7).astype("float32")
    found = total(similarity, solve(optimal_assignment, similarity))
    np.testing.assert_allclose(found, optimum(similarity), rtol=0, atol=5e-5)


def test_many_small_matrices():
    """All sizes of search trees, in float64: equal to the optimum, not close to it."""
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 6):
        similarity = rng.normal(size=(200, size, size))
        found = total(similarity, solve(optimal_assignment, similarity))
        np.testing.assert_allclose(found, optimum(similarity), rtol=1e-12, atol=1e-12)
    whole = rng.integers(-3, 4, size=(200, 6, 6)).astype("float32")
    assert np.array_equal(
        total(whole, solve(optimal_assignment, whole)), optimum(whole)
    )


def test_worst_case_of_path_searches():
    """Costs i * j make every shortest path as long as it can be."""
    index = np.arange(1.0, 31.0)
    similarity = -(index[:, None] * index)[None].astype("float32")
    assert np.array_equal(
        solve(optimal_assignment, similarity)[0], np.arange(29, -1, -1)
    )


def test_a_permuted_copy_is_found_again():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(4, 20, 8))
    order = np.stack([rng.permutation(20) for _ in range(4)])
    moved = np.take_along_axis(features, order[:, :, None], axis=1)
    similarity = cosines(features, moved).astype("float32")
    for function in PERMUTATIONS:
        assert np.array_equal(solve(function, similarity), np.argsort(order, axis=1))


def test_matrices_of_a_batch_do_not_mix():
    similarity = instances("random features", side=4).astype("float32")
    similarity[1] = 0.0
    for function in PERMUTATIONS:
        together = solve(function, similarity)
        alone = [solve(function, s[None])[0] for s in similarity]
        assert np.array_equal(together, alone)


@pytest.mark.parametrize("function", PERMUTATIONS)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.3, np.nan, np.inf, -np.inf, 3e38])
def test_equal_similarities_leave_the_tokens_in_place(function, value):
    similarity = np.full((2, 30, 30), value, "float32")
    assert np.array_equal(solve(function, similarity), [np.arange(30)] * 2)


@pytest.mark.parametrize("function", PERMUTATIONS)
def test_nan_counts_as_zero_and_never_hangs(function):
    rng = np.random.default_rng(3)
    similarity = rng.normal(size=(3, 12, 12)).astype("float32")
    broken = similarity.copy()
    broken[0, 2], broken[1, :, 5], broken[2] = np.nan, np.nan, np.nan
    cleaned = np.nan_to_num(broken, nan=0.0)
    assert np.array_equal(solve(function, broken), solve(function, cleaned))
    broken[0, 0, 0], broken[0, 1, 1] = np.inf, -np.inf
    assert solve(function, broken)[0, 0] == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_solved_in_float32(dtype):
    similarity = ops.cast(instances("random features", side=4, pairs=2), dtype)
    precise = ops.convert_to_numpy(ops.cast(similarity, "float32"))
    found = ops.convert_to_numpy(compiled(optimal_assignment)(similarity))
    np.testing.assert_allclose(total(precise, found), optimum(precise), atol=1e-5)


@pytest.mark.parametrize("name", ["random features", "zeros and ones"])
def test_greedy_takes_the_best_pair_first(name):
    similarity = instances(name, side=4).astype("float32")
    expected = [reference.greedy(s) for s in similarity]
    assert np.array_equal(solve(greedy_assignment, similarity), expected)


def test_sinkhorn_plan():
    similarity = instances("random features", side=3)
    plan = ops.convert_to_numpy(sinkhorn_assignment(similarity, 0.1, 50))
    expected = [reference.sinkhorn(s, 0.1, 50) for s in similarity]
    np.testing.assert_allclose(plan, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(plan.sum(2), 1.0, rtol=1e-6)
    np.testing.assert_allclose(plan.sum(1), 1.0, rtol=1e-2)


def test_cold_sinkhorn_plan_is_the_optimal_permutation():
    similarity = instances("random features", side=3, pairs=2)
    plan = ops.convert_to_numpy(sinkhorn_assignment(similarity, 1e-3, 300))
    assert np.array_equal(plan.argmax(2), solve(optimal_assignment, similarity))


def test_inverse():
    rng = np.random.default_rng(4)
    order = np.stack([rng.permutation(9) for _ in range(5)]).astype("int32")
    inverse = ops.convert_to_numpy(invert_permutation(order))
    assert np.array_equal(inverse, np.argsort(order, axis=1))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only")
def test_graph_with_unknown_sizes_and_xla():
    import tensorflow as tf

    similarity = instances("random features", side=4).astype("float32")
    expected = solve(optimal_assignment, similarity)
    unknown = tf.TensorSpec((None, None, None), "float32")
    for function in PERMUTATIONS:
        graph = tf.function(function, input_signature=[unknown])
        for size in (16, 5):
            part = similarity[:, :size, :size]
            assert np.array_equal(graph(part), solve(function, part))
    xla = tf.function(optimal_assignment, jit_compile=True)
    assert np.array_equal(xla(similarity), expected)
