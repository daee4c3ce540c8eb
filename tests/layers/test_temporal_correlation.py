"""TCM against the official numbers and NumPy, tempos, identity at the start."""

import numpy as np
import pytest
from keras import ops

from tests.harness import run_layer_test
from tests.layers import reference_tcm as reference
from tests.layers.reference_baselines import check_golden
from tests.layers.reference_baselines import norm_of
from tests.layers.reference_baselines import numpy_of
from tests.layers.reference_baselines import randomize
from tests.layers.reference_baselines import run
from tests.reference import RTOL
from tests.reference import fill
from tsi_keras.layers.temporal_correlation import TemporalCorrelation

INPUT = fill((4, 128, 9, 9), 0.37, 1.0).transpose(0, 2, 3, 1)

MOTION_GOLDEN = (
    500.266660066,
    32.074284311,
    (0.990656922, -0.142857143, -0.140397324),
    0.999660896,
)
GOLDEN = (
    1073.933322988,
    144.463287909,
    (0.389156004, 0.674287912, 0.933427524),
    0.904916939,
)
KINDS = ["grouped"] * 3 + ["pointwise"] + ["depthwise", "pointwise"] * 3
# PyTorch shapes of the convolutions of TAM, in order.
SHAPES = [
    (6, 2, 3, 3),
    (6, 2, 3, 3),
    (6, 2, 3, 3),
    (16, 6, 1, 1),
    (16, 1, 3, 3),
    (32, 16, 1, 1),
    (32, 1, 3, 3),
    (64, 32, 1, 1),
    (64, 1, 3, 3),
    (128, 64, 1, 1),
]


# R C + 2 R + 4472 + 66 C + k trainable, 2 R + 484 + 2 C other; R = 64 by default.
# `zero_init` adds one.
@pytest.mark.parametrize(
    "options, shape, trainable, non_trainable",
    [
        pytest.param(
            {"num_frames": 4}, (8, 6, 5, 32), 8763, 676, marks=pytest.mark.slow
        ),
        (
            {
                "num_frames": 2,
                "reduced_channels": 8,
                "patch_size": 3,
                "zero_init": True,
            },
            (4, 6, 5, 16),
            5674,
            532,
        ),
    ],
)
def test_layer(options, shape, trainable, non_trainable, tmp_path):
    run_layer_test(
        TemporalCorrelation,
        options,
        shape,
        trainable=trainable,
        non_trainable=non_trainable,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("num_frames, parameters", [(8, 71163), (16, 71165)])
def test_parameters_after_res3_of_resnet50(num_frames, parameters):
    layer = TemporalCorrelation(num_frames)
    layer.build((None, 28, 28, 512))
    assert sum(int(np.prod(w.shape)) for w in layer.trainable_weights) == parameters


def golden_layer(dtype):
    layer = TemporalCorrelation(4, dtype=dtype)
    layer.build(INPUT.shape)
    kernel = fill((64, 128, 1, 1), 0.4, 0.5).transpose(2, 3, 1, 0)
    layer.reduction.kernel.assign(kernel)
    for i, (kind, shape) in enumerate(zip(KINDS, SHAPES, strict=True)):
        axes = (2, 3, 0, 1) if kind == "depthwise" else (2, 3, 1, 0)
        kernel = fill(shape, 0.5 + 0.1 * i, 0.5).transpose(axes)
        layer.attention[2 * i].kernel.assign(kernel)
    layer.eta.kernel.assign(fill((3, 1), 1.5, 0.5))
    return layer


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden(dtype):
    layer = golden_layer(dtype)
    motion = numpy_of(layer.motion(ops.cast(INPUT, dtype), training=False))
    check_golden(motion, *MOTION_GOLDEN, dtype)
    pair = (0.137935263, -0.42848768, 0.999886887)
    np.testing.assert_allclose(motion[0, 4, 4], [*pair, *pair], rtol=1e-3)
    check_golden(run(layer, INPUT, training=False), *GOLDEN, dtype)


@pytest.mark.parametrize(
    "num_frames, size, options",
    [(2, (4, 3), {}), (5, (3, 5), {"patch_size": 5, "reduced_channels": 7})],
)
def test_equals_numpy(num_frames, size, options):
    rng = np.random.default_rng(1)
    layer = TemporalCorrelation(num_frames, dtype="float64", **options)
    x = rng.normal(size=(2 * num_frames, *size, 10))
    layer.build(x.shape)
    randomize(layer, rng)
    expected = reference.temporal_correlation(
        x, num_frames, _weights(layer), layer.patch_size
    )
    y = run(layer, x, training=False)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL)
    assert np.abs(y - x).max() > 0.01


def _weights(layer):
    layers = []
    for kind, convolution, norm in zip(
        KINDS, layer.attention[::2], layer.attention[1::2], strict=True
    ):
        kernel = numpy_of(convolution.kernel)
        if kind != "grouped":
            kernel = kernel[..., 0] if kind == "depthwise" else kernel[0, 0]
        layers.append((kind, kernel, norm_of(norm)))
    return {
        "reduction": numpy_of(layer.reduction.kernel)[0, 0],
        "reduction_bn": norm_of(layer.reduction_bn),
        "layers": layers,
        "eta": numpy_of(layer.eta.kernel)[:, 0],
    }


def test_slow_tempo_compares_with_the_first_frame():
    """A pattern that moves one column a frame: fast 1/7 always, slow 1/7, 2/7, 3/7."""
    field = np.random.default_rng(0).normal(size=(12, 20, 64)).astype("float32")
    x = np.stack([field[:, 4 - t : 16 - t] for t in range(4)])
    layer = TemporalCorrelation(4)
    layer.build(x.shape)
    layer.reduction.kernel.assign(np.eye(64)[None, None])
    motion = numpy_of(layer.motion(x, training=False))[:, 2:-2, 2:-4]
    fast, slow = (motion[..., k].mean((1, 2)) for k in (0, 3))
    np.testing.assert_allclose(fast, np.full(4, 1 / 7), atol=0.01)
    np.testing.assert_allclose(slow, [1 / 7, 2 / 7, 3 / 7, 3 / 7], atol=0.01)


@pytest.mark.parametrize("training", [False, True])
def test_zero_init_starts_as_the_identity(training):
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 16)).astype("float32")
    layer = TemporalCorrelation(4, zero_init=True)
    assert np.array_equal(run(layer, x, training=training), x)


def test_zero_init_can_leave_zero():
    """The output is linear in the scale, with a slope.

    A zero scale of the last BN would have none: the ReLU behind it stays at zero.
    """
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 16)).astype("float32")
    layer = TemporalCorrelation(4, patch_size=3, zero_init=True)
    layer.build(x.shape)
    layer.scale.assign(0.5)
    assert np.abs(run(layer, x, training=True) - x).max() > 0.1


@pytest.mark.parametrize("num_frames, size", [(2, 1), (4, 3), (8, 3), (16, 5), (32, 5)])
def test_length_of_the_temporal_gate(num_frames, size):
    layer = TemporalCorrelation(num_frames)
    layer.build((None, 4, 4, 8))
    assert tuple(layer.eta.kernel.shape) == (size, 1)


def test_variables_keep_their_names_and_shapes():
    layer = TemporalCorrelation(8, name="tcm")
    layer.build((None, None, None, 512))
    kernels = {w.path: tuple(w.shape) for w in layer.weights if w.name == "kernel"}
    assert kernels == {
        "tcm/reduction/kernel": (1, 1, 512, 64),
        "tcm/conv1_0/kernel": (3, 3, 2, 6),
        "tcm/conv1_3/kernel": (3, 3, 2, 6),
        "tcm/conv1_6/kernel": (3, 3, 2, 6),
        "tcm/conv1_9/kernel": (1, 1, 6, 16),
        "tcm/conv2_0/kernel": (3, 3, 16, 1),
        "tcm/conv2_3/kernel": (1, 1, 16, 32),
        "tcm/conv3_0/kernel": (3, 3, 32, 1),
        "tcm/conv3_3/kernel": (1, 1, 32, 64),
        "tcm/conv4_0/kernel": (3, 3, 64, 1),
        "tcm/conv4_3/kernel": (1, 1, 64, 512),
        "tcm/eta/kernel": (3, 1),
    }
    gammas = {w.path for w in layer.weights if w.name == "gamma"}
    assert gammas == {
        f"tcm/{name}/gamma"
        for name in (
            *("reduction_bn", "conv1_1", "conv1_4", "conv1_7", "conv1_10"),
            *("conv2_1", "conv2_4", "conv3_1", "conv3_4", "conv4_1", "conv4_4"),
        )
    }


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TemporalCorrelation(1), "num_frames=1"),
        (lambda: TemporalCorrelation(4, patch_size=4), "patch_size=4"),
        (lambda: TemporalCorrelation(4, patch_size=1), "patch_size=1"),
        (lambda: TemporalCorrelation(4, reduced_channels=0), "reduced_channels=0"),
        (lambda: TemporalCorrelation(4).build((9, 3, 3, 8)), "TemporalCorrelation .*4"),
        (lambda: TemporalCorrelation(4).build((8, 3, 8)), "N\\*T, H, W, C"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
