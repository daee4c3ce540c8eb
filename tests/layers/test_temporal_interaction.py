"""TIM: a shift at the start (TSM's official numbers), a convolution afterwards."""

import numpy as np
import pytest

from tests.harness import run_layer_test
from tests.layers.reference_baselines import check_golden
from tests.layers.reference_baselines import run
from tests.reference import fill
from tests.reference import temporal_conv
from tsi_keras.layers.temporal_interaction import TemporalInteraction


@pytest.mark.parametrize(
    "options, trainable",
    [
        ({}, 72),
        ({"temporal_initializer": "identity"}, 72),
        ({"kernel_size": 5, "temporal_initializer": "he_normal"}, 120),
    ],
)
def test_layer(options, trainable, tmp_path):
    run_layer_test(
        TemporalInteraction,
        {"num_frames": 4, **options},
        (8, 6, 5, 24),
        trainable=trainable,
        non_trainable=0,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_starts_as_the_temporal_shift(dtype):
    first = (-0.602476937, -0.273087323, 0.093263378)
    output = run(TemporalInteraction(4, dtype=dtype))
    check_golden(output, -0.470601704, 65.725209907, first, -0.961379363, dtype)


def test_equals_numpy():
    x = np.random.default_rng(0).normal(size=(10, 3, 2, 7))
    layer = TemporalInteraction(5, dtype="float64")
    layer.build(x.shape)
    kernel = fill((3, 7), 0.4, 0.5)
    layer.kernel.assign(kernel)
    expected = np.concatenate(
        [temporal_conv(x[:5], kernel), temporal_conv(x[5:], kernel)]
    )
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_identity_at_the_start(dtype):
    layer = TemporalInteraction(4, temporal_initializer="identity", dtype=dtype)
    x = np.random.default_rng(0).integers(-8, 8, size=(8, 3, 3, 5)) / 4.0
    assert np.array_equal(run(layer, x.astype("float32")), x)


def test_parameters_at_the_block_inputs_of_resnet50():
    inputs = [64, 256, 256, 256] + 3 * [512] + [512] + 5 * [1024] + [1024] + 2 * [2048]
    assert sum(_count(channels) for channels in inputs) == 39_360


def _count(channels):
    layer = TemporalInteraction(8)
    layer.build((None, None, None, channels))
    return sum(int(np.prod(w.shape)) for w in layer.weights)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TemporalInteraction(0), "num_frames=0"),
        (lambda: TemporalInteraction(4, kernel_size=2), "kernel_size=2"),
        (lambda: TemporalInteraction(4, temporal_initializer="nope"), "nope"),
        (lambda: TemporalInteraction(4).build((9, 3, 3, 8)), "TemporalInteraction .*4"),
        (lambda: TemporalInteraction(4).build((8, 3, 8)), "TemporalInteraction exp"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
