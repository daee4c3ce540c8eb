"""The confusion matrix as a metric, counted while the clips pass by."""

import keras
import numpy as np
from keras import ops

# The matrix has as many entries as this squared, on every device.
MAX_CLASSES = 400


@keras.saving.register_keras_serializable("tsi_keras")
class MeanClassAccuracy(keras.metrics.Metric):
    """The mean over the classes of the share of their clips that are recognised.

    Classes without clips do not count. What it holds is the confusion matrix, exact to
    2**24 clips per cell and, read outside of the replicas, summed over all of them.

    Args:
        num_classes: int, K.
        name: string. Defaults to `"mean_class_accuracy"`.
        dtype: of the result; the counts are float32 always.

    Example:
        ```python
        metric = MeanClassAccuracy(3)
        metric.update_state([0, 1, 1], [[9.0, 0, 0], [0, 9.0, 0], [9.0, 0, 0]])
        float(metric.result())   # 0.75
        metric.confusion()       # [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
        ```
    """

    def __init__(self, num_classes: int, name: str = "mean_class_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.counts = self.add_variable(
            (num_classes, num_classes), "zeros", dtype="float32", name="counts"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count labels `(N,)` or `(N, 1)` against scores `(N, K)`."""
        truth = self._one_hot(ops.reshape(y_true, (-1,)))
        found = self._one_hot(ops.argmax(y_pred, axis=-1))
        if sample_weight is not None:
            weight = ops.cast(ops.reshape(sample_weight, (-1, 1)), "float32")
            truth = truth * weight
        # A product of ones and zeros: exact in every precision, and deterministic.
        self.counts.assign_add(ops.matmul(ops.transpose(truth), found))

    def result(self):
        clips = ops.sum(self.counts, axis=1)
        recall = ops.diagonal(self.counts) / ops.maximum(clips, 1.0)
        present = ops.sum(ops.cast(clips > 0, "float32"))
        return ops.cast(ops.sum(recall) / ops.maximum(present, 1.0), self.dtype)

    def confusion(self) -> np.ndarray:
        """Return the matrix `(K, K)`, int64: rows are true classes, columns predicted.

        Under a strategy of several workers all of them must ask.
        """
        return np.rint(ops.convert_to_numpy(self.counts)).astype(np.int64)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}

    def _one_hot(self, labels):
        return ops.one_hot(ops.cast(labels, "int32"), self.num_classes, dtype="float32")


def find_metric(model: keras.Model) -> MeanClassAccuracy | None:
    """Return the `MeanClassAccuracy` a model was compiled with, if there is one."""
    for metric in model.metrics:
        for part in (metric, *getattr(metric, "metrics", ())):
            if isinstance(part, MeanClassAccuracy):
                return part
    return None
