"""TEA's ME against the official numbers and NumPy."""

import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tests.layers import reference_tea as reference
from tests.layers.reference_baselines import INPUT
from tests.layers.reference_baselines import check_golden
from tests.layers.reference_baselines import norm_of
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tests.reference import fill
from tsi_keras.layers.motion_excitation import MotionExcitation

GOLDEN = (
    3.009514496,
    67.886597213,
    (0.364086074, 0.678894807, 0.901818312),
    -0.961379363,
)


# 2 C d + 9 d + 2 d + 2 C trainable, 2 d + 2 C other; d = max(1, C // r).
@pytest.mark.parametrize(
    "channels, options, trainable, non_trainable",
    [
        (64, {}, 684, 136),
        (40, {"gate": "symmetric", "reduction": 8}, 535, 90),
        (12, {"gate": "sigmoid"}, 59, 26),
        (32, {"zero_init": True}, 214, 68),
    ],
)
def test_layer(channels, options, trainable, non_trainable, tmp_path):
    run_layer_test(
        MotionExcitation,
        {"num_frames": 4, **options},
        (8, 6, 5, channels),
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize(
    "channels, parameters", [(104, 1522), (208, 5967), (416, 22750), (832, 88764)]
)
def test_parameters_at_the_widths_of_res2net50(channels, parameters):
    layer = MotionExcitation(8)
    layer.build((None, None, None, channels))
    assert layer.count_params() - 2 * (channels + channels // 16) == parameters


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden(dtype):
    layer = MotionExcitation(4, reduction=8, dtype=dtype)
    layer.build(INPUT.shape)
    layer.reduce.kernel.assign(fill((4, 32, 1, 1), 0.4, 0.5).transpose(2, 3, 1, 0))
    layer.transform.kernel.assign(fill((4, 1, 3, 3), 0.5, 0.5).transpose(2, 3, 0, 1))
    layer.expand.kernel.assign(fill((32, 4, 1, 1), 0.6, 0.5).transpose(2, 3, 1, 0))
    check_golden(run(layer, training=False), *GOLDEN, dtype)


@pytest.mark.parametrize("gate", ["centered", "symmetric", "sigmoid"])
@pytest.mark.parametrize(
    "num_frames, size, channels, reduction", [(2, (4, 3), 12, 4), (5, (1, 2), 6, 16)]
)
def test_equals_numpy(num_frames, size, channels, reduction, gate):
    rng = np.random.default_rng(1)
    layer = MotionExcitation(num_frames, reduction, gate, dtype="float64")
    x = rng.normal(size=(2 * num_frames, *size, channels))
    layer.build(x.shape)
    randomize(layer, rng)
    weights = {
        "reduce": numpy_of(layer.reduce.kernel)[0, 0],
        "reduce_bn": norm_of(layer.reduce_bn),
        "transform": numpy_of(layer.transform.kernel)[..., 0],
        "expand": numpy_of(layer.expand.kernel)[0, 0],
        "expand_bn": norm_of(layer.expand_bn),
    }
    expected = reference.motion_excitation(x, num_frames, weights, gate)
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


def test_last_frame_passes_unchanged_at_the_start():
    """Its motion is zero, and the statistics of the BN start centered."""
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 32)).astype("float32")
    y = run(MotionExcitation(3), x, training=False)
    assert np.array_equal(y[2::3], x[2::3])
    assert not np.isclose(y[0::3], x[0::3], rtol=1e-4).all()


@pytest.mark.parametrize("gate", ["centered", "symmetric"])
@pytest.mark.parametrize("training", [False, True])
def test_zero_init_starts_as_the_identity(gate, training):
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 32)).astype("float32")
    layer = MotionExcitation(3, gate=gate, zero_init=True)
    assert np.array_equal(run(layer, x, training=training), x)


def test_variables_keep_their_names_and_shapes():
    layer = MotionExcitation(8, name="me")
    layer.build((None, None, None, 64))
    assert {w.path: tuple(w.shape) for w in layer.trainable_weights} == {
        "me/reduce/kernel": (1, 1, 64, 4),
        "me/reduce_bn/gamma": (4,),
        "me/reduce_bn/beta": (4,),
        "me/transform/kernel": (3, 3, 4, 1),
        "me/expand/kernel": (1, 1, 4, 64),
        "me/expand_bn/gamma": (64,),
        "me/expand_bn/beta": (64,),
    }


def test_initial_kernels_have_the_variance_of_torchvision():
    """He normal by PyTorch's fan-out, which is 9 d for a depthwise kernel."""
    layer = MotionExcitation(8, reduction=2)
    layer.build((None, None, None, 512))
    for kernel, variance in (
        (layer.reduce.kernel, 2 / 256),
        (layer.transform.kernel, 2 / (9 * 256)),
        (layer.expand.kernel, 2 / 512),
    ):
        values = ops.convert_to_numpy(kernel)
        assert values.var() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MotionExcitation(1), "num_frames=1"),
        (lambda: MotionExcitation(4, reduction=0), "reduction=0"),
        (lambda: MotionExcitation(4, gate="tanh"), "gate='tanh'"),
        (lambda: MotionExcitation(4, gate="sigmoid", zero_init=True), "`zero_init`"),
        (lambda: MotionExcitation(4).build((9, 3, 3, 8)), "MotionExcitation .*4"),
        (lambda: MotionExcitation(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
