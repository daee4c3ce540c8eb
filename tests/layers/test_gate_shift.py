"""GSM against the official numbers and NumPy."""

import numpy as np
import pytest

from tests.harness import run_layer_test
from tests.layers import reference_baselines as reference
from tests.layers.reference_baselines import INPUT
from tests.layers.reference_baselines import check_golden
from tests.layers.reference_baselines import norm_of
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tests.reference import fill
from tsi_keras.layers.gate_shift import GateShift

GOLDEN_ZERO = (
    2.926459394,
    67.883142451,
    (0.361615432, 0.674287912, 0.895698686),
    -0.961379363,
)
GOLDEN_FILLED = (
    -3.089157777,
    96.596318046,
    (0.007120977, 0.425287681, 1.70019056),
    0.606706632,
)


@pytest.mark.parametrize("interleave", [True, False])
def test_layer(interleave, tmp_path):
    run_layer_test(
        GateShift,
        {"num_frames": 4, "interleave": interleave},
        (8, 6, 5, 16),
        trainable=466,  # 29 C + 2
        non_trainable=32,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_at_the_start(dtype):
    check_golden(run(GateShift(4, dtype=dtype), training=False), *GOLDEN_ZERO, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_filled(dtype):
    layer = GateShift(4, dtype=dtype)
    layer.build(INPUT.shape)
    layer.kernel.assign(fill((2, 16, 3, 3, 3), 0.4, 0.5).transpose(2, 3, 4, 1, 0))
    layer.bias.assign(fill((2,), 0.5, 0.5))
    check_golden(run(layer, training=False), *GOLDEN_FILLED, dtype)


@pytest.mark.parametrize("interleave, channels", [(True, 8), (False, 6)])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_equals_numpy(num_frames, interleave, channels):
    rng = np.random.default_rng(1)
    layer = GateShift(num_frames, interleave, dtype="float64")
    x = rng.normal(size=(2 * num_frames, 4, 3, channels))
    layer.build(x.shape)
    randomize(layer, rng)
    weights = {
        "kernel": numpy_of(layer.kernel),
        "bias": numpy_of(layer.bias),
        "bn": norm_of(layer.bn),
    }
    expected = reference.gate_shift(x, num_frames, weights, interleave)
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_identity_at_the_start_without_interleaving(dtype):
    x = np.random.default_rng(0).integers(-8, 8, size=(8, 3, 3, 6)) / 4.0
    layer = GateShift(4, interleave=False, dtype=dtype)
    assert np.array_equal(run(layer, x, training=True), x)


def test_permutation_at_the_start():
    x = np.broadcast_to(np.arange(16.0), (4, 2, 2, 16))
    order = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert run(GateShift(4), x)[1, 0, 1].tolist() == order


def test_variables_keep_their_names_and_shapes():
    layer = GateShift(4, name="gsm")
    layer.build((None, None, None, 64))
    assert layer.count_params() == 1858 + 2 * 64
    assert {w.path: tuple(w.shape) for w in layer.trainable_weights} == {
        "gsm/bn/gamma": (64,),
        "gsm/bn/beta": (64,),
        "gsm/kernel": (3, 3, 3, 32, 2),
        "gsm/bias": (2,),
    }


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GateShift(0), "num_frames=0"),
        (lambda: GateShift(4).build((8, 3, 3, 6)), "divisible by 4.*6 channels"),
        (
            lambda: GateShift(4, interleave=False).build((8, 3, 3, 5)),
            "divisible by 2.*5 channels",
        ),
        (lambda: GateShift(4).build((9, 3, 3, 8)), "GateShift .*num_frames=4"),
        (lambda: GateShift(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
