"""Initial weights that several modules share."""

import keras


def kaiming(mode: str = "fan_out") -> keras.initializers.Initializer:
    """He normal without truncation, as torchvision initialises its ResNets.

    A depthwise kernel `(3, 3, d, 1)` has a Keras fan-in of 9 d, PyTorch's fan-out.
    """
    return keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")
