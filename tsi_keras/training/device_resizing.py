"""Training on crops that the device resizes: the other half of `resize_on="device"`."""

from collections.abc import Callable
from functools import cache
from functools import partial

import keras
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.crop_resizing import resize_crops
from tsi_keras.training.model_steps import with_steps


def resizing(model: keras.Model, options: ClipOptions) -> keras.Model:
    """Make `fit` take the training batches of `make_dataset` with these options.

    With `resize_on="device"` these hold crops of different sizes; the model then resizes
    them in its training step, each device its own share. Evaluation, prediction and what
    is saved stay as they are. With `resize_on="host"` nothing is changed.

    Args:
        model: built; any model of clips `(N, T, H, W, 3)`.
        options: the ones of the dataset.

    Returns:
        The same model, then of a subclass of its class.

    Example:
        ```python
        options = ClipOptions(resize_on="device")
        train = make_dataset("data", "train", options, batch_size=64, training=True)
        model = resizing(TSIResNet50(num_classes=174), options)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(train)
        ```
    """
    if options.resize_on == "host":
        return model
    return with_steps(model, _steps(options.crop_size))


@cache
def _steps(size: int) -> type:
    """Methods that resize the crops of a batch before they go on."""

    class ResizingSteps:
        def train_step(self, data):
            resize = partial(_resized_clips, size=size)
            return super().train_step(_with_clips(data, resize))

        def _symbolic_build(self, iterator=None, data_batch=None):
            # Keras builds metrics from the shapes of a batch. It may be the mean of
            # those of the replicas, which is no batch of crops any more.
            if data_batch is not None:
                data_batch = _with_clips(data_batch, partial(_empty_clips, size=size))
            super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    return ResizingSteps


def _with_clips(data, make_clips: Callable):
    """A batch with clips for its crops; one of the evaluation has clips already."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(x, dict):
        x = make_clips(x)
    return keras.utils.pack_x_y_sample_weight(x, y, weights)


def _resized_clips(x: dict, size: int) -> tf.Tensor:
    """The clips that crops become."""
    return resize_crops(x["crops"], x["sides"], size)


def _empty_clips(x: dict, size: int) -> tf.Tensor:
    """Clips of the same shape and type."""
    return tf.zeros((*x["crops"].shape[:2], size, size, 3), tf.uint8)
