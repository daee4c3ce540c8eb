"""Metrics against scikit-learn and against counts done by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tsi_keras.evaluation.metrics import class_table
from tsi_keras.evaluation.metrics import compute_metrics
from tsi_keras.evaluation.metrics import confusion_matrix
from tsi_keras.evaluation.metrics import mean_class_accuracy
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.metrics import top_k_accuracy
from tsi_keras.evaluation.metrics import true_ranks


def _random(num_videos=500, num_classes=9, seed=0):
    """Logits that favour the right class somewhat, with every class present."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate(
        [np.arange(num_classes), rng.integers(num_classes, size=num_videos)]
    )
    logits = rng.normal(size=(len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 1.0
    return logits.astype("float32"), labels


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("num_classes", [6, 9, 40])
def test_top_k_agrees_with_sklearn(k, num_classes):
    logits, labels = _random(num_classes=num_classes)
    expected = sk.top_k_accuracy_score(labels, logits, k=k)
    assert 0 < expected < 1
    assert top_k_accuracy(logits, labels, k) == pytest.approx(expected, abs=1e-12)


def test_all_figures_agree_with_sklearn():
    logits, labels = _random()
    predictions = logits.argmax(axis=1)
    confusion = confusion_matrix(labels, predictions, 9)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(labels, predictions))
    figures = compute_metrics(logits, labels)
    assert figures.top1 == pytest.approx(sk.accuracy_score(labels, predictions))
    assert figures.top5 == pytest.approx(sk.top_k_accuracy_score(labels, logits, k=5))
    assert figures.mean_class_accuracy == pytest.approx(
        sk.balanced_accuracy_score(labels, predictions), abs=1e-12
    )
    assert figures.scored_classes == 9


def test_class_table_agrees_with_sklearn():
    logits, labels = _random()
    predictions = logits.argmax(axis=1)
    names = [f"class {i}" for i in range(9)]
    rows = class_table(confusion_matrix(labels, predictions, 9), names)
    precision, recall, _, support = sk.precision_recall_fscore_support(
        labels, predictions
    )
    assert [row.name for row in rows] == names
    assert [row.videos for row in rows] == support.tolist()
    np.testing.assert_allclose([row.recall for row in rows], recall)
    np.testing.assert_allclose([row.precision for row in rows], precision)


def test_absent_class_does_not_count():
    logits = np.eye(4)[[0, 1, 1, 2]]
    labels = np.array([0, 1, 2, 2])
    figures = compute_metrics(logits, labels)
    assert figures.scored_classes == 3
    assert figures.mean_class_accuracy == pytest.approx((1 + 1 + 0.5) / 3)
    row = class_table(confusion_matrix(labels, logits.argmax(1), 4), list("abcd"))[3]
    assert (row.videos, row.recall, row.precision) == (0, None, None)


@pytest.mark.parametrize("num_classes, expected", [(2, None), (5, None), (6, 5 / 6)])
def test_top5_only_where_it_says_something(num_classes, expected):
    labels = np.arange(num_classes)
    logits = np.tile(np.arange(num_classes, dtype=float), (num_classes, 1))
    assert compute_metrics(logits, labels).top5 == expected


def test_ties_follow_argmax():
    logits = np.zeros((4, 4))
    np.testing.assert_array_equal(true_ranks(logits, np.arange(4)), np.arange(4))
    assert top_k_accuracy(logits, np.arange(4), 1) == 0.25


def test_softmax_is_stable_and_float64():
    probabilities = softmax(np.array([[1e4, 1e4 - 1, -1e4]], "float32"))
    assert probabilities.dtype == np.float64
    expected = [1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1)), 0]
    np.testing.assert_allclose(probabilities[0], expected, rtol=1e-12)


def test_mean_class_accuracy_of_a_hand_made_matrix():
    confusion = np.array([[8, 2], [3, 1]])
    assert mean_class_accuracy(confusion) == pytest.approx((0.8 + 0.25) / 2)


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (np.zeros((2, 3)), np.zeros(3, int), "must be"),
        (np.array([[0, np.nan]]), np.zeros(1, int), "1 of 1 videos are not finite"),
        (np.zeros((1, 3)), np.array([3]), "must lie in 0..2"),
        (np.zeros((0, 3)), np.zeros(0, int), "no videos"),
    ],
)
def test_bad_arrays_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(logits, labels, 1)
