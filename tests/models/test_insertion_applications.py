"""insert_temporal in the networks of keras.applications; all but one are slow."""

from functools import cache

import keras
import numpy as np
import pytest

from tests.models.image_networks import clips
from tests.models.image_networks import difference
from tests.models.image_networks import per_frame
from tests.models.image_networks import run
from tests.models.image_networks import scramble
from tsi_keras.models import VideoClassifier
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.insertion import insertion_points

APPLICATIONS = keras.applications
IDENTITY = {"tim": {"temporal_initializer": "identity"}}


def resnet(*blocks):
    return [
        f"conv{stage}_block{block}_2_conv_tim"
        for stage, count in enumerate(blocks, start=2)
        for block in range(1, count + 1)
    ]


# Temporal layers, named after the convolution they follow; where none of them stands, a
# block has no residual connection.
LAYERS = {
    "ResNet50": resnet(3, 4, 6, 3),
    "ResNet101": resnet(3, 4, 23, 3),
    "MobileNetV2": [
        f"block_{i}_depthwise_tim" for i in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)
    ],
    "MobileNetV3Large": [
        "expanded_conv_depthwise_tim",
        *(f"expanded_conv_{i}_depthwise_tim" for i in (2, 4, 5, 7, 8, 9, 11, 13, 14)),
    ],
    "EfficientNetV2B0": [
        "block2b_expand_conv_tim",
        "block3b_expand_conv_tim",
        *(f"block4{i}_dwconv2_tim" for i in "bc"),
        *(f"block5{i}_dwconv2_tim" for i in "bcde"),
        *(f"block6{i}_dwconv2_tim" for i in "bcdefgh"),
    ],
    "ConvNeXtTiny": [
        f"convnext_tiny_stage_{stage}_block_{block}_depthwise_conv_tim"
        for stage, count in enumerate((3, 3, 9, 3))
        for block in range(count)
    ],
}
# Layers behind which the modules go; MobileNetV3's activations have no fixed names.
POINTS = {
    "ResNet50": ("conv2_block1_2_relu", "conv5_block3_2_relu"),
    "ResNet101": ("conv2_block1_2_relu", "conv5_block3_2_relu"),
    "MobileNetV2": ("block_2_depthwise_relu", "block_15_depthwise_relu"),
    "MobileNetV3Large": ("re_lu", "activation"),
    "EfficientNetV2B0": ("block2b_expand_activation", "block6h_activation"),
    "ConvNeXtTiny": (
        "convnext_tiny_stage_0_block_0_depthwise_conv",
        "convnext_tiny_stage_3_block_2_depthwise_conv",
    ),
}
# Behind the expansion of MobileNetV3 are 72, 120, ... channels, multiples of 8.
TSI_OPTIONS = {"MobileNetV3Large": {"sme": {"reduction": 8}}}

NETWORKS = [
    pytest.param(name, marks=[] if name == "MobileNetV2" else [pytest.mark.slow])
    for name in LAYERS
]


@cache
def network(name, top):
    """Random weights; the size is open without the top and 64 pixels with it."""
    shape = (64, 64, 3) if top else (None, None, 3)
    model = getattr(APPLICATIONS, name)(
        weights=None, include_top=top, input_shape=shape
    )
    return scramble(model)


@pytest.mark.parametrize("name", NETWORKS)
def test_places(name):
    points = insertion_points(network(name, top=False))
    model = insert_temporal(network(name, top=False), "tim", 2)
    found = [layer.name for layer in model.layers if layer.name.endswith("_tim")]
    assert found == LAYERS[name]
    assert len(points) == len(found)
    assert points[0].startswith(POINTS[name][0])
    assert points[-1].startswith(POINTS[name][1])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("top", [False, pytest.param(True, marks=[pytest.mark.slow])])
def test_identity_modules_leave_every_frame_as_it_was(name, top):
    image_model = network(name, top)
    model = insert_temporal(
        image_model, "tim", 2, temporal_options=IDENTITY, preprocessing=None
    )
    x = clips(1, 2, 64)
    expected = per_frame(image_model, x)
    assert difference(expected[:, 0], expected[:, 1]) > 0.01
    assert difference(run(model, x), expected) < 1e-5
    if top:
        assert model.output_shape == (None, 2, 1000)
    else:
        assert model.output_shape[:4] == (None, 2, None, None)
    assert model.input_shape == (None, 2, *image_model.input_shape[1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_tsi_mixes_frames_and_survives_saving(name, tmp_path):
    backbone = insert_temporal(
        network(name, top=False), "tsi", 2, temporal_options=TSI_OPTIONS.get(name)
    )
    model = VideoClassifier(backbone, 3, head_stddev=0.1)
    x = clips(1, 2, 64)
    x[:, 1] //= 2
    assert difference(run(model, x[:, ::-1]), run(model, x)) > 1e-4
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(run(loaded, x), run(model, x))
    assert loaded.num_frames == 2


# The module with each network's own `preprocess_input`.
MODULES = {
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "VGG16": "vgg16",
    "DenseNet121": "densenet",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Large": "mobilenet_v3",
    "EfficientNetB0": "efficientnet",
    "EfficientNetV2B0": "efficientnet_v2",
    "ConvNeXtTiny": "convnext",
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "Xception": "xception",
    "NASNetMobile": "nasnet",
}
PREPROCESSED = [
    pytest.param(name, marks=[] if name == "MobileNetV2" else [pytest.mark.slow])
    for name in MODULES
]


@pytest.mark.parametrize("name", PREPROCESSED)
def test_frames_get_what_preprocess_input_does(name):
    """RGB, 0 to 255, into the video network, as preprocessed images into the other."""
    shape = (224, 224, 3) if name == "NASNetMobile" else (96, 96, 3)
    image_model = getattr(APPLICATIONS, name)(
        weights=None, include_top=False, input_shape=shape
    )
    model = insert_temporal(image_model, "none", 2)
    x = clips(1, 2, shape[0])
    preprocess = getattr(APPLICATIONS, MODULES[name]).preprocess_input
    expected = per_frame(image_model, preprocess(x.astype("float32")))
    assert difference(run(model, x), expected) < 1e-4
    raw = insert_temporal(image_model, "none", 2, preprocessing=None)
    inside = name.startswith(("MobileNetV3", "EfficientNet", "ConvNeXt"))
    assert (difference(run(raw, x), expected) < 1e-4) == inside


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, mode",
    [("MobileNetV3Small", "tf"), ("EfficientNetV2B0", "tf"), ("ConvNeXtTiny", "torch")],
)
def test_networks_built_without_their_preprocessing_get_it(name, mode):
    image_model = getattr(APPLICATIONS, name)(
        weights=None, include_top=False, include_preprocessing=False
    )
    model = insert_temporal(image_model, "none", 2)
    assert model.get_layer("preprocessing").mode == mode
