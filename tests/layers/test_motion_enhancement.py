"""MEM against NumPy, the published number of parameters, and its initial gates."""

import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tests.layers import reference_baselines as reference
from tests.layers.reference_baselines import norm_of
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tsi_keras.layers.motion_enhancement import MotionEnhancement


# C = 64, d = 8: 3 C d + 2 d + C; with BN its 2 x 2 d take the place of 2 d biases.
@pytest.mark.parametrize(
    "options, trainable, non_trainable",
    [
        ({}, 1616, 0),
        ({"reduction": 16, "activation": "relu"}, 840, 0),
        ({"use_bn": True, "activation": "relu"}, 1632, 32),
        ({"gate_bias": 4.0, "zero_init": True}, 1616, 0),
        ({"reduction": 100}, 258, 0),
    ],
)
def test_layer(options, trainable, non_trainable, tmp_path):
    run_layer_test(
        MotionEnhancement,
        {"num_frames": 4, **options},
        (8, 6, 5, 64),
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("use_bn", [False, True])
@pytest.mark.parametrize("num_frames", [2, 5])
def test_equals_numpy(num_frames, use_bn, activation):
    rng = np.random.default_rng(1)
    layer = MotionEnhancement(
        num_frames, 4, use_bn=use_bn, activation=activation, dtype="float64"
    )
    x = rng.normal(size=(2 * num_frames, 4, 3, 12))
    layer.build(x.shape)
    randomize(layer, rng)
    weights = {
        "current": _weights(layer, "reduce_current"),
        "next": _weights(layer, "reduce_next"),
        "expand": _weights(layer, "expand"),
    }
    expected = reference.motion_enhancement(x, num_frames, weights, activation)
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


def _weights(layer, name):
    convolution = getattr(layer, name)
    bias = numpy_of(convolution.bias) if convolution.use_bias else 0.0
    norm = (
        [norm_of(getattr(layer, f"{name}_bn"))] if hasattr(layer, f"{name}_bn") else []
    )
    return numpy_of(convolution.kernel)[0, 0], bias, *norm


def test_last_frame_passes_and_gates_start_near_a_half():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 16)).astype("float32")
    ratio = (run(MotionEnhancement(4), x) / x).reshape(2, 4, 4, 4, 16)
    assert np.array_equal(ratio[:, 3], np.ones((2, 4, 4, 16)))
    assert 0.3 < ratio[:, :3].min() < ratio[:, :3].max() < 0.7


@pytest.mark.parametrize("gate_bias, gate", [(0.0, 0.5), (4.0, 0.982013790)])
def test_zero_init_makes_the_gate_a_constant(gate_bias, gate):
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 16))
    layer = MotionEnhancement(4, gate_bias=gate_bias, zero_init=True, dtype="float64")
    expected = (
        x.reshape(2, 4, 4, 4, 16)
        * np.array([gate, gate, gate, 1.0])[:, None, None, None]
    )
    np.testing.assert_allclose(run(layer, x), expected.reshape(x.shape), rtol=1e-8)


def test_a_gate_bias_of_20_is_one_in_float32():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 16)).astype("float32")
    layer = MotionEnhancement(4, gate_bias=20.0, zero_init=True)
    assert np.array_equal(run(layer, x), x)


def test_variables_keep_their_names_and_shapes():
    layer = MotionEnhancement(4, name="mem")
    layer.build((None, None, None, 32))
    assert {w.path: tuple(w.shape) for w in layer.weights} == {
        "mem/reduce_current/kernel": (1, 1, 32, 4),
        "mem/reduce_current/bias": (4,),
        "mem/reduce_next/kernel": (1, 1, 32, 4),
        "mem/reduce_next/bias": (4,),
        "mem/expand/kernel": (1, 1, 4, 32),
        "mem/expand/bias": (32,),
    }


def test_parameters_at_the_block_inputs_of_resnet50():
    """The published TEINet has 30.4M: this many above ResNet-50 and TIM."""
    blocks = {64: 1, 256: 3, 512: 4, 1024: 6, 2048: 2}
    assert sum(n * _count(channels) for channels, n in blocks.items()) == 5_989_904


def _count(channels):
    layer = MotionEnhancement(8)
    layer.build((None, None, None, channels))
    return sum(int(np.prod(w.shape)) for w in layer.weights)


def test_clips_do_not_mix():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 16)).astype("float32")
    layer = MotionEnhancement(4)
    both, alone = layer(x), layer(x[4:])
    np.testing.assert_allclose(
        ops.convert_to_numpy(both)[4:], ops.convert_to_numpy(alone), rtol=1e-5
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MotionEnhancement(1), "num_frames=1"),
        (lambda: MotionEnhancement(4, reduction=0), "reduction=0"),
        (lambda: MotionEnhancement(4, activation="nope"), "nope"),
        (lambda: MotionEnhancement(4).build((9, 3, 3, 8)), "MotionEnhancement .*4"),
        (lambda: MotionEnhancement(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
