"""CSTM against NumPy, its initial shift, strides, identity."""

import keras
import numpy as np
import pytest

from tests.harness import run_layer_test
from tests.layers import reference_baselines as reference
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tsi_keras.layers.channelwise_spatio_temporal import ChannelwiseSpatioTemporal


# C = 16: 3 C and k k C C.
@pytest.mark.parametrize(
    "options, trainable",
    [
        ({}, 2352),
        ({"spatial_kernel_size": None}, 48),
        ({"spatial_kernel_size": 5, "temporal_initializer": "identity"}, 6448),
        ({"spatial_kernel_size": 1, "temporal_initializer": "he_normal"}, 304),
    ],
)
def test_layer(options, trainable, tmp_path):
    run_layer_test(
        ChannelwiseSpatioTemporal,
        {"num_frames": 4, **options},
        (8, 6, 5, 16),
        trainable=trainable,
        non_trainable=0,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize(
    "size, strides", [(None, 1), (1, 2), (3, 1), (3, 2), (3, 3), (5, 2)]
)
@pytest.mark.parametrize("num_frames", [1, 4])
def test_equals_numpy(num_frames, size, strides):
    rng = np.random.default_rng(1)
    layer = ChannelwiseSpatioTemporal(num_frames, size, strides, dtype="float64")
    x = rng.normal(size=(2 * num_frames, 6, 7, 5))
    layer.build(x.shape)
    randomize(layer, rng)
    kernel = None if size is None else numpy_of(layer.spatial.kernel)
    temporal = numpy_of(layer.temporal.kernel)
    expected = reference.channelwise_spatio_temporal(
        x, num_frames, temporal, kernel, strides
    )
    y = run(layer, x)
    assert y.shape == tuple(layer.compute_output_shape(x.shape))
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize(
    "channels, back, ahead", [(64, 16, 16), (8, 2, 2), (7, 1, 1), (3, 1, 1), (2, 0, 0)]
)
def test_initial_shift(channels, back, ahead):
    layer = ChannelwiseSpatioTemporal(4, spatial_kernel_size=None)
    layer.build((None, 1, 1, channels))
    expected = np.zeros((3, channels))
    expected[1] = 1.0
    expected[:, :back] = [[1.0]] + 2 * [[0.0]]
    expected[:, channels - ahead :] = 2 * [[0.0]] + [[1.0]]
    assert np.array_equal(numpy_of(layer.temporal.kernel), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_identity_at_the_start(dtype):
    layer = ChannelwiseSpatioTemporal(
        4, spatial_kernel_size=None, temporal_initializer="identity", dtype=dtype
    )
    x = np.random.default_rng(0).integers(-8, 8, size=(8, 3, 3, 5)) / 4.0
    assert np.array_equal(run(layer, x.astype("float32")), x)


def test_strided_layer_in_a_model_of_unknown_size(tmp_path):
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, ChannelwiseSpatioTemporal(4, strides=2)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(8, 7, 6, 8)).astype("float32")
    y = model.predict(x, batch_size=8, verbose=0)
    assert y.shape == (8, 4, 3, 8)
    np.testing.assert_allclose(loaded.predict(x, batch_size=8, verbose=0), y, rtol=1e-6)


def test_variables_keep_their_names_and_shapes():
    layer = ChannelwiseSpatioTemporal(4, name="cstm")
    layer.build((None, None, None, 64))
    assert {w.path: tuple(w.shape) for w in layer.weights} == {
        "cstm/temporal/kernel": (3, 64),
        "cstm/spatial/kernel": (3, 3, 64, 64),
    }


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ChannelwiseSpatioTemporal(0), "num_frames=0"),
        (lambda: ChannelwiseSpatioTemporal(4, 2), "spatial_kernel_size=2"),
        (lambda: ChannelwiseSpatioTemporal(4, 0), "spatial_kernel_size=0"),
        (lambda: ChannelwiseSpatioTemporal(4, strides=0), "strides=0"),
        (lambda: ChannelwiseSpatioTemporal(4, None, 2), "strides=2"),
        (
            lambda: ChannelwiseSpatioTemporal(4, temporal_initializer="nope"),
            "nope",
        ),
        (
            lambda: ChannelwiseSpatioTemporal(4).build((9, 3, 3, 8)),
            "ChannelwiseSpatioTemporal .*num_frames=4",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
