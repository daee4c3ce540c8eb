"""Small image networks by hand, and what the insertion tests do with any network."""

import keras
import numpy as np
from keras import layers
from keras import ops

from tsi_keras.models import temporal as registry


def conv_bn_relu(x, filters, size, name, stride=1):
    """Convolution, BN and ReLU, `NAME_conv`, `NAME_bn`, `NAME_relu`."""
    x = layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def residual_cnn(size=None, top=False, name="residual_cnn"):
    """A stem, a strided bottleneck with a projection, and a basic block."""
    images = keras.Input((size, size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, -1, name="rescaling")(images)
    shortcut = x = conv_bn_relu(x, 8, 3, "stem", stride=2)
    x = conv_bn_relu(x, 16, 1, "a1")
    x = conv_bn_relu(x, 16, 3, "a2", stride=2)
    x = layers.Conv2D(32, 1, name="a3_conv")(x)
    shortcut = layers.Conv2D(32, 1, strides=2, name="a_shortcut")(shortcut)
    shortcut = x = layers.Add(name="a_add")([x, shortcut])
    x = conv_bn_relu(x, 32, 3, "b1")
    x = layers.Dropout(0.5, name="b_dropout")(x)
    x = layers.Conv2D(32, 3, padding="same", name="b2_conv")(x)
    x = layers.Add(name="b_add")([x, shortcut])
    if top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(5, name="scores")(x)
    return scramble(keras.Model(images, x, name=name))


def scramble(model):
    """Give the weights values no initializer gives, and BN the statistics of a batch.

    With its initial statistics the features of a deep network vanish, and with them any
    difference a test could see.
    """
    rng = np.random.default_rng(7)
    for weight in model.weights:
        if len(weight.shape) > 1:
            continue
        shift = weight.name in ("beta", "bias", "moving_mean")
        low, high = (-0.1, 0.1) if shift else (0.5, 1.5)
        weight.assign(rng.uniform(low, high, weight.shape))
    size = model.input_shape[1] or 32
    normalizations = [x for x in model.layers if hasattr(x, "moving_mean")]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(rng.uniform(0, 255, (4, size, size, 3)).astype("float32"), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
    return model


def clips(count=2, frames=4, size=16):
    """uint8 RGB."""
    shape = (count, frames, size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


def per_frame(image_model, x):
    """The image network on every frame by itself, `(N, T, ...)`."""
    y = image_model(x.reshape(-1, *x.shape[2:]).astype("float32"), training=False)
    y = ops.convert_to_numpy(y)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def run(model, x):
    """The result as an array."""
    return ops.convert_to_numpy(model(x, training=False))


def difference(a, b) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def neighbours(model, name):
    """Names of the layers in front of a layer and behind it."""
    layer = model.get_layer(name)
    behind = [other.name for other in model.layers if layer.output in inputs_of(other)]
    before = [other.name for other in model.layers if other.output is layer.input]
    return before, behind


def inputs_of(layer):
    """The tensors a layer takes."""
    return (
        [] if isinstance(layer, layers.InputLayer) else keras.tree.flatten(layer.input)
    )


def register(monkeypatch, **parts):
    """The name of a temporal module of parts, registered for one test."""
    module = registry.TemporalModule("for a test", parts)
    monkeypatch.setitem(registry._REGISTRY, "test", module)
    return "test"
