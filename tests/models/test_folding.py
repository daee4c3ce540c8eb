"""BN in convolutions: the same results, the right layers, the original as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.evaluation import tiny
from tests.models.image_networks import clips
from tests.models.image_networks import difference
from tests.models.image_networks import run
from tests.models.image_networks import scramble
from tsi_keras.layers import BatchNormalization
from tsi_keras.models import TemporalResNet
from tsi_keras.models import VideoClassifier
from tsi_keras.models import insert_temporal
from tsi_keras.models import video_resnet
from tsi_keras.models.folding import fold_batch_norm
from tsi_keras.models.folding import foldable_layers
from tsi_keras.models.video_backbone import VideoBackbone


def norms(model):
    """Names of the layers of BN, also those inside of others."""
    return [
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]


def with_statistics(model):
    """Give all BN, also those inside of layers, values no initializer gives."""
    rng = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, shape),
                    *rng.uniform(-0.2, 0.2, (2, *shape)),
                    rng.uniform(0.5, 2.0, shape),
                ]
            )
    return model


@pytest.mark.parametrize(
    "depth, temporal, folded, kept", [(18, "tsi", 20, 16), (14, "tea", 13, 20)]
)
def test_classifier_of_a_resnet(depth, temporal, folded, kept):
    model = with_statistics(video_resnet(depth, temporal, 7, 4, base_width=16))
    before = [value.copy() for value in model.get_weights()]
    names = norms(model)
    result = fold_batch_norm(model)
    assert len(foldable_layers(model)) == folded
    assert len(norms(result)) == kept == len(names) - folded
    assert set(norms(result)) < set(names)

    x = clips(2, 4, 32)
    expected = run(model, x)
    assert difference(expected[0], expected[1]) > 1e-3
    assert difference(run(result, x), expected) < 1e-5

    assert norms(model) == names
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_result_is_a_classifier_that_can_be_saved(tmp_path):
    model = tiny.tiny_model("tsm")
    result = fold_batch_norm(model)
    assert isinstance(result, VideoClassifier)
    assert isinstance(result.backbone, VideoBackbone)
    assert (result.name, result.class_names) == (model.name, tiny.CLASSES)
    assert result.preprocessing == model.preprocessing
    assert (result.num_frames, result.temporal) == (4, "tsm")
    result.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    x = clips(1, 4, 32)
    np.testing.assert_array_equal(run(loaded, x), run(result, x))


def test_inserted_mobilenet_v3():
    image_model = scramble(
        keras.applications.MobileNetV3Small(
            weights=None, include_top=False, input_shape=(None, None, 3)
        )
    )
    backbone = insert_temporal(image_model, "tsm", 2)
    result = fold_batch_norm(backbone)
    assert len(norms(backbone)) == len(foldable_layers(backbone)) == 34
    assert norms(result) == []
    x = clips(1, 2, 64)
    assert difference(run(result, x), run(backbone, x)) < 1e-5


def test_backbone_with_a_callable_module():
    def make(num_frames, name):
        return layers.Activation("tanh", name=name)

    backbone = TemporalResNet(14, make, num_frames=2, base_width=8)
    result = fold_batch_norm(backbone)
    assert result.num_frames == 2 and result.temporal is None
    x = clips(1, 2, 32)
    assert difference(run(result, x), run(backbone, x)) < 1e-5


def network(*parts, channels=4):
    """An image network of parts in a row, with scrambled weights."""
    images = keras.Input((8, 8, channels))
    x = images
    for part in parts:
        x = part(x)
    return scramble_any(keras.Model(images, x))


def scramble_any(model):
    """Weights that no initializer gives."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.uniform(0.2, 1.2, weight.shape))
    return model


KINDS = {
    "bias": [layers.Conv2D(6, 3, use_bias=True), BatchNormalization()],
    "no bias": [layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization()],
    "groups": [layers.Conv2D(6, 1, groups=2), BatchNormalization()],
    "dilation": [layers.Conv2D(6, 3, dilation_rate=2), BatchNormalization()],
    "depthwise": [
        layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        BatchNormalization(),
    ],
    "no scale": [layers.Conv2D(6, 1), BatchNormalization(scale=False)],
    "no centre": [layers.DepthwiseConv2D(3), BatchNormalization(center=False)],
    "neither": [layers.Conv2D(5, 2), BatchNormalization(scale=False, center=False)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_layers(kind):
    model = network(*KINDS[kind])
    result = fold_batch_norm(model)
    assert len(result.layers) == 2 and len(foldable_layers(model)) == 1
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    assert difference(run(result, x), run(model, x)) < 1e-6


def test_sequential_model():
    model = scramble_any(
        keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), BatchNormalization()]
        )
    )
    result = fold_batch_norm(model)
    assert norms(result) == []
    x = np.ones((1, 8, 8, 3), "float32")
    assert difference(run(result, x), run(model, x)) < 1e-6


def two_consumers():
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(images)
    return keras.Model(images, BatchNormalization()(x) + x)


def two_outputs():
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(images)
    return keras.Model(images, [BatchNormalization()(x), x])


def shared_convolution():
    images = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same")
    return keras.Model(images, conv(BatchNormalization()(conv(images))))


def shared_norm():
    images = keras.Input((8, 8, 3))
    norm = BatchNormalization()
    return keras.Model(images, norm(layers.Conv2D(3, 3)(norm(images))))


def by_the_batch():
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3)(images)
    return keras.Model(images, BatchNormalization()(x, training=True))


def convolution(**options):
    return lambda: network(layers.Conv2D(4, 3, **options), BatchNormalization())


UNTOUCHED = {
    "two consumers": two_consumers,
    "two outputs": two_outputs,
    "shared convolution": shared_convolution,
    "shared norm": shared_norm,
    "by the batch": by_the_batch,
    "activation": convolution(activation="relu"),
    "half precision": convolution(dtype="mixed_bfloat16"),
    "another axis": lambda: network(layers.Conv2D(4, 3), BatchNormalization(axis=1)),
    "another layer": lambda: network(
        layers.Conv2DTranspose(4, 3), BatchNormalization()
    ),
    "nothing in front": lambda: network(layers.ReLU(), BatchNormalization()),
}


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_what_is_left_alone(kind):
    model = UNTOUCHED[kind]()
    assert foldable_layers(model) == []
    result = fold_batch_norm(model)
    assert len(norms(result)) == 1
    x = np.random.default_rng(0).normal(size=model.input_shape[1:])[None]
    for actual, expected in zip(
        keras.tree.flatten(result(x)), keras.tree.flatten(model(x)), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_model_that_cannot_be_followed():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="functional or Sequential"):
        fold_batch_norm(Own())
