"""The confusion matrix that is counted in the validation."""

import numpy as np
import pytest

from tests.training.tiny_classifier import RNG
from tests.training.tiny_classifier import X
from tests.training.tiny_classifier import Y
from tests.training.tiny_classifier import batches
from tests.training.tiny_classifier import small_model
from tsi_keras.evaluation.metrics import confusion_matrix
from tsi_keras.evaluation.metrics import mean_class_accuracy
from tsi_keras.training.class_accuracy import MeanClassAccuracy
from tsi_keras.training.class_accuracy import find_metric
from tsi_keras.training.distribution import make_strategy


def test_mean_class_accuracy_is_that_of_the_evaluation():
    logits = RNG.normal(size=(50, 7)).astype("float32")
    # The last class has no clips.
    labels = RNG.integers(0, 6, 50)
    metric = MeanClassAccuracy(7)
    for part in np.array_split(np.arange(50), 3):
        metric.update_state(labels[part][:, None], logits[part])
    expected = confusion_matrix(labels, logits.argmax(-1), 7)
    np.testing.assert_array_equal(metric.confusion(), expected)
    assert metric.confusion().dtype == np.int64
    np.testing.assert_allclose(
        metric.result(), mean_class_accuracy(expected), rtol=1e-6
    )
    metric.reset_state()
    assert metric.result() == 0 == metric.confusion().sum()


def test_clips_without_weight_do_not_count():
    logits = np.eye(3, dtype="float32")[[0, 1, 1, 2]]
    metric = MeanClassAccuracy.from_config(MeanClassAccuracy(3).get_config())
    metric.update_state([0, 0, 1, 1], logits, sample_weight=[1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(metric.confusion(), np.diag([1, 1, 0]))
    assert metric.result() == 1


def test_confusion_is_summed_over_the_replicas(tmp_path):
    with make_strategy("mirrored").scope():
        model = small_model()
    assert model.distribute_strategy.num_replicas_in_sync == 2
    found = model.evaluate(batches(), return_dict=True, verbose=0)
    metric = find_metric(model)
    logits = small_model().predict(X, verbose=0)
    expected = confusion_matrix(Y, logits.argmax(-1), 3)
    np.testing.assert_array_equal(metric.confusion(), expected)
    accuracy = mean_class_accuracy(expected)
    assert found["mean_class_accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_models_without_the_metric():
    model = small_model()
    model.compile("sgd", "mse", metrics=["mae"])
    assert find_metric(model) is None
