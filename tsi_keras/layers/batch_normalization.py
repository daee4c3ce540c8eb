"""Batch normalisation with torchvision's constants, synchronised across replicas."""

import keras


@keras.saving.register_keras_serializable(package="tsi_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` as the papers' ResNets use it.

    Momentum 0.9 and epsilon 1e-5 (PyTorch's momentum 0.1), and statistics over the whole
    batch when the layer is built under a `tf.distribute` strategy of several replicas:
    Keras' own default lets the moving statistics of the replicas drift apart and saves
    those of the first. On one device, and on backends without replicas, it is the plain
    layer.

    Args:
        synchronized: `"auto"` (as above), True or False.
        **kwargs: arguments of `keras.layers.BatchNormalization`.

    Example:
        ```python
        y = BatchNormalization(name="bn1")(x)
        ```
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, synchronized="auto", **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        if synchronized not in ("auto", True, False):
            raise ValueError(
                '`synchronized` must be "auto", True or False. '
                f"Received: synchronized={synchronized!r}"
            )
        self._synchronized_option = synchronized

    def build(self, input_shape):
        option = self._synchronized_option
        self.synchronized = _several_replicas() if option == "auto" else option
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "synchronized": self._synchronized_option}


def _several_replicas() -> bool:
    """Whether the layer is built under a strategy of more than one replica."""
    if keras.backend.backend() != "tensorflow":
        return False
    # Replicas are a TensorFlow notion: nothing in keras.ops tells of them.
    from tensorflow import distribute

    return distribute.get_strategy().num_replicas_in_sync > 1
