"""Training on crops that the device resizes: the other half of `resize_on="device"`."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.crop_resizing import resize_crops

# What `resizing` puts before a model's own methods.
_METHODS = ("train_step", "_symbolic_build")


def resizing(model: keras.Model, options: ClipOptions) -> keras.Model:
    """Make `fit` take the training batches of `make_dataset` with these options.

    With `resize_on="device"` these hold crops of different sizes; the model then resizes
    them in its training step, each device its own share. Evaluation, prediction and what
    is saved stay as they are. With `resize_on="host"` the model is as it was before. The
    last call counts.

    Args:
        model: built; any model of clips `(N, T, H, W, 3)`.
        options: the ones of the dataset.

    Returns:
        The same model.

    Example:
        ```python
        options = ClipOptions(resize_on="device")
        train = make_dataset("data", "train", options, batch_size=64, training=True)
        model = resizing(TSIResNet50(num_classes=174), options)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(train)
        ```
    """
    for name in _METHODS:
        # Methods of this one model: files and copies are of the class it has.
        vars(model).pop(name, None)
    if options.resize_on == "device":
        _put_before(model, options.crop_size)
    model.train_function = None  # it may be compiled from the methods before
    return model


def _put_before(model: keras.Model, size: int) -> None:
    """Have the model's methods called with clips."""
    train_step, symbolic_build = model.train_step, model._symbolic_build

    def train_on_crops(data):
        return train_step(_with_clips(data, lambda x: _resized(x, size)))

    def build_for_crops(iterator=None, data_batch=None):
        # Keras builds metrics from the shapes of a batch. It may be the mean of those
        # of the replicas, which is no batch of crops any more.
        if data_batch is not None:
            data_batch = _with_clips(data_batch, lambda x: _empty(x, size))
        symbolic_build(iterator=iterator, data_batch=data_batch)

    vars(model).update(zip(_METHODS, (train_on_crops, build_for_crops), strict=True))


def _with_clips(data, make_clips: Callable[[dict], tf.Tensor]):
    """A batch with clips for its crops; one of the evaluation has clips already."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(x, dict):
        x = make_clips(x)
    return keras.utils.pack_x_y_sample_weight(x, y, weights)


def _resized(x: dict, size: int) -> tf.Tensor:
    """The clips that crops become."""
    return resize_crops(x["crops"], x["sides"], size)


def _empty(x: dict, size: int) -> tf.Tensor:
    """Clips of the same shape and type."""
    return tf.zeros((*x["crops"].shape[:2], size, size, 3), tf.uint8)
