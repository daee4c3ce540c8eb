"""insert_temporal in networks of other forms, and what prepares their images."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.models.image_networks import clips
from tests.models.image_networks import conv_bn_relu
from tests.models.image_networks import difference
from tests.models.image_networks import neighbours
from tests.models.image_networks import per_frame
from tests.models.image_networks import register
from tests.models.image_networks import residual_cnn
from tests.models.image_networks import run
from tests.models.image_networks import scramble
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers.alignment_guided_attention import AlignmentGuidedTemporalAttention
from tsi_keras.models import Part
from tsi_keras.models.insertion import insert_temporal

IDENTITY = {"tim": {"temporal_initializer": "identity"}}


# === Networks of other forms ===


def test_a_nested_network_is_opened():
    inner = residual_cnn(name="inner")
    inner.trainable = False
    images = keras.Input((16, 16, 3))
    x = layers.RandomFlip(name="flip")(images)
    x = layers.GlobalAveragePooling2D(name="pool")(inner(x, training=False))
    image_model = keras.Model(images, layers.Dense(3, name="top")(x), name="outer")
    model = insert_temporal(image_model, "tim", 4, temporal_options=IDENTITY)
    assert neighbours(model, "a2_conv_tim") == (["a2_relu"], ["a3_conv"])
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-6
    trainable = {w.path.split("/")[0] for w in model.trainable_weights}
    assert trainable == {"a2_conv_tim", "b1_conv_tim", "top"}


def test_sequential_branches_and_models():
    images = keras.Input((16, 16, 3))
    branches = [
        keras.Sequential(
            [
                layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1"),
                layers.Conv2D(3, 3, padding="same", name="conv2"),
            ],
            name=f"branch{i}",
        )
        for i in (1, 2)
    ]
    x = layers.Add()([images, branches[0](images)])
    x = layers.Add()([x, branches[1](x)])
    image_model = scramble(keras.Model(images, x))
    model = insert_temporal(image_model, "tim", 4, temporal_options=IDENTITY)
    assert neighbours(model, "conv1_tim")[1] == ["conv2"]
    assert neighbours(model, "branch2_conv1_tim")[1] == ["branch2_conv2"]
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-6

    plain = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="conv")]
    )
    model = insert_temporal(plain, "tim", 4, ["conv"], temporal_options=IDENTITY)
    assert difference(run(model, clips()), per_frame(plain, clips())) < 1e-6


def test_a_layer_called_twice_stays_one_layer():
    images = keras.Input((16, 16, 3))
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    image_model = scramble(keras.Model(images, shared(shared(images))))
    options = {"temporal_options": IDENTITY, "where": ["shared"]}
    model = insert_temporal(image_model, "tim", 4, **options)
    names = [layer.name for layer in model.layers]
    assert names.count("shared") == 1
    assert {"shared_tim", "shared_1_tim"} < set(names)
    assert model.count_params() == image_model.count_params() + 2 * 9
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-6


def test_a_block_called_twice_gets_two_modules(monkeypatch):
    name = register(
        monkeypatch, a=Part(TemporalConv1D), b=Part(TemporalConv1D, "branch_input")
    )
    images = keras.Input((16, 16, 3))
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    x = layers.Add()([images, shared(images)])
    image_model = keras.Model(images, layers.Add()([x, shared(x)]))
    model = insert_temporal(image_model, name, 4)
    found = {layer.name for layer in model.layers if "shared_" in layer.name}
    assert found == {"shared_a", "shared_1_a", "shared_b", "shared_1_b"}


def test_statistics_of_an_adapted_normalization_are_copied():
    images = keras.Input((None, None, 3))
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(clips(frames=8).reshape(-1, 16, 16, 3) // 3)
    x = conv_bn_relu(normalization(images), 4, 3, "one")
    image_model = keras.Model(images, x)
    model = insert_temporal(image_model, "none", 4)
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-6


def test_several_outputs_keep_their_structure():
    images = keras.Input((16, 16, 3))
    first = conv_bn_relu(images, 4, 3, "one")
    second = conv_bn_relu(first, 8, 3, "two", stride=2)
    image_model = keras.Model(images, {"fine": first, "coarse": second})
    model = insert_temporal(image_model, "tim", 4, ["one_relu"])
    result = model(clips())
    assert result["fine"].shape == (2, 4, 16, 16, 4)
    assert result["coarse"].shape == (2, 4, 8, 8, 8)


@keras.saving.register_keras_serializable(package="tests")
class Network(keras.Model):
    """A functional model in a class of its own."""

    def __init__(self, width=4, **kwargs):
        images = keras.Input((16, 16, 3))
        super().__init__(images, conv_bn_relu(images, width, 3, "one"), **kwargs)


def test_a_functional_model_in_a_class():
    image_model = scramble(Network())
    model = insert_temporal(image_model, "none", 4)
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-6


# === Vision transformers ===


def vit(depth=2, width=8):
    """Patches of 4x4 pixels, tokens (N, 16, width), pre-norm blocks."""
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(width, 4, strides=4, name="patches")(images)
    x = layers.Reshape((16, width), name="tokens")(x)
    for i in range(depth):
        y = layers.LayerNormalization(name=f"block{i}_norm1")(x)
        y = layers.MultiHeadAttention(2, 4, name=f"block{i}_attention")(y, y)
        x = layers.Add(name=f"block{i}_add1")([x, y])
        y = layers.LayerNormalization(name=f"block{i}_norm2")(x)
        y = layers.Dense(2 * width, "gelu", name=f"block{i}_mlp1")(y)
        y = layers.Dense(width, name=f"block{i}_mlp2")(y)
        x = layers.Add(name=f"block{i}_add2")([x, y])
    return scramble(keras.Model(images, x, name="vit"))


@keras.saving.register_keras_serializable(package="tests")
class TokenShift(layers.Layer):
    """The tokens of the next frame, cyclically."""

    def __init__(self, num_frames, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def call(self, x):
        clips = ops.reshape(x, (-1, self.num_frames, *x.shape[1:]))
        return ops.reshape(ops.roll(clips, -1, axis=1), (-1, *x.shape[1:]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}


@pytest.mark.parametrize("where", [["tokens"], ["tokens", "block0_add2"]])
def test_tokens_of_a_vision_transformer(where, tmp_path):
    """In front of the blocks, or inside: before the attention of each."""
    image_model = vit()
    model = insert_temporal(image_model, TokenShift, 4, where)
    shifted = np.roll(clips(), -len(where), axis=1)
    expected = per_frame(image_model, shifted)
    assert difference(run(model, clips()), expected) < 1e-5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(run(loaded, clips()), run(model, clips()))


def test_alignment_guided_attention_between_the_tokens():
    """Its output starts at zero, so every frame is as it was."""
    image_model, where = vit(), ["tokens", "block0_add2"]
    temporal = partial(AlignmentGuidedTemporalAttention, num_heads=2, matcher="greedy")
    model = insert_temporal(image_model, temporal, 4, where)
    assert difference(run(model, clips()), per_frame(image_model, clips())) < 1e-5
    layer = model.get_layer("tokens_temporal")
    for weight in layer.trainable_weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    assert difference(run(model, clips()), per_frame(image_model, clips())) > 1e-3


# === Preprocessing ===


def test_a_function_or_layer_prepares_the_images():
    image_model = residual_cnn()
    for half in (lambda x: x / 2, layers.Rescaling(0.5, name="half")):
        model = insert_temporal(image_model, "none", 4, preprocessing=half)
        expected = per_frame(image_model, clips().astype("float32") / 2)
        assert difference(run(model, clips()), expected) < 1e-6


def test_mixed_precision_does_not_round_frames():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = insert_temporal(residual_cnn(), "tim", 4)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("a2_conv_tim").compute_dtype == "bfloat16"
    probe = keras.Model(model.input, model.get_layer("fold_frames").output)
    probe.autocast = False
    frames = np.full((1, 4, 8, 8, 3), 200.4, "float32")
    assert float(probe(frames)[0, 0, 0, 0]) == pytest.approx(200.4, 1e-6)
