"""The bias-free convolutions that several modules are made of."""

import keras

from tsi_keras.layers._initializers import kaiming


def pointwise(filters: int, name: str, dtype) -> keras.layers.Conv2D:
    """A 1x1 convolution."""
    return keras.layers.Conv2D(
        filters,
        1,
        use_bias=False,
        kernel_initializer=kaiming("fan_out"),
        data_format="channels_last",
        dtype=dtype,
        name=name,
    )


def depthwise(name: str, dtype) -> keras.layers.DepthwiseConv2D:
    """A 3x3 convolution of every channel by itself."""
    return keras.layers.DepthwiseConv2D(
        3,
        padding="same",
        use_bias=False,
        depthwise_initializer=kaiming("fan_in"),
        data_format="channels_last",
        dtype=dtype,
        name=name,
    )
