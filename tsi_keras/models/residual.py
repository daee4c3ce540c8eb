"""Stem and residual blocks of torchvision's ResNet ("v1.5"), frame by frame.

Layer names are torchvision's with `.` written as `_` (`layer1_0_conv2`), so that weights
map by name. Strided convolutions pad symmetrically, as PyTorch does; TensorFlow's "same"
would not.
"""

from dataclasses import dataclass

import keras
from keras import layers

from tsi_keras.layers import BatchNormalization
from tsi_keras.models.placement import TemporalPlacement

# Whatever keras.config.image_data_format() says: the modules work on (N*T, H, W, C).
CHANNELS_LAST = "channels_last"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# On a CPU, TensorFlow's gradient of a strided 1x1 kernel overruns its buffers with up to
# 12 input channels. To take every second pixel first is the same.
_FEW_CHANNELS = 16

# torchvision initialises convolutions with kaiming_normal_(mode="fan_out").
KAIMING = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}


@dataclass(frozen=True)
class Block:
    """One residual block.

    Attributes:
        name: prefix of its layers, `layer1_0`.
        width: channels inside the block.
        stride: of its spatial convolution and its shortcut.
        project: whether the shortcut is a 1x1 convolution.
        first: whether it is the first block of its stage.
        temporal: the temporal layers of the block.
    """

    name: str
    width: int
    stride: int
    project: bool
    first: bool
    temporal: TemporalPlacement


def normalize(x):
    """RGB 0-255 to zero mean and unit variance over ImageNet, in float32."""
    return layers.Normalization(
        mean=[255.0 * value for value in IMAGENET_MEAN],
        variance=[(255.0 * value) ** 2 for value in IMAGENET_STD],
        dtype="float32",
        name="normalization",
    )(x)


def convolve(x, filters, size, name, stride=1):
    """Convolution without bias, zero padded symmetrically to `size // 2`."""
    if size > 1 and stride > 1:
        x = layers.ZeroPadding2D(size // 2, CHANNELS_LAST, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        data_format=CHANNELS_LAST,
        use_bias=False,
        kernel_initializer=keras.initializers.deserialize(KAIMING),
        name=name,
    )(x)


def stem(x, width, kind):
    """7x7/2 convolution and 3x3/2 max-pooling, or a 3x3/2 convolution alone."""
    x = convolve(x, width, 7 if kind == "imagenet" else 3, "conv1", stride=2)
    x = BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu")(x)
    if kind == "small":
        return x
    # Zeros pad as well as minus infinity would: the input is not negative.
    x = layers.ZeroPadding2D(1, CHANNELS_LAST, name="maxpool_pad")(x)
    return layers.MaxPooling2D(3, strides=2, data_format=CHANNELS_LAST, name="maxpool")(
        x
    )


def basic_block(x, block: Block):
    """Two 3x3 convolutions (ResNet-18 and 34); the first is the spatial one."""
    temporal = block.temporal
    for part in (*temporal.at("spatial"), *temporal.at("beside_spatial")):
        raise ValueError(
            f"The temporal part {part!r} is made for the 3x3 convolution of a "
            "bottleneck; use `depth` 14, 26, 50 or 101."
        )
    x = temporal.cascade(x, block.name, "block")
    shortcut = _shortcut(x, block, block.width)
    x = temporal.cascade(x, block.name, "branch_input")
    x = _spatial(x, block, block.width, 1)
    x = temporal.after_spatial(x, block.name)
    x = convolve(x, block.width, 3, f"{block.name}_conv2")
    x = BatchNormalization(name=f"{block.name}_bn2")(x)
    x = layers.Add(name=f"{block.name}_add")([x, shortcut])
    return layers.ReLU(name=f"{block.name}_relu2")(x)


def bottleneck_block(x, block: Block):
    """1x1, 3x3, 1x1 (ResNet-14, 26, 50, 101)."""
    temporal, width = block.temporal, block.temporal.branch_width(block.width)
    x = temporal.cascade(x, block.name, "block")
    shortcut = _shortcut(x, block, 4 * block.width)
    x = temporal.cascade(x, block.name, "branch_input")
    x = convolve(x, width, 1, f"{block.name}_conv1")
    x = BatchNormalization(name=f"{block.name}_bn1")(x)
    x = layers.ReLU(name=f"{block.name}_relu1")(x)
    x = _spatial(x, block, width, 2)
    x = temporal.after_spatial(x, block.name)
    x = convolve(x, 4 * block.width, 1, f"{block.name}_conv3")
    x = BatchNormalization(name=f"{block.name}_bn3")(x)
    x = layers.Add(name=f"{block.name}_add")([x, shortcut])
    return layers.ReLU(name=f"{block.name}_relu3")(x)


def _spatial(x, block, width, number):
    """The strided 3x3 convolution with BN and ReLU, or what stands in its place."""
    temporal, name = block.temporal, block.name
    beside = temporal.beside_spatial(x, name, block.stride)
    x = temporal.cascade(x, name, "before_spatial")
    block_type = "stage" if block.first else "normal"
    replaced = temporal.spatial(x, name, strides=block.stride, block_type=block_type)
    if replaced is not None:
        return replaced
    x = convolve(x, width, 3, f"{name}_conv{number}", block.stride)
    x = BatchNormalization(name=f"{name}_bn{number}")(x)
    if beside:
        x = layers.Add(name=f"{name}_beside")([x, *beside])
    return layers.ReLU(name=f"{name}_relu{number}")(x)


def _shortcut(x, block, filters):
    if not block.project:
        return x
    name, stride = f"{block.name}_downsample_0", block.stride
    if stride > 1 and x.shape[-1] < _FEW_CHANNELS:
        subsample = layers.MaxPooling2D(
            1, stride, data_format=CHANNELS_LAST, name=f"{name}_subsample"
        )
        x, stride = subsample(x), 1
    x = convolve(x, filters, 1, name, stride)
    return BatchNormalization(name=f"{block.name}_downsample_1")(x)
