"""Generic layer checks, structure, options and errors."""

import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tsi_keras.layers import BatchNormalization
from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import FoldFrames
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers import UnfoldFrames

SHAPE = (8, 6, 5, 64)

LAYERS = [
    # SME: 2*C*d + 9*5*d (+ BN 2*d + 2*C); C = 64, d = 4.
    (SalientMotionExcitation, {}, 828, 136),
    (SalientMotionExcitation, {"use_bn": False}, 692, 0),
    (SalientMotionExcitation, {"levels": 4, "reduction": 8}, 1456, 144),
    (SalientMotionExcitation, {"alignment": "linear", "gate": "centered"}, 828, 136),
    (
        SalientMotionExcitation,
        {"attention": "spatial", "alignment": "efficient", "last_frame": "repeat"},
        828,
        136,
    ),
    (
        SalientMotionExcitation,
        {"attention": "none", "alignment": "row", "pyramid_activation": "relu"},
        828,
        136,
    ),
    (
        SalientMotionExcitation,
        {"pool_first": False, "last_frame": "identity"},
        828,
        136,
    ),
    # CTI: 3*(g*g + g + 3*g); g = 16; with two groups g*g + g + 3*g, g = 32.
    (CrossScaleTemporalIntegration, {}, 960, 0),
    (CrossScaleTemporalIntegration, {"groups": 2, "integration": "joint"}, 1152, 0),
    (
        CrossScaleTemporalIntegration,
        {"temporal_initializer": "identity", "alpha_bias": 3.0, "integration": "time"},
        960,
        0,
    ),
    (TemporalConv1D, {}, 192, 0),
    (TemporalConv1D, {"kernel_size": 5, "temporal_initializer": "he_normal"}, 320, 0),
]


@pytest.mark.parametrize("cls, options, trainable, non_trainable", LAYERS)
def test_layer(cls, options, trainable, non_trainable, tmp_path):
    run_layer_test(
        cls,
        {"num_frames": 4, **options},
        SHAPE,
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
        # A bias common to all frames cancels in a softmax over time.
        without_gradient="bias" if options.get("integration") == "time" else "",
    )


@pytest.mark.parametrize(
    "channels, sme, cti", [(64, 828, 960), (128, 2680, 3456), (256, 9456, 13056)]
)
def test_parameters_at_the_widths_of_resnet50(channels, sme, cti):
    for layer, expected in (
        (SalientMotionExcitation(2), sme),
        (CrossScaleTemporalIntegration(2), cti),
    ):
        layer.build((None, None, None, channels))
        count = sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
        assert count == expected


def test_variables_keep_the_names_and_shapes_others_rely_on():
    sme = SalientMotionExcitation(4, name="sme")
    sme.build(SHAPE)
    assert {w.path: tuple(w.shape) for w in sme.trainable_weights} == {
        "sme/reduce/kernel": (1, 1, 64, 4),
        "sme/reduce_bn/gamma": (4,),
        "sme/reduce_bn/beta": (4,),
        **{f"sme/pyramid_{k}/kernel": (3, 3, 4, 1) for k in range(5)},
        "sme/expand/kernel": (1, 1, 4, 64),
        "sme/expand_bn/gamma": (64,),
        "sme/expand_bn/beta": (64,),
    }
    cti = CrossScaleTemporalIntegration(4, name="cti")
    cti.build(SHAPE)
    assert {w.path: tuple(w.shape) for w in cti.trainable_weights} == {
        **{f"cti/integrate_{j}/kernel": (16, 16) for j in (1, 2, 3)},
        **{f"cti/integrate_{j}/bias": (16,) for j in (1, 2, 3)},
        **{f"cti/temporal_{j}/kernel": (3, 16) for j in (1, 2, 3)},
    }


@pytest.mark.parametrize(
    "channels, ahead, back", [(64, 8, 8), (8, 1, 1), (4, 1, 1), (2, 0, 0)]
)
def test_shift_initializer(channels, ahead, back):
    layer = TemporalConv1D(4)
    layer.build((None, 1, 1, channels))
    kernel = ops.convert_to_numpy(layer.kernel)
    expected = np.zeros((3, channels))
    expected[2, :ahead] = 1
    expected[0, ahead : ahead + back] = 1
    expected[1, ahead + back :] = 1
    assert np.array_equal(kernel, expected)


def test_identity_initializer_changes_nothing():
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    layer = TemporalConv1D(4, temporal_initializer="identity")
    assert np.array_equal(ops.convert_to_numpy(layer(x)), x)


def test_alpha_bias_sets_the_initial_mixture():
    layer = CrossScaleTemporalIntegration(2, alpha_bias=3.0)
    layer.build((None, None, None, 16))
    assert ops.convert_to_numpy(layer.integrate_1.bias).tolist() == [3.0] * 4


def test_clips_do_not_mix():
    """The second clip of a batch gives what it gives alone."""
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    for layer in (
        SalientMotionExcitation(4),
        CrossScaleTemporalIntegration(4),
        TemporalConv1D(4),
    ):
        both, alone = layer(x), layer(x[4:])
        np.testing.assert_allclose(both[4:], alone, rtol=1e-5, atol=1e-6)


def test_folding_is_undone_by_unfolding():
    clips = np.random.default_rng(0).normal(size=(2, 4, 3, 3, 5)).astype("float32")
    frames = FoldFrames()(clips)
    assert frames.shape == (8, 3, 3, 5)
    assert np.array_equal(ops.convert_to_numpy(UnfoldFrames(4)(frames)), clips)
    assert UnfoldFrames(4).compute_output_shape((None, 7, 7, 2)) == (None, 4, 7, 7, 2)


def test_batch_normalization_constants_and_config():
    layer = BatchNormalization()
    layer.build((None, 3))
    assert (layer.momentum, layer.epsilon, layer.synchronized) == (0.9, 1e-5, False)
    again = BatchNormalization.from_config(layer.get_config())
    assert again.get_config()["synchronized"] == "auto"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SalientMotionExcitation(1), "num_frames=1"),
        (lambda: SalientMotionExcitation(2.5), "2.5"),
        (lambda: SalientMotionExcitation(4, alignment="soft"), "alignment='soft'"),
        (lambda: SalientMotionExcitation(4, attention=None), "attention=None"),
        (lambda: SalientMotionExcitation(4, gate="tanh"), "gate='tanh'"),
        (lambda: SalientMotionExcitation(4, last_frame="drop"), "last_frame='drop'"),
        (lambda: SalientMotionExcitation(4, alignment_gate="relu"), "alignment_gate"),
        (lambda: SalientMotionExcitation(4, reduction=0), "reduction=0"),
        (lambda: SalientMotionExcitation(4, levels=-1), "levels=-1"),
        (lambda: CrossScaleTemporalIntegration(0), "num_frames=0"),
        (lambda: CrossScaleTemporalIntegration(4, groups=1), "groups=1"),
        (lambda: CrossScaleTemporalIntegration(4, integration="x"), "integration='x'"),
        (lambda: TemporalConv1D(4, kernel_size=2), "kernel_size=2"),
        (lambda: TemporalConv1D(4, temporal_initializer="nope"), "nope"),
        (lambda: BatchNormalization(synchronized="yes"), "synchronized='yes'"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (SalientMotionExcitation(4), (8, 6, 5, 40), "reduction=16"),
        (CrossScaleTemporalIntegration(4), (8, 6, 5, 42), "groups=4"),
        (TemporalConv1D(4), (9, 6, 5, 8), "num_frames=4"),
        (TemporalConv1D(4), (8, 6, 8), "N\\*T, H, W, C"),
        (SalientMotionExcitation(4), (8, 16, 5, None), "channels"),
    ],
)
def test_bad_shapes_are_named(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_batch_that_is_no_multiple_of_num_frames():
    layer = TemporalConv1D(4)
    layer.build((None, 6, 5, 8))
    with pytest.raises(ValueError, match="multiple of num_frames=4"):
        layer(np.zeros((9, 6, 5, 8), "float32"))
