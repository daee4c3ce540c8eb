"""TEA's MTA against the official numbers and NumPy, strides, initial kernels."""

import keras
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
from tsi_keras.layers.multiple_temporal_aggregation import MultipleTemporalAggregation

GOLDEN = {
    "normal": (
        {},
        4730.888664388,
        105.533192469,
        (0.0, 0.205805673, 0.671548078),
        -0.739966740,
    ),
    "stage": (
        {"strides": 2, "block_type": "stage"},
        792.652866787,
        34.232886884,
        (0.0, 0.671548078, 1.279625847),
        -0.018484721,
    ),
}


# w = C / s: (s - 1) (9 w^2 + 2 w) + 3 C trainable, (s - 1) 2 w other.
@pytest.mark.parametrize(
    "options, trainable, non_trainable",
    [
        ({}, 1872, 48),
        ({"scale": 2, "block_type": "stage"}, 2432, 32),
    ],
)
def test_layer(options, trainable, non_trainable, tmp_path):
    run_layer_test(
        MultipleTemporalAggregation,
        {"num_frames": 4, **options},
        (8, 6, 5, 32),
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name, dtype):
    options, *golden = GOLDEN[name]
    layer = MultipleTemporalAggregation(4, dtype=dtype, **options)
    layer.build(INPUT.shape)
    for i in range(3):
        kernel = fill((8, 8, 3, 3), 0.4 + 0.1 * i, 0.5).transpose(2, 3, 1, 0)
        getattr(layer, f"convs_{i}").kernel.assign(kernel)
    check_golden(run(layer, training=False), *golden, dtype)


@pytest.mark.parametrize(
    "strides, block_type", [(1, "normal"), (1, "stage"), (2, "stage"), (3, "stage")]
)
@pytest.mark.parametrize("scale, num_frames, size", [(4, 3, (6, 5)), (2, 1, (1, 4))])
def test_equals_numpy(scale, num_frames, size, strides, block_type):
    rng = np.random.default_rng(1)
    layer = MultipleTemporalAggregation(
        num_frames, scale, strides, block_type, dtype="float64"
    )
    x = rng.normal(size=(2 * num_frames, *size, 12))
    layer.build(x.shape)
    randomize(layer, rng)
    weights = {
        "temporal": [_kernel(layer, f"temporal_{i}") for i in range(scale)],
        "convs": [_kernel(layer, f"convs_{i}") for i in range(scale - 1)],
        "bns": [norm_of(getattr(layer, f"bns_{i}")) for i in range(scale - 1)],
    }
    expected = reference.multiple_temporal_aggregation(
        x, num_frames, weights, strides, block_type
    )
    assert tuple(layer.compute_output_shape(x.shape)) == expected.shape
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)


def _kernel(layer, name):
    return numpy_of(getattr(layer, name).kernel)


def test_strided_layer_in_a_model_of_unknown_size(tmp_path):
    inputs = keras.Input((None, None, 16))
    layer = MultipleTemporalAggregation(4, strides=2, block_type="stage")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(8, 7, 6, 16)).astype("float32")
    y = model.predict(x, batch_size=8, verbose=0)
    assert y.shape == (8, 4, 3, 16)
    np.testing.assert_allclose(loaded.predict(x, batch_size=8, verbose=0), y, rtol=1e-6)


def test_initial_kernels():
    """Identity for the convolved fragments, all channels of the last one move."""
    layer = MultipleTemporalAggregation(4)
    layer.build((None, 4, 4, 20))  # fragments of 5
    for i in range(3):
        assert np.array_equal(_kernel(layer, f"temporal_{i}")[1], np.ones(5))
        assert np.abs(_kernel(layer, f"temporal_{i}")[[0, 2]]).max() == 0
    previous, current, following = _kernel(layer, "temporal_3")
    assert following.tolist() == [1, 1, 0, 0, 0]
    assert previous.tolist() == [0, 0, 1, 1, 0]
    assert current.tolist() == [0, 0, 0, 0, 1]
    wide = MultipleTemporalAggregation(4)
    wide.build((None, 4, 4, 512))
    variance = _kernel(wide, "convs_0").var()
    assert variance == pytest.approx(2 / (9 * 128), rel=0.05)


def test_variables_keep_their_names_and_shapes():
    layer = MultipleTemporalAggregation(8, name="mta")
    layer.build((None, None, None, 104))
    assert {w.path: tuple(w.shape) for w in layer.trainable_weights} == {
        **{f"mta/convs_{i}/kernel": (3, 3, 26, 26) for i in range(3)},
        **{f"mta/bns_{i}/gamma": (26,) for i in range(3)},
        **{f"mta/bns_{i}/beta": (26,) for i in range(3)},
        **{f"mta/temporal_{i}/kernel": (3, 26) for i in range(4)},
    }


def test_later_fragments_see_further():
    """An impulse at frame 4 reaches 1, 2 and 3 frames to either side."""
    layer = MultipleTemporalAggregation(9)
    layer.build((9, 1, 1, 4))
    for weight in layer.trainable_weights:
        if weight.name == "kernel":
            weight.assign(np.ones(weight.shape))
    x = np.zeros((9, 1, 1, 4), "float32")
    x[4] = 1.0
    y = ops.convert_to_numpy(layer(x, training=False))[:, 0, 0]
    reach = [np.flatnonzero(y[:, i]).tolist() for i in range(4)]
    assert reach == [
        [3, 4, 5],
        [2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6, 7],
        [3, 4, 5],
    ]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MultipleTemporalAggregation(0), "num_frames=0"),
        (lambda: MultipleTemporalAggregation(4, scale=1), "scale=1"),
        (lambda: MultipleTemporalAggregation(4, strides=0), "strides=0"),
        (lambda: MultipleTemporalAggregation(4, strides=2), "strides=2"),
        (lambda: MultipleTemporalAggregation(4, block_type="x"), "block_type='x'"),
        (
            lambda: MultipleTemporalAggregation(4).build((8, 3, 3, 10)),
            "10 channels .*scale=4",
        ),
        (
            lambda: MultipleTemporalAggregation(4).build((9, 3, 3, 8)),
            "MultipleTemporalAggregation .*4",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
