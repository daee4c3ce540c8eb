"""TSM against the official numbers, NumPy, and its descendants' initial state."""

import numpy as np
import pytest

from tests.harness import run_layer_test
from tests.layers import reference_baselines as reference
from tests.layers.reference_baselines import check_golden
from tests.layers.reference_baselines import run
from tsi_keras.layers.temporal_shift import TemporalShift

GOLDEN = (
    -0.470601704,
    65.725209907,
    (-0.602476937, -0.273087323, 0.093263378),
    -0.961379363,
)


@pytest.mark.parametrize("options", [{}, {"shift_div": 3}, {"bidirectional": False}])
def test_layer(options, tmp_path):
    run_layer_test(
        TemporalShift,
        {"num_frames": 4, **options},
        (8, 6, 5, 16),
        trainable=0,
        non_trainable=0,
        tmp_path=tmp_path,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden(dtype):
    check_golden(run(TemporalShift(4, dtype=dtype)), *GOLDEN, dtype)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("shift_div", [2, 3, 8])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_equals_numpy(num_frames, shift_div, bidirectional):
    x = np.random.default_rng(1).normal(size=(2 * num_frames, 3, 2, 19))
    layer = TemporalShift(num_frames, shift_div, bidirectional, dtype="float64")
    expected = reference.temporal_shift(x, num_frames, shift_div, bidirectional)
    assert np.array_equal(run(layer, x), expected)


def test_online_shift_sees_no_future():
    x = np.random.default_rng(1).normal(size=(6, 2, 2, 8)).astype("float32")
    changed = x.copy()
    changed[3:] += 1.0
    layer = TemporalShift(6, bidirectional=False)
    assert np.array_equal(run(layer, x)[:3], run(layer, changed)[:3])
    assert not np.array_equal(
        run(TemporalShift(6), x)[:3], run(TemporalShift(6), changed)[:3]
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TemporalShift(0), "num_frames=0"),
        (lambda: TemporalShift(4, shift_div=0), "shift_div=0"),
        (lambda: TemporalShift(4, shift_div=2.5), "shift_div=2.5"),
        (lambda: TemporalShift(4, shift_div=1), "both directions"),
        (lambda: TemporalShift(4).build((8, 3, 3, 7)), "has 7 .*shift_div=8"),
        (lambda: TemporalShift(4).build((9, 3, 3, 8)), "TemporalShift.*num_frames=4"),
        (lambda: TemporalShift(4).build((8, 3, 8)), "N\\*T, H, W, C"),
        (lambda: TemporalShift(4).build((8, 3, 3, None)), "channels"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
