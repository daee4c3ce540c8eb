"""Labels that are shares of several classes, as MixUp and CutMix give clips.

Training then has labels `(N, K)`, validation still has integers `(N,)`. What is compiled
into a model must take both; these do.
"""

import keras
from keras import ops

from tsi_keras.training.class_accuracy import MeanClassAccuracy


def class_targets(y_true, y_pred):
    """Return labels as shares of the classes.

    Args:
        y_true: integers `(N,)` or `(N, 1)`, or shares `(N, K)`.
        y_pred: scores `(N, K)`, K at least 2.

    Returns:
        `(N, K)`, of the dtype of `y_pred`.
    """
    if _is_soft(y_true, y_pred):
        return ops.cast(y_true, y_pred.dtype)
    labels = ops.reshape(y_true, (-1,))
    return ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)


def hard_labels(y_true, y_pred):
    """Return the class with the largest share of each clip; the first of equals.

    Args:
        y_true: integers `(N,)` or `(N, 1)`, or shares `(N, K)`.
        y_pred: scores `(N, K)`, K at least 2.

    Returns:
        Integers `(N,)`.
    """
    if _is_soft(y_true, y_pred):
        return ops.argmax(y_true, axis=-1)
    return ops.reshape(y_true, (-1,))


def _is_soft(y_true, y_pred) -> bool:
    """Whether the labels have a column per class; decided by shapes alone."""
    shape = ops.shape(y_true)
    return len(shape) == 2 and y_true.shape[-1] == y_pred.shape[-1]


class _OfLargestShare:
    """Makes a metric for integer labels count a mixed clip as its largest part."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(hard_labels(y_true, y_pred), y_pred, sample_weight)


@keras.saving.register_keras_serializable("tsi_keras")
class Top1(_OfLargestShare, keras.metrics.SparseCategoricalAccuracy):
    """Share of the clips whose class has the highest score; for both kinds of labels."""

    def __init__(self, name: str = "top1", dtype=None):
        super().__init__(name=name, dtype=dtype)


@keras.saving.register_keras_serializable("tsi_keras")
class Top5(_OfLargestShare, keras.metrics.SparseTopKCategoricalAccuracy):
    """Share of the clips whose class has one of the five highest scores."""

    def __init__(self, k: int = 5, name: str = "top5", dtype=None):
        super().__init__(k=k, name=name, dtype=dtype)


@keras.saving.register_keras_serializable("tsi_keras")
class MeanTop1(_OfLargestShare, MeanClassAccuracy):
    """`MeanClassAccuracy` for both kinds of labels."""
