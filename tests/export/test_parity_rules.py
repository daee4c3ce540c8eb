"""What counts as the same answer, and what is asked of which kind."""

import numpy as np
import pytest

from tsi_keras.export.parity_rules import THRESHOLDS
from tsi_keras.export.parity_rules import Threshold
from tsi_keras.export.parity_rules import compare_logits
from tsi_keras.export.parity_rules import complaint
from tsi_keras.export.parity_rules import thresholds_for
from tsi_keras.export.parity_rules import top1_margins
from tsi_keras.utils.errors import InputError

IDS = ["a", "b", "c", "d"]
LOGITS = np.array([[3, 1, 0], [0, 2, 1.75], [1, 0, 4], [0.5, 0, 0]], np.float32)


def test_figures_of_a_comparison():
    actual = LOGITS.copy()
    actual[0] += 0.5
    actual[1, 2] += 0.5  # a near-tie: decided by 0.25, of which 0.5 is usual here
    actual[2, 0] += 8  # no near-tie: decided by 3
    figures = compare_logits(LOGITS, actual, IDS)
    assert figures == {
        "max_difference": 8.0,
        "mean_difference": 10 / 12,
        "top1_agreement": 0.5,
        "disagreeing": ["b", "c"],
        "near_ties": 1,
    }


def test_equal_logits_agree_entirely():
    figures = compare_logits(LOGITS, LOGITS, IDS)
    assert figures["max_difference"] == 0 and figures["top1_agreement"] == 1
    assert figures["disagreeing"] == [] and figures["near_ties"] == 0
    for threshold in THRESHOLDS.values():
        assert complaint("x", figures, threshold, 4) is None


@pytest.mark.parametrize("kind", THRESHOLDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_fails_whatever_the_kind(kind, value):
    actual = LOGITS.copy()
    actual[0, 0] = value  # remains the best class for argmax
    figures = compare_logits(LOGITS, actual, IDS)
    assert figures["top1_agreement"] == 0.75
    assert "not finite" in complaint("x", figures, THRESHOLDS[kind], 4)
    assert "not finite" in complaint("x", figures, Threshold(), 4)


def test_complaints_name_figures_and_clips():
    actual = LOGITS.copy()
    actual[1, 2] += 0.5
    actual[2:] += 0.5
    figures = compare_logits(LOGITS, actual, IDS)
    text = complaint("model.tflite", figures, THRESHOLDS["float32"], 4)
    assert text.startswith("the logits of model.tflite differ") and "0.5 on 4" in text
    text = complaint("model_int8.tflite", figures, THRESHOLDS["int8"], 4)
    assert "in 75.0% of 4 clips; 95.0% is asked for" in text
    assert "differs in b (1 of 1 are near-ties" in text
    assert complaint("x", figures, Threshold(min_agreement=0.75), 4) is None


def test_thresholds_of_the_kinds():
    limits = thresholds_for("records", {"int8": 0.5})
    assert limits["int8"] == Threshold(None, 0.5)
    assert limits["dynamic"] == Threshold(None, 0.98)
    assert limits["float16"] == limits["bfloat16"] == Threshold(None, 0.99)
    assert limits["float32"] == Threshold(1e-4, None)


def test_noise_asks_for_differences_only():
    limits = thresholds_for("random", None)
    exact = {"float32", "onnx"}
    assert {limits[kind] for kind in exact} == {Threshold(1e-4, None)}
    assert {limits[kind] for kind in THRESHOLDS if kind not in exact} == {Threshold()}
    with pytest.raises(InputError, match="needs real clips"):
        thresholds_for("random", {"int8": 0.9})


@pytest.mark.parametrize(
    "wrong", [{"int4": 0.9}, {"int8": 1.5}, {"int8": float("nan")}]
)
@pytest.mark.parametrize("source", ["records", "random"])
def test_bad_shares_are_refused(wrong, source):
    with pytest.raises(InputError, match="a share from 0 to 1. Received: int"):
        thresholds_for(source, wrong)


def test_files_may_differ_in_units_of_the_largest_logit():
    """Of 20, say; a SavedModel has no unit."""
    gap = {"max_difference": 1e-3, "top1_agreement": 1.0, "disagreeing": []}
    limit = Threshold(max_difference=1e-4)
    assert complaint("x", gap | {"unit": 20.0}, limit, 5) is None
    assert "at most 0.0005 is" in complaint("x", gap | {"unit": 5.0}, limit, 5)
    assert "at most 0.0001 is" in complaint("x", gap, limit, 5)


def test_margins():
    np.testing.assert_allclose(top1_margins(LOGITS), [2, 0.25, 3, 0.5])
    assert np.isinf(top1_margins(LOGITS[:, :1])).all()
