"""GTDNet's module against its NumPy reference, its counts and its structure."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tests.layers import reference_gtd as reference
from tests.reference import RTOL
from tsi_keras.layers.global_temporal_difference import AGGREGATIONS
from tsi_keras.layers.global_temporal_difference import PROJECTIONS
from tsi_keras.layers.global_temporal_difference import GlobalTemporalDifference

SHAPE = (8, 6, 5, 16)

# Block inputs of ResNet-50 and how often, and its parameters with 174 classes.
RESNET50_WIDTHS = {64: 1, 256: 3, 512: 4, 1024: 6, 2048: 2}
RESNET50 = 23_864_558


def count(weights) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


def run(layer, x):
    return ops.convert_to_numpy(layer(ops.cast(x, layer.compute_dtype)))


def randomise(layer, rng):
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0.0, 0.5, size=weight.shape))


@pytest.mark.parametrize(
    "options, trainable",
    [
        # C = 16, d = 4, T = 4: 2 C d + 4 d d (+ 5 d + C with biases).
        ({"use_bias": False}, 192),
        ({"zero_init": True, "gate": "centered"}, 228),
        ({"qkv": "shared", "gate": "symmetric"}, 188),
        # 2 C d + d d + 3 kernels of 3 (+ 2 d + C).
        ({"qkv": "eca", "use_bias": False}, 153),
        ({"qkv": "eca"}, 177),
        # + 2 T T + 2 T (+ 2 T + 1).
        ({"aggregation": "mta", "use_bias": False}, 232),
        ({"aggregation": "mta", "expansion": 3}, 301),
        # + 8 d d (+ 4 d), twice for two directions.
        ({"aggregation": "lstm", "use_bias": False}, 320),
        ({"aggregation": "lstm"}, 372),
        ({"aggregation": "bilstm", "reduction": 8}, 186),
    ],
)
def test_layer(options, trainable, tmp_path):
    run_layer_test(
        GlobalTemporalDifference,
        {"num_frames": 4, **options},
        SHAPE,
        trainable=trainable,
        non_trainable=0,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize(
    "options, total",
    [
        ({"use_bias": False}, 35_811_566),
        ({}, 35_841_086),
        ({"qkv": "shared", "use_bias": False}, 33_820_398),
        ({"qkv": "shared"}, 33_843_358),
        ({"qkv": "eca", "use_bias": False}, 32_824_958),
        ({"reduction": 8, "use_bias": False}, 28_842_478),
        ({"reduction": 16, "use_bias": False}, 26_104_622),
    ],
)
def test_parameters_of_the_16_blocks_of_resnet50(options, total):
    parameters = RESNET50
    for channels, blocks in RESNET50_WIDTHS.items():
        layer = GlobalTemporalDifference(8, **options)
        layer.build((None, None, None, channels))
        parameters += blocks * count(layer.trainable_weights)
    assert parameters == total


def reference_weights(layer):
    def pair(part):
        kernel = ops.convert_to_numpy(part.kernel)
        bias = ops.convert_to_numpy(part.bias) if part.use_bias else 0.0
        return np.squeeze(kernel) if kernel.ndim == 3 else kernel, bias

    names = ["reduce", "difference", "expand"]
    if layer.aggregation == "mta":
        names += ["time_expand", "time_reduce"]
    weights = {name: pair(getattr(layer, name)) for name in names}
    projections = [pair(part) for part in layer.projections]
    weights["qkv"] = projections * 3 if layer.qkv == "shared" else projections
    if "lstm" in layer.aggregation:
        values = [ops.convert_to_numpy(w) for w in layer.recurrence.weights]
        per = len(values) // (2 if layer.aggregation == "bilstm" else 1)
        cells = [values[i : i + per] for i in range(0, len(values), per)]
        weights["lstm"] = [(*cell, 0.0)[:3] for cell in cells]
    return weights


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("qkv", PROJECTIONS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equals_numpy(aggregation, qkv, use_bias):
    rng = np.random.default_rng(0)
    gate = {"full": "sigmoid", "shared": "centered", "eca": "symmetric"}[qkv]
    options = {"aggregation": aggregation, "qkv": qkv, "gate": gate}
    layer = GlobalTemporalDifference(
        3, reduction=2, use_bias=use_bias, dtype="float64", **options
    )
    x = rng.normal(size=(6, 4, 5, 12))
    layer.build(x.shape)
    randomise(layer, rng)
    expected = reference.gtd(x, 3, reference_weights(layer), **options)
    np.testing.assert_allclose(run(layer, x), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize(
    "gate, factor", [("sigmoid", 1.5), ("centered", 1.0), ("symmetric", 1.0)]
)
def test_zero_init_is_a_constant_gate(gate, factor):
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    layer = GlobalTemporalDifference(4, gate=gate, zero_init=True)
    np.testing.assert_array_equal(run(layer, x), factor * x)


def test_clips_do_not_mix_and_frames_do():
    rng = np.random.default_rng(1)
    x = rng.normal(size=SHAPE).astype("float32")
    layer = GlobalTemporalDifference(4)
    both = run(layer, x)
    np.testing.assert_allclose(both[4:], run(layer, x[4:]), rtol=1e-5, atol=1e-6)
    x[7] += 1.0
    changed = np.abs(run(layer, x) - both).reshape(8, -1).max(1) > 1e-6
    assert changed.tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    "aggregation, equivariant",
    [("avg", True), ("mta", False), ("lstm", False), ("bilstm", False)],
)
def test_only_the_mean_ignores_the_order_of_frames(aggregation, equivariant):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 3, 3, 8)).astype("float32")
    layer = GlobalTemporalDifference(4, reduction=2, aggregation=aggregation)
    layer.build(x.shape)
    randomise(layer, rng)
    order = [2, 0, 3, 1]
    same = np.allclose(run(layer, x[order]), run(layer, x)[order], atol=1e-5)
    assert same == equivariant


def test_large_features_in_half_precision_stay_finite():
    """The pooling and the outer product of q and k would overflow float16."""
    x = np.full((4, 40, 40, 16), 200.0, "float16")
    layer = GlobalTemporalDifference(4, dtype="mixed_float16")
    assert np.isfinite(run(layer, x)).all()


def test_fits_with_xla_and_saves_the_recurrence(tmp_path):
    rng = np.random.default_rng(3)
    inputs = keras.Input((5, 5, 8))
    layer = GlobalTemporalDifference(4, aggregation="bilstm", name="gtd")
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse", jit_compile=True)
    x = rng.normal(size=(8, 5, 5, 8)).astype("float32")
    model.fit(x, np.zeros_like(x), batch_size=8, verbose=0, shuffle=False)
    model.save_weights(tmp_path / "gtd.weights.h5")
    before = run(layer, x)
    for weight in layer.weights:
        weight.assign(np.zeros(weight.shape))
    model.load_weights(tmp_path / "gtd.weights.h5")
    np.testing.assert_allclose(run(layer, x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GlobalTemporalDifference(1), "num_frames=1"),
        (lambda: GlobalTemporalDifference(4, reduction=0), "reduction=0"),
        (lambda: GlobalTemporalDifference(4, aggregation="max"), "aggregation='max'"),
        (lambda: GlobalTemporalDifference(4, qkv="none"), "qkv='none'"),
        (lambda: GlobalTemporalDifference(4, gate="tanh"), "gate='tanh'"),
        (lambda: GlobalTemporalDifference(4, expansion=1.5), "expansion=1.5"),
        (lambda: GlobalTemporalDifference(4).build((8, 6, 5, 10)), "reduction=4"),
        (lambda: GlobalTemporalDifference(4).build((9, 6, 5, 8)), "num_frames=4"),
        (lambda: GlobalTemporalDifference(4).build((8, 6, 8)), "N\\*T, H, W, C"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
