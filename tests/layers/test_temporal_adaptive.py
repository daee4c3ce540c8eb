"""TAM against the official numbers and NumPy."""

import numpy as np
import pytest
from keras import ops

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
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive

GOLDEN = (
    1.574269028,
    21.561749992,
    (-0.037603925, 0.06805626, 0.16450535),
    -0.288959398,
)


def test_layer(tmp_path):
    run_layer_test(
        TemporalAdaptive,
        {"num_frames": 4},
        (8, 6, 5, 16),
        trainable=336,  # C^2 + C/2 + 2 T^2 + 10 T
        non_trainable=24,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden(dtype):
    layer = TemporalAdaptive(4, dtype=dtype)
    layer.build(INPUT.shape)
    layer.global_expand.kernel.assign(fill((8, 4), 0.4, 0.5).T)
    layer.global_kernel.kernel.assign(fill((3, 8), 0.5, 0.5).T)
    layer.local_reduce.kernel.assign(fill((8, 32, 3), 0.6, 0.5).transpose(2, 1, 0))
    layer.local_expand.kernel.assign(fill((32, 8, 1), 0.7, 0.5).transpose(2, 1, 0))
    check_golden(run(layer, training=False), *GOLDEN, dtype)


@pytest.mark.parametrize("num_frames, channels", [(1, 8), (4, 12), (5, 3)])
def test_equals_numpy(num_frames, channels):
    rng = np.random.default_rng(1)
    layer = TemporalAdaptive(num_frames, dtype="float64")
    x = rng.normal(size=(2 * num_frames, 4, 3, channels))
    layer.build(x.shape)
    randomize(layer, rng)
    expected = reference.temporal_adaptive(x, num_frames, _weights(layer))
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


def _weights(layer):
    return {
        "g0": numpy_of(layer.global_expand.kernel),
        "g_bn": norm_of(layer.global_bn),
        "g3": numpy_of(layer.global_kernel.kernel),
        "l0": numpy_of(layer.local_reduce.kernel),
        "l_bn": norm_of(layer.local_bn),
        "l3": numpy_of(layer.local_expand.kernel)[0],
    }


def test_global_normalisation_is_over_clips_and_channels():
    """In training, each of the 2T units is normalised as by BatchNorm1d on (N*C, 2T)."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3 * 4, 3, 3, 6))
    layer = TemporalAdaptive(4, dtype="float64")
    layer.build(x.shape)
    expand = numpy_of(layer.global_expand.kernel)
    layer(ops.convert_to_tensor(x), training=True)
    rows = x.reshape(3, 4, 9, 6).mean(2).transpose(0, 2, 1).reshape(-1, 4) @ expand
    np.testing.assert_allclose(
        layer.global_bn.moving_mean, 0.1 * rows.mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        layer.global_bn.moving_variance, 0.9 + 0.1 * rows.var(0), rtol=1e-5
    )


def test_zero_weights_average_three_frames_at_half_strength():
    layer = TemporalAdaptive(3)
    layer.build((None, 2, 2, 4))
    for weight in layer.trainable_weights:
        weight.assign(np.zeros(weight.shape))
    x = np.random.default_rng(0).normal(size=(6, 2, 2, 4)).astype("float32")
    clips = np.pad(x.reshape(2, 3, 2, 2, 4), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    box = (clips[:, :-2] + clips[:, 1:-1] + clips[:, 2:]) / 3
    expected = 0.5 * box.reshape(x.shape)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-5, atol=1e-6)


def test_variables_keep_their_names_and_shapes():
    layer = TemporalAdaptive(8, name="tam")
    layer.build((None, None, None, 64))
    assert layer.count_params() == 4336 + 2 * (16 + 16)
    assert {w.path: tuple(w.shape) for w in layer.trainable_weights} == {
        "tam/global_expand/kernel": (8, 16),
        "tam/global_bn/gamma": (16,),
        "tam/global_bn/beta": (16,),
        "tam/global_kernel/kernel": (16, 3),
        "tam/local_reduce/kernel": (3, 64, 16),
        "tam/local_bn/gamma": (16,),
        "tam/local_bn/beta": (16,),
        "tam/local_expand/kernel": (1, 16, 64),
    }


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TemporalAdaptive(0), "num_frames=0"),
        (lambda: TemporalAdaptive(4).build((9, 3, 3, 8)), "TemporalAdaptive .*4"),
        (lambda: TemporalAdaptive(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
