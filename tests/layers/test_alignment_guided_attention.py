"""ATA against its NumPy reference, its counts, and the structure of its alignment."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tests.layers import reference_ata as reference
from tests.reference import RTOL
from tsi_keras.layers import alignment_guided_attention as module
from tsi_keras.layers.alignment_guided_attention import MATCHERS
from tsi_keras.layers.alignment_guided_attention import AlignmentGuidedTemporalAttention
from tsi_keras.layers.alignment_guided_attention import compose_permutations
from tsi_keras.layers.alignment_guided_attention import neighbour_similarity
from tsi_keras.layers.assignment import greedy_assignment
from tsi_keras.layers.assignment import optimal_assignment

JAX = keras.backend.backend() == "jax"
SHAPE = (8, 3, 2, 16)


def count(weights) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


def run(layer, x):
    return ops.convert_to_numpy(layer(ops.cast(x, layer.compute_dtype)))


def randomise(layer, rng):
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0.0, 0.4, size=weight.shape))


def make(shape, rng=None, **options):
    layer = AlignmentGuidedTemporalAttention(options.pop("num_frames", 4), **options)
    layer.build(shape)
    randomise(layer, rng or np.random.default_rng(9))
    return layer


@pytest.mark.parametrize(
    "options, trainable",
    [
        # C = 16, d = 16: 2 C + 3 C d + 3 d + d d + d + d C + C.
        # Outside of jit, JAX compiles a loop at every call.
        pytest.param({}, 1392, marks=[pytest.mark.slow] if JAX else []),
        pytest.param(
            {"matcher": "greedy", "num_heads": 4},
            1392,
            marks=[pytest.mark.slow] if JAX else [],
        ),
        ({"matcher": "sinkhorn", "sinkhorn_iterations": 5}, 1392),
        # d = 8.
        ({"matcher": "none", "reduction": 2, "dropout": 0.1}, 656),
    ],
)
def test_layer(options, trainable, tmp_path):
    run_layer_test(
        AlignmentGuidedTemporalAttention,
        {"num_frames": 4, **options},
        SHAPE,
        trainable=trainable,
        non_trainable=0,
        tmp_path=tmp_path,
    )


def test_parameters_and_names_at_the_width_of_vit_b():
    layer = AlignmentGuidedTemporalAttention(8, num_heads=12, name="ata")
    layer.build((None, 197, 768))
    shapes = {w.path: tuple(w.shape) for w in layer.weights}
    assert shapes == {
        "ata/norm/gamma": (768,),
        "ata/norm/beta": (768,),
        "ata/qkv/kernel": (768, 2304),
        "ata/qkv/bias": (2304,),
        "ata/proj/kernel": (768, 768),
        "ata/proj/bias": (768,),
        "ata/temporal_fc/kernel": (768, 768),
        "ata/temporal_fc/bias": (768,),
    }
    assert count(layer.weights) == 2_363_904 + 590_592
    assert 12 * count(layer.weights) == 35_453_952


def reference_weights(layer):
    parts = {name: getattr(layer, name) for name in ("qkv", "proj", "temporal_fc")}
    weights = {
        name: (ops.convert_to_numpy(part.kernel), ops.convert_to_numpy(part.bias))
        for name, part in parts.items()
    }
    norm = layer.norm.gamma, layer.norm.beta
    return {"norm": [ops.convert_to_numpy(w) for w in norm], **weights}


@pytest.mark.parametrize("heads, reduction", [(1, 3), (4, 1)])
@pytest.mark.parametrize("matcher", MATCHERS)
def test_frame_maps_equal_numpy(matcher, heads, reduction):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2, 3, 12))
    options = {"num_heads": heads, "matcher": matcher, "reduction": reduction}
    layer = make(x.shape, rng, num_frames=3, dtype="float64", **options)
    tokens = x.reshape(6, 6, 12)
    expected = reference.ata(tokens, 3, reference_weights(layer), heads, matcher)
    found = run(layer, x).reshape(tokens.shape)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("matcher, prefix", [("greedy", 0), ("greedy", 2), ("none", 1)])
def test_tokens_equal_numpy(matcher, prefix):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 7, 8))
    options = {"num_heads": 2, "matcher": matcher, "num_prefix_tokens": prefix}
    layer = make(x.shape, rng, dtype="float64", **options)
    weights = reference_weights(layer)
    expected = reference.ata(x, 4, weights, 2, matcher, prefix=prefix)
    found = run(layer, x)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)
    assert np.array_equal(found[:, :prefix], x[:, :prefix])


def test_sinkhorn_options_reach_the_plan():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 5, 8))
    options = {"sinkhorn_epsilon": 0.3, "sinkhorn_iterations": 3}
    layer = make(x.shape, rng, matcher="sinkhorn", dtype="float64", **options)
    weights = reference_weights(layer)
    expected = reference.ata(x, 4, weights, 8, "sinkhorn", 0, 0.3, 3)
    np.testing.assert_allclose(run(layer, x), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_starts_as_the_identity(matcher):
    x = np.random.default_rng(3).normal(size=SHAPE).astype("float32")
    layer = AlignmentGuidedTemporalAttention(4, matcher=matcher)
    assert np.array_equal(run(layer, x), x)


def moved_tokens(rng, clips=2, frames=4, size=6, channels=8):
    """Noisy copies of the same tokens, in another order in every frame."""
    base = rng.normal(size=(clips, 1, size, channels))
    noise = rng.normal(0, 0.05, size=(clips, frames, size, channels))
    order = rng.random((clips, frames, size)).argsort(2)
    return np.take_along_axis(base + noise, order[..., None], axis=2), order


@pytest.mark.parametrize("matcher", ["hungarian", "greedy"])
def test_alignment_follows_the_tokens_and_is_undone_exactly(matcher):
    clips, order = moved_tokens(np.random.default_rng(4))
    layer = AlignmentGuidedTemporalAttention(4, matcher=matcher)
    align, dealign = layer._alignment(ops.convert_to_tensor(clips))
    chains = align(ops.convert_to_tensor(clips))
    assert np.array_equal(ops.convert_to_numpy(dealign(chains)), clips)
    identity = ops.cast(order[..., None], "float32")
    identity = ops.convert_to_numpy(align(identity))[..., 0]  # (N, L, T)
    assert np.array_equal(identity, np.repeat(order[:, 0, :, None], 4, axis=2))


def test_sinkhorn_alignment_is_undone_by_the_transpose():
    """Distinct tokens make the plan a permutation, and the transpose its inverse."""
    clips, _ = moved_tokens(np.random.default_rng(5), channels=64)
    layer = AlignmentGuidedTemporalAttention(4, matcher="sinkhorn")
    align, dealign = layer._alignment(ops.convert_to_tensor(clips))
    chains = align(ops.convert_to_tensor(clips))
    np.testing.assert_allclose(dealign(chains), clips, atol=1e-4)


def test_aligning_to_the_aligned_previous_frame_gives_the_same_chains():
    rng = np.random.default_rng(6)
    clips = rng.normal(size=(1, 4, 9, 6))
    pairs = neighbour_similarity(ops.convert_to_tensor(clips))[0]
    chains = compose_permutations(optimal_assignment(pairs)[None])
    chains = ops.convert_to_numpy(chains)[0]
    aligned = clips[0, 0]
    assert chains[0].tolist() == list(range(9))
    for t in range(1, 4):
        pair = ops.convert_to_tensor(np.stack([aligned, clips[0, t]])[None])
        found = optimal_assignment(neighbour_similarity(pair)[0])
        found = ops.convert_to_numpy(found)[0]
        assert np.array_equal(found, chains[t])
        aligned = clips[0, t][found]


@pytest.mark.parametrize("matcher", ["hungarian", "greedy", "sinkhorn"])
@pytest.mark.parametrize("frame", [0, 2])
def test_permuting_the_tokens_of_a_frame_permutes_its_outputs(matcher, frame):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4, 6, 8)).astype("float32")
    layer = make(x.shape, num_heads=2, matcher=matcher)
    before = run(layer, x)
    order = rng.permutation(6)
    x[frame] = x[frame, order]
    after = run(layer, x)
    expected = before.copy()
    expected[frame] = before[frame, order]
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


def test_clips_do_not_mix():
    x = np.random.default_rng(8).normal(size=SHAPE).astype("float32")
    for matcher in ("hungarian", "none"):
        layer = make(SHAPE, matcher=matcher)
        np.testing.assert_allclose(run(layer, x)[4:], run(layer, x[4:]), atol=1e-5)


def gradient(layer, x, upstream):
    """Gradient of the weighted sum of the outputs with respect to the input."""
    if JAX:
        import jax

        def loss(x):
            return ops.sum(layer(x) * upstream)

        return np.asarray(jax.jit(jax.grad(loss))(x))
    import tensorflow as tf

    @tf.function
    def taped(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(layer(x) * upstream)
        return tf.convert_to_tensor(tape.gradient(loss, x))

    return taped(tf.constant(x)).numpy()


@pytest.mark.parametrize("matcher", ["hungarian", "sinkhorn"])
def test_gradient_equals_finite_differences(matcher):
    """Where the permutation stays the same, it is a constant."""
    rng = np.random.default_rng(10)
    x, upstream = rng.normal(size=(2, 4, 3, 8))
    layer = make(x.shape, rng, num_heads=2, matcher=matcher, dtype="float64")
    found = gradient(layer, x, upstream)
    direction = rng.normal(size=x.shape)
    step = 1e-5 * direction
    ends = [np.sum(run(layer, x + s) * upstream) for s in (step, -step)]
    numeric = (ends[0] - ends[1]) / 2e-5
    assert np.sum(found * direction) == pytest.approx(numeric, rel=1e-3)


@pytest.mark.parametrize(
    "matcher, jit_compile",
    [("hungarian", False), ("hungarian", True), ("greedy", False), ("sinkhorn", True)],
)
def test_trains(matcher, jit_compile):
    if JAX and not jit_compile:
        pytest.skip("JAX trains compiled")
    inputs = keras.Input((None, None, 16))
    layer = AlignmentGuidedTemporalAttention(
        4, matcher=matcher, dropout=0.1, sinkhorn_iterations=5
    )
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile)
    x = np.random.default_rng(11).normal(size=SHAPE).astype("float32")
    fit = {"batch_size": 8, "epochs": 5, "shuffle": False, "verbose": 0}
    losses = model.fit(x, np.roll(x, 1, axis=0), **fit).history["loss"]
    assert losses[-1] < losses[0]


def test_nan_frames_neither_hang_nor_reach_other_clips():
    x = np.random.default_rng(12).normal(size=SHAPE).astype("float32")
    x[1] = np.nan
    for matcher in ("hungarian", "greedy"):
        y = run(make(SHAPE, matcher=matcher), x)
        assert np.isnan(y[1]).all() and np.isfinite(y[4:]).all()


@pytest.mark.parametrize("matcher", ["hungarian", "greedy"])
def test_half_precision_matches_as_its_own_values_in_float32(matcher):
    x = np.random.default_rng(13).normal(size=SHAPE).astype("float16")
    found = neighbour_similarity(ops.convert_to_tensor(x.reshape(2, 4, 6, 16)))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    mixed = make(SHAPE, matcher=matcher, dtype="mixed_float16")
    precise = make(SHAPE, matcher=matcher)
    np.testing.assert_allclose(run(mixed, x), run(precise, x), rtol=0.02, atol=0.05)


@pytest.mark.skipif(JAX, reason="TensorFlow only")
@pytest.mark.parametrize("matcher", MATCHERS)
def test_exports_to_tflite(matcher, tmp_path):
    import tensorflow as tf

    inputs = keras.Input((3, 3, 8))
    model = keras.Model(inputs, make((None, 3, 3, 8), matcher=matcher)(inputs))
    model.export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.resize_tensor_input(
        interpreter.get_input_details()[0]["index"], [8, 3, 3, 8]
    )
    interpreter.allocate_tensors()
    x = np.random.default_rng(14).normal(size=(8, 3, 3, 8)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-4)


def test_public_matchers_are_the_functions_of_the_module():
    assert module.PERMUTATIONS == {
        "hungarian": optimal_assignment,
        "greedy": greedy_assignment,
    }


Layer = AlignmentGuidedTemporalAttention


@pytest.mark.parametrize(
    "make_bad, message",
    [
        (lambda: Layer(1), "num_frames=1"),
        (lambda: Layer(4, num_heads=0), "num_heads=0"),
        (lambda: Layer(4, num_heads=1.5), "num_heads=1.5"),
        (lambda: Layer(4, matcher="scipy"), "matcher='scipy'"),
        (lambda: Layer(4, reduction=-1), "reduction=-1"),
        (lambda: Layer(4, dropout=1.0), "dropout=1.0"),
        (lambda: Layer(4, num_prefix_tokens=-1), "num_prefix_tokens=-1"),
        (lambda: Layer(4, sinkhorn_epsilon=0), "sinkhorn_epsilon=0"),
        (lambda: Layer(4, sinkhorn_iterations=0), "sinkhorn_iterations=0"),
        (lambda: Layer(4, num_heads=3).build((8, 5, 16)), "num_heads=3"),
        (lambda: Layer(4, reduction=4).build((8, 5, 16)), "reduction=4"),
        (lambda: Layer(4).build((9, 5, 16)), "num_frames=4"),
        (lambda: Layer(4).build((8, 16)), "N\\*T, H, W, C"),
        (lambda: Layer(4, num_prefix_tokens=1).build((8, 3, 3, 16)), "P, C"),
    ],
)
def test_bad_arguments_are_named(make_bad, message):
    with pytest.raises(ValueError, match=message):
        make_bad()
