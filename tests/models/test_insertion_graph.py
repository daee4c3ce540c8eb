"""Residual blocks found in graphs of all kinds; image preprocessing by itself."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.models.image_networks import conv_bn_relu
from tests.models.image_networks import run
from tsi_keras.models.image_preprocessing import ImagePreprocessing
from tsi_keras.models.image_preprocessing import recognized_mode
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.insertion import insertion_points
from tsi_keras.models.layer_graph import read_graph


def network(branch, width=8, shortcut=lambda x: x):
    """Input, a stem, and one residual block with `branch`."""
    images = keras.Input((16, 16, 3))
    x = conv_bn_relu(images, width, 3, "stem")
    # Not "add": Keras names the first `x + y` of a process so, too.
    x = layers.Add(name="block_add")([shortcut(x), branch(x)])
    return keras.Model(images, layers.ReLU(name="out")(x))


def conv(x, filters, size, name, **options):
    return layers.Conv2D(filters, size, padding="same", name=name, **options)(x)


def basic(x):
    return conv(conv_bn_relu(x, 8, 3, "one"), 8, 3, "two_conv")


def bottleneck(x):
    x = conv_bn_relu(conv_bn_relu(x, 4, 1, "one"), 4, 3, "two")
    return conv(x, 8, 1, "three_conv")


def single(x):
    return conv_bn_relu(x, 8, 3, "one")


def preactivated(x):
    for name in ("one", "two"):
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = conv(x, 8, 3, f"{name}_conv")
    return x


def convnext(x):
    x = layers.DepthwiseConv2D(7, padding="same", name="depthwise")(x)
    x = layers.LayerNormalization(name="norm")(x)
    return layers.Dense(8, name="dense2")(layers.Dense(16, "gelu", name="dense1")(x))


def squeeze_excite(x):
    x = conv_bn_relu(x, 8, 3, "one")
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = conv(conv(y, 2, 1, "squeeze"), 8, 1, "excite")
    return conv(layers.Multiply()([x, y]), 8, 1, "project")


def spatial_attention(x):
    """A 7x7 convolution beside the trunk, after the trunk's 3x3 (as CBAM)."""
    x = conv_bn_relu(x, 8, 3, "one")
    y = conv(x, 1, 7, "map", activation="sigmoid")
    return conv(layers.Multiply()([x, y]), 8, 1, "project")


def scales(x):
    """Additions between the parts of a block, which are no blocks (as Res2Net)."""
    x = conv_bn_relu(x, 8, 1, "one")
    first = conv(x[..., :4], 4, 3, "scale1")
    second = conv(x[..., 4:] + first, 4, 3, "scale2")
    x = layers.Concatenate(name="join")([first, second])
    return conv(layers.ReLU(name="joined_relu")(x), 8, 1, "project")


def group_norm(x):
    x = layers.GroupNormalization(2, name="norm")(conv(x, 8, 3, "one"))
    return conv(ops.silu(x), 8, 1, "project")


@pytest.mark.parametrize(
    "branch, expected",
    [
        (basic, "one_relu"),
        (bottleneck, "two_relu"),
        (single, "one_relu"),
        (preactivated, "two_relu"),
        (convnext, "depthwise"),
        (squeeze_excite, "one_relu"),
        (spatial_attention, "one_relu"),
        (scales, "joined_relu"),
    ],
)
@pytest.mark.parametrize("add", ["layer", "operator"])
def test_where_modules_go(branch, expected, add, monkeypatch):
    if add == "operator":
        monkeypatch.setattr(layers, "Add", lambda name: lambda x: x[0] + x[1])
    assert insertion_points(network(branch)) == [expected]


def test_activations_written_as_functions_are_passed():
    (point,) = insertion_points(network(group_norm))
    assert point.startswith("silu")
    model = insert_temporal(network(group_norm), "tim", 2)
    assert model.get_layer("one_tim")


@pytest.mark.parametrize(
    "shortcut",
    [
        lambda x: conv(x, 8, 1, "shortcut"),
        lambda x: conv(x, 8, 3, "shortcut"),
        lambda x: conv(layers.AveragePooling2D(2, 1, "same")(x), 8, 1, "shortcut"),
    ],
)
def test_the_shortcut_is_the_path_with_fewest_convolutions(shortcut):
    assert insertion_points(network(basic, shortcut=shortcut)) == ["one_relu"]


def test_blocks_in_stages_under_a_pyramid():
    """The pyramid's addition of two stages is no residual block."""
    images = keras.Input((16, 16, 3))
    fine = conv_bn_relu(images, 8, 3, "stem")
    x = layers.MaxPooling2D(2)(fine)
    y = conv(conv_bn_relu(x, 8, 3, "one"), 8, 3, "two")
    x = layers.Add()([x, y])
    coarse = layers.UpSampling2D(2)(conv(x, 8, 1, "lateral"))
    image_model = keras.Model(images, layers.Add()([fine, coarse]))
    assert insertion_points(image_model) == ["one_relu"]


def test_parallel_branches_get_a_module_each():
    images = keras.Input((16, 16, 3))
    outputs = [images, *(conv_bn_relu(images, 3, 3, n) for n in ("left", "right"))]
    image_model = keras.Model(images, layers.Add()(outputs))
    assert insertion_points(image_model) == ["left_relu", "right_relu"]


def test_no_one_input_before_parallel_convolutions():
    assert insertion_points(network(scales), "branch_input") == ["one_conv"]
    with pytest.raises(ValueError, match="'block_add'.*several spatial"):
        insertion_points(network(scales), "before_spatial")


def test_additions_that_are_no_blocks():
    """Gates add a constant, squeezed maps are broadcast, sums may lack convolutions."""

    def branch(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.ReLU()(x + 3.0) * (1 / 6) + y

    assert insertion_points(network(branch)) == []


# === Preprocessing ===

APPLICATIONS = keras.applications


@pytest.mark.parametrize(
    "mode, module",
    [
        ("caffe", APPLICATIONS.resnet),
        ("tf", APPLICATIONS.mobilenet_v2),
        ("torch", APPLICATIONS.densenet),
    ],
)
def test_preprocessing_is_that_of_keras_applications(mode, module):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype("float32")
    layer = ImagePreprocessing(mode)
    expected = module.preprocess_input(images.copy(), data_format="channels_last")
    np.testing.assert_allclose(run(layer, images), expected, rtol=1e-5, atol=1e-5)
    again = ImagePreprocessing.from_config(layer.get_config())
    np.testing.assert_array_equal(run(again, images), run(layer, images))


def test_preprocessing_of_one_pixel():
    """Orange: R 255, G 128, B 0."""
    pixel = np.array([[[[255.0, 128.0, 0.0]]]], "float32")
    expected = {
        "tf": [1.0, 0.003922, -1.0],
        "caffe": [-103.939, 11.221, 131.32],
        "torch": [2.248908, 0.205182, -1.804444],
    }
    for mode, values in expected.items():
        result = run(ImagePreprocessing(mode), pixel)[0, 0, 0]
        np.testing.assert_allclose(result, values, atol=1e-5)


def named(name, first, *front):
    images = keras.Input((8, 8, 3))
    x = images
    for layer in front:
        x = layer(x)
    return keras.Model(images, layers.Conv2D(2, 3, name=first)(x), name=name)


@pytest.mark.parametrize(
    "name, first, mode",
    [
        ("resnet50", "conv1_conv", "caffe"),
        ("resnet50", "conv1", None),
        ("resnet50v2", "conv1_conv", "tf"),
        ("my_resnet50", "conv1_conv", None),
        ("vgg16", "block1_conv1", "caffe"),
        ("densenet121", "conv1_conv", "torch"),
        ("mobilenet_0.50_224", "conv1", "tf"),
        ("MobileNetV3Small", "conv", "tf"),
        ("functional_3", "conv", None),
    ],
)
def test_networks_of_keras_applications_are_recognized(name, first, mode):
    model = named(name, first)
    assert recognized_mode(model.name, read_graph(model)) == mode
    inside = named(name, first, layers.Rescaling(1 / 127.5, -1))
    assert recognized_mode(inside.name, read_graph(inside)) is None


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="mode='bgr'"):
        ImagePreprocessing("bgr")
