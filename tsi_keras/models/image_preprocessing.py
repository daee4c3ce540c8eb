"""What networks of keras.applications do to an image before their first layer.

Some carry it in them (EfficientNet, and with `include_preprocessing=True`
EfficientNetV2, MobileNetV3 and ConvNeXt); the others leave it to the caller's
`preprocess_input`, and get it as a layer here.
"""

import re

import keras
from keras import ops

from tsi_keras.layers._frames import check_choice
from tsi_keras.models.layer_graph import LayerGraph

MODES = ("tf", "caffe", "torch")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

# Model name, name of its first convolution, mode.
_CONVENTIONS = [
    (r"resnet(50|101|152)", r"conv1_conv", "caffe"),
    (r"vgg(16|19)", r"block1_conv1", "caffe"),
    (r"densenet(121|169|201)", r"conv1_conv", "torch"),
    (r"convnext_(tiny|small|base|large|xlarge)", r"convnext_.*_stem_conv", "torch"),
    (r"resnet(50|101|152)v2", r"conv1_conv", "tf"),
    (r"mobilenet_[\d.]+_.*", r"conv1", "tf"),
    (r"mobilenetv2_[\d.]+_.*", r"Conv1", "tf"),
    (r"MobileNetV3(Small|Large)", r"conv", "tf"),
    (r"efficientnetv2-(b[0-3]|s|m|l)", r"stem_conv", "tf"),
    (r"inception_v3|inception_resnet_v2", r"conv2d(_\d+)?", "tf"),
    (r"xception", r"block1_conv1", "tf"),
    (r"NASNet|nasnet_(mobile|large)", r"stem_conv1", "tf"),
]


@keras.saving.register_keras_serializable(package="tsi_keras")
class ImagePreprocessing(keras.layers.Layer):
    """RGB images, 0 to 255, to the range a network of keras.applications was trained on.

    Args:
        mode: `"tf"` (-1 to 1), `"caffe"` (BGR minus ImageNet's mean) or `"torch"` (zero
            mean and unit variance over ImageNet).
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: another mode.

    Example:
        ```python
        x = ImagePreprocessing("caffe")(images)  # (N, H, W, 3), as ResNet50 expects them
        ```

    Reference: the three modes of keras.applications' `preprocess_input`.
    """

    def __init__(self, mode, **kwargs):
        super().__init__(**kwargs)
        self.mode = check_choice("mode", mode, MODES)

    def call(self, x):
        x = ops.cast(x, self.compute_dtype)
        if self.mode == "tf":
            return x / 127.5 - 1.0
        if self.mode == "caffe":
            return ops.flip(x, axis=-1) - ops.cast(CAFFE_MEAN_BGR, x.dtype)
        mean, std = (ops.cast(v, x.dtype) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (x / 255.0 - mean) / std

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def recognized_mode(model_name: str, graph: LayerGraph) -> str | None:
    """The mode a network of keras.applications needs, or None.

    None also for networks that begin with a Rescaling or Normalization layer, and for
    those that are not recognised by their name and the name of their first convolution.
    """
    first = None
    for call in graph.calls:
        kind = (keras.layers.Rescaling, keras.layers.Normalization)
        if isinstance(call.operation, kind):
            return None
        if hasattr(call.operation, "kernel_size"):
            first = call.name
            break
    for name, convolution, mode in _CONVENTIONS:
        if re.fullmatch(name, model_name) and re.fullmatch(convolution, first or ""):
            return mode
    return None
