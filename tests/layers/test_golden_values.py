"""SME and CTI against the golden numbers and the independent NumPy reference."""

import keras
import numpy as np
import pytest
from keras import ops

from tests import reference
from tests.reference import RTOL
from tests.reference import fill
from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D

# 2 clips of 4 frames, filled in PyTorch's (N, C, H, W) order.
INPUT = fill((8, 32, 6, 6), 0.37, 1.0).transpose(0, 2, 3, 1)

SME_GOLDEN = {
    "default": (
        {},
        4.616241800,
        101.880399936,
        (0.568079931, 1.059272908),
        -1.442069044,
    ),
    "centered": (
        {"gate": "centered"},
        3.153012104,
        67.953423763,
        (0.387272215, 0.722128952),
        -0.961379363,
    ),
    "linear": (
        {"alignment": "linear"},
        4.613922228,
        101.880420847,
        (0.567776187, 1.058706531),
        -1.442069044,
    ),
    "row": (
        {"alignment": "row"},
        4.624757250,
        101.876428242,
        (0.57132473, 1.065323337),
        -1.442069044,
    ),
    "efficient": (
        {"alignment": "efficient"},
        4.581225046,
        101.863399552,
        (0.566649703, 1.056606027),
        -1.442069044,
    ),
    "without alignment": (
        {"alignment": "none"},
        4.452364410,
        101.998263379,
        (0.58501628, 1.090853352),
        -1.442069044,
    ),
    "alignment gate": (
        {"alignment_gate": "sigmoid"},
        4.534956066,
        101.886511449,
        (0.572561632, 1.067629734),
        -1.442069044,
    ),
    "without attention": (
        {"attention": "none"},
        17.708584301,
        199.234816695,
        (1.58873967, 2.942262707),
        -0.961379363,
    ),
    "spatial": (
        {"attention": "spatial"},
        45.798756991,
        103.903739717,
        (0.641258016, 1.285320717),
        -1.442069044,
    ),
    "pool last": (
        {"pool_first": False},
        4.616241800,
        101.880399936,
        (0.568079931, 1.059272908),
        -1.442069044,
    ),
    "repeat": (
        {"last_frame": "repeat"},
        4.534210904,
        101.890689880,
        (0.568079931, 1.059272908),
        -1.423770838,
    ),
}

CTI_GOLDEN = {
    "branch": (-1.878102896, 46.012720025, -0.203920250),
    "channel": (1.893923712, 45.135018220, -0.093426252),
    "time": (0.309926453, 44.752371976, -0.153737620),
    "joint": (2.335149774, 45.439892524, -0.120759154),
}

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


def sme_kernels(levels=5):
    """Golden kernels in Keras layout."""
    pyramid = [fill((4, 1, 3, 3), 0.5 + 0.1 * i, 0.5) for i in range(levels)]
    return {
        "reduce": fill((4, 32, 1, 1), 0.4, 0.5).transpose(2, 3, 1, 0),
        "pyramid": [kernel.transpose(2, 3, 0, 1) for kernel in pyramid],
        "expand": fill((32, 4, 1, 1), 1.0, 0.5).transpose(2, 3, 1, 0),
    }


def make_sme(dtype, options):
    layer = SalientMotionExcitation(4, reduction=8, dtype=dtype, **options)
    layer.build(INPUT.shape)
    kernels = sme_kernels()
    layer.reduce.kernel.assign(kernels["reduce"])
    layer.expand.kernel.assign(kernels["expand"])
    for level, kernel in enumerate(kernels["pyramid"]):
        getattr(layer, f"pyramid_{level}").kernel.assign(kernel)
    return layer


def make_cti(dtype, integration):
    layer = CrossScaleTemporalIntegration(4, integration=integration, dtype=dtype)
    layer.build(INPUT.shape)
    for j in range(3):
        kernel = fill((8, 1, 3), 0.4 + 0.1 * j, 0.5)[:, 0].T
        getattr(layer, f"temporal_{j + 1}").kernel.assign(kernel)
        dense = getattr(layer, f"integrate_{j + 1}")
        dense.kernel.assign(fill((8, 8), 0.7 + 0.2 * j, 0.5).T)
        dense.bias.assign(fill((8,), 0.8 + 0.2 * j, 0.5))
    return layer


def run(layer, x=INPUT):
    x = ops.cast(x, layer.compute_dtype)
    return np.asarray(ops.convert_to_numpy(layer(x, training=False)), "float64")


def check(output, total, norm, first, last, dtype):
    flat = output.transpose(0, 3, 1, 2).ravel()
    tolerance = TOLERANCE[dtype]
    assert flat.sum() == pytest.approx(total, rel=tolerance, abs=tolerance)
    assert np.linalg.norm(flat) == pytest.approx(norm, rel=tolerance)
    assert flat[: len(first)] == pytest.approx(first, rel=tolerance)
    assert flat[-1] == pytest.approx(last, rel=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SME_GOLDEN)
def test_sme_golden(name, dtype):
    options, *golden = SME_GOLDEN[name]
    check(run(make_sme(dtype, options)), *golden, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("integration", CTI_GOLDEN)
def test_cti_golden(integration, dtype):
    total, norm, last = CTI_GOLDEN[integration]
    first = (0.361615432, 0.674287912, 0.895698686)
    check(run(make_cti(dtype, integration)), total, norm, first, last, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cti_golden_with_shift_and_equal_mixing(dtype):
    layer = CrossScaleTemporalIntegration(4, dtype=dtype)
    layer.build(INPUT.shape)
    for j in (1, 2, 3):
        dense = getattr(layer, f"integrate_{j}")
        dense.kernel.assign(np.zeros((8, 8)))
    first = (0.361615432, 0.674287912, 0.895698686)
    check(run(layer), 0.407682254, 63.687528970, first, -0.963001204, dtype)


def random_batch_norm(layer, rng):
    for weight in layer.weights:
        low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(rng.uniform(low, low + 1.0, weight.shape))
    return tuple(
        ops.convert_to_numpy(w)
        for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )


@pytest.mark.parametrize(
    "levels, use_bn, pyramid_activation", [(4, True, None), (2, False, "relu")]
)
@pytest.mark.parametrize(
    "options",
    [options for options, *_ in SME_GOLDEN.values()]
    + [
        {"gate": "symmetric", "last_frame": "identity"},
        {"attention": "none", "last_frame": "identity"},
        {"attention": "spatial", "last_frame": "repeat", "alignment": "efficient"},
        {"attention": "channel", "pool_first": False, "last_frame": "identity"},
    ],
)
def test_sme_equals_numpy(options, pyramid_activation, use_bn, levels):
    rng = np.random.default_rng(1)
    options = {**options, "pyramid_activation": pyramid_activation}
    layer = SalientMotionExcitation(
        3, reduction=4, levels=levels, use_bn=use_bn, dtype="float64", **options
    )
    x = rng.normal(size=(6, 5, 7, 12))
    layer.build(x.shape)
    weights = {
        "reduce": ops.convert_to_numpy(layer.reduce.kernel)[0, 0],
        "pyramid": [ops.convert_to_numpy(p.kernel)[..., 0] for p in layer.pyramid],
        "expand": ops.convert_to_numpy(layer.expand.kernel)[0, 0],
    }
    if use_bn:
        weights["reduce_bn"] = random_batch_norm(layer.reduce_bn, rng)
        weights["expand_bn"] = random_batch_norm(layer.expand_bn, rng)
    expected = reference.sme(x, 3, weights, options)
    np.testing.assert_allclose(run(layer, x), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("integration", CTI_GOLDEN)
def test_cti_equals_numpy(integration, groups):
    rng = np.random.default_rng(2)
    layer = CrossScaleTemporalIntegration(
        5, groups=groups, integration=integration, dtype="float64"
    )
    x = rng.normal(size=(10, 3, 4, 16))
    layer.build(x.shape)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    weights = {
        "temporal": [ops.convert_to_numpy(t.kernel) for t in layer.temporal],
        "dense": [
            (ops.convert_to_numpy(d.kernel), ops.convert_to_numpy(d.bias))
            for d in layer.integrate
        ],
    }
    expected = reference.cti(x, 5, weights, integration)
    np.testing.assert_allclose(run(layer, x), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_temporal_convolution_equals_numpy(kernel_size):
    rng = np.random.default_rng(3)
    layer = TemporalConv1D(4, kernel_size=kernel_size, dtype="float64")
    x = rng.normal(size=(8, 3, 2, 9))
    layer.build(x.shape)
    kernel = rng.normal(size=(kernel_size, 9))
    layer.kernel.assign(kernel)
    clips = x.reshape(2, 4, 3, 2, 9)
    expected = np.concatenate([reference.temporal_conv(c, kernel) for c in clips])
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-12, atol=1e-12)


def test_cti_groups_see_1_3_5_and_7_frames():
    """An impulse at frame 8 reaches 0, 1, 2 and 3 frames to either side."""
    layer = CrossScaleTemporalIntegration(17, temporal_initializer="ones")
    x = np.zeros((17, 1, 1, 16), "float32")
    x[8] = 1.0
    moved = np.asarray(keras.ops.convert_to_numpy(layer(x)))[:, 0, 0]
    reach = [np.flatnonzero(moved[:, 4 * g].round(6)).tolist() for g in range(4)]
    assert reach == [list(range(8 - g, 9 + g)) for g in range(4)]
