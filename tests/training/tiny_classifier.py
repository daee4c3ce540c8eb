"""A classifier and batches for tests of what happens around the steps."""

import time

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.training.class_accuracy import MeanClassAccuracy
from tsi_keras.training.optimizer import GroupedSGD

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = RNG.integers(0, 3, 24)


def small_model(optimizer=None):
    """A compiled classifier of three classes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="body")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x))
    model.compile(
        optimizer or GroupedSGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[MeanClassAccuracy(3)],
        jit_compile=False,
    )
    return model


def batches(delay=0.0):
    """Six batches of four, each `delay` seconds late."""
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4, drop_remainder=True)
    if not delay:
        return data

    def late(x, y):
        ready = tf.numpy_function(lambda: time.sleep(delay) or np.int64(0), [], "int64")
        return x, y + tf.ensure_shape(ready, [])

    return data.map(late)
