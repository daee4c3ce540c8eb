"""CMM against NumPy, strides, the published number of parameters, zero at the start."""

import keras
import numpy as np
import pytest

from tests.harness import run_layer_test
from tests.layers import reference_baselines as reference
from tests.layers.reference_baselines import norm_of
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tsi_keras.layers.channelwise_motion import ChannelwiseMotion


# C = 64, d = 4: 2 C d + 9 d, with BN also 2 d + 2 C.
@pytest.mark.parametrize(
    "options, trainable, non_trainable",
    [
        ({}, 548, 0),
        ({"use_bn": True}, 684, 136),
        ({"reduction": 8}, 1096, 0),
    ],
)
def test_layer(options, trainable, non_trainable, tmp_path):
    run_layer_test(
        ChannelwiseMotion,
        {"num_frames": 4, **options},
        (8, 6, 5, 64),
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("use_bn", [False, True])
@pytest.mark.parametrize("num_frames", [2, 5])
def test_equals_numpy(num_frames, use_bn, strides):
    rng = np.random.default_rng(1)
    layer = ChannelwiseMotion(num_frames, 4, strides, use_bn, dtype="float64")
    x = rng.normal(size=(2 * num_frames, 6, 5, 12))
    layer.build(x.shape)
    randomize(layer, rng)
    weights = {
        "reduce": numpy_of(layer.reduce.kernel)[0, 0],
        "transform": numpy_of(layer.transform.kernel)[..., 0],
        "expand": numpy_of(layer.expand.kernel)[0, 0],
    }
    if use_bn:
        weights["reduce_bn"] = norm_of(layer.reduce_bn)
        weights["expand_bn"] = norm_of(layer.expand_bn)
    expected = reference.channelwise_motion(x, num_frames, weights, strides)
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize(
    "strides, size, expected",
    [(2, (7, 6), (4, 3)), (3, (7, 6), (3, 2)), (2, (None, 1), (None, 1))],
)
def test_strided_shapes(strides, size, expected):
    layer = ChannelwiseMotion(4, strides=strides)
    shape = layer.compute_output_shape((None, *size, 16))
    assert shape == (None, *expected, 16)
    if None not in size:
        assert run(layer, np.zeros((8, *size, 16))).shape == (8, *expected, 16)


def test_trains_with_strides_at_the_size_of_the_paper():
    """A strided 1x1 convolution of 8 channels would crash TensorFlow here, on a CPU."""
    inputs = keras.Input((56, 56, 128), batch_size=8)
    y = ChannelwiseMotion(8, strides=2)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(y))
    model.compile("sgd", "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(8, 56, 56, 128)), rng.normal(size=(8, 128))
    losses = [float(model.train_on_batch(x, target)) for _ in range(3)]
    assert losses[2] < losses[0]


def test_strided_layer_in_a_model_of_unknown_size(tmp_path):
    inputs = keras.Input((None, None, 16))
    model = keras.Model(inputs, ChannelwiseMotion(4, strides=2)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(8, 7, 6, 16)).astype("float32")
    y = model.predict(x, batch_size=8, verbose=0)
    assert y.shape == (8, 4, 3, 16)
    np.testing.assert_allclose(loaded.predict(x, batch_size=8, verbose=0), y, rtol=1e-6)


@pytest.mark.parametrize("use_bn", [False, True])
def test_zero_init_starts_at_zero_and_learns(use_bn):
    x = np.random.default_rng(0).normal(size=(8, 5, 5, 16)).astype("float32")
    layer = ChannelwiseMotion(4, use_bn=use_bn, zero_init=True)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    assert not run(layer, x).any()
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, x)
    assert run(layer, x).any()
    assert run(ChannelwiseMotion(4, use_bn=use_bn), x).any()
    again = ChannelwiseMotion.from_config(layer.get_config())
    assert not run(again, x).any()


def test_equal_frames_under_an_identity_transform_have_no_motion():
    layer = ChannelwiseMotion(4, 2)
    layer.build((None, 5, 5, 8))
    kernel = np.zeros((3, 3, 4, 1))
    kernel[1, 1] = 1.0
    layer.transform.kernel.assign(kernel)
    frame = np.random.default_rng(0).normal(size=(1, 5, 5, 8))
    np.testing.assert_allclose(run(layer, np.repeat(frame, 4, 0)), 0.0, atol=1e-6)


def test_variables_keep_their_names_and_shapes():
    layer = ChannelwiseMotion(4, name="cmm")
    layer.build((None, None, None, 64))
    assert {w.path: tuple(w.shape) for w in layer.weights} == {
        "cmm/reduce/kernel": (1, 1, 64, 4),
        "cmm/transform/kernel": (3, 3, 4, 1),
        "cmm/expand/kernel": (1, 1, 4, 64),
    }


def test_parameters_in_a_resnet50():
    """STM with 174 classes has 24,035,194: ResNet-50, 3 x 3,776 for CSTM, and these."""
    blocks = {64: 3, 128: 4, 256: 6, 512: 3}
    cmm = sum(n * _count(channels) for channels, n in blocks.items())
    assert cmm == 157_184 + 2_124
    assert 23_864_558 + 3 * 3_776 + cmm == 24_035_194


def _count(channels):
    layer = ChannelwiseMotion(8)
    layer.build((None, None, None, channels))
    return sum(int(np.prod(w.shape)) for w in layer.weights)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ChannelwiseMotion(1), "num_frames=1"),
        (lambda: ChannelwiseMotion(4, reduction=-1), "reduction=-1"),
        (lambda: ChannelwiseMotion(4, strides=0), "strides=0"),
        (lambda: ChannelwiseMotion(4).build((9, 3, 3, 8)), "ChannelwiseMotion .*4"),
        (lambda: ChannelwiseMotion(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
