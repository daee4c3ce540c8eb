"""insert_temporal: equality with the image network, places, saving."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.models.image_networks import clips
from tests.models.image_networks import difference
from tests.models.image_networks import inputs_of
from tests.models.image_networks import neighbours
from tests.models.image_networks import per_frame
from tests.models.image_networks import register
from tests.models.image_networks import residual_cnn
from tests.models.image_networks import run
from tsi_keras.layers import TemporalConv1D
from tsi_keras.models import Part
from tsi_keras.models import VideoClassifier
from tsi_keras.models import list_temporal
from tsi_keras.models import temporal as registry
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.insertion import insertion_points

IDENTITY = {"tim": {"temporal_initializer": "identity"}}


# === Values ===


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("top", [False, True])
def test_identity_modules_leave_every_frame_as_it_was(size, top):
    image_model = residual_cnn(size, top)
    model = insert_temporal(image_model, "tim", 4, temporal_options=IDENTITY)
    expected = per_frame(image_model, clips())
    assert model.input_shape == (None, 4, size, size, 3)
    assert model(clips()).shape == ((2, 4, 5) if top else (2, 4, 4, 4, 32))
    assert difference(run(model, clips()), expected) < 1e-6


def test_shifting_modules_mix_the_frames_of_a_clip_only():
    image_model = residual_cnn()
    model = insert_temporal(image_model, "tim", 4)
    expected = per_frame(image_model, clips())
    assert difference(run(model, clips()), expected) > 0.01
    alone = run(model, clips()[1:])
    assert difference(run(model, clips())[1:], alone) < 1e-5


def test_a_closed_sme_is_the_identity():
    image_model = residual_cnn()
    options = {"sme": {"gate": "centered"}}
    model = insert_temporal(image_model, "sme", 4, temporal_options=options)
    expected = per_frame(image_model, clips())
    assert difference(run(model, clips()), expected) > 1e-4
    for name in ("a2_conv_sme", "b1_conv_sme"):
        normalization = model.get_layer(name).expand_bn
        normalization.gamma.assign(ops.zeros_like(normalization.gamma))
    assert difference(run(model, clips()), expected) < 1e-6


def test_without_modules_it_is_the_image_network():
    image_model = residual_cnn()
    model = insert_temporal(image_model, "none", 3)
    x = clips(frames=3)
    assert difference(run(model, x), per_frame(image_model, x)) < 1e-6
    assert len(model.weights) == len(image_model.weights)


def test_parameters():
    """TIM has 3 weights per channel: 16 behind a2, 32 behind b1."""
    image_model = residual_cnn()
    model = insert_temporal(image_model, "tim", 4)
    assert model.count_params() == image_model.count_params() + 3 * (16 + 32)


def test_training_moves_the_copy_and_not_the_original():
    image_model = residual_cnn(16)
    before = [ops.convert_to_numpy(w) for w in image_model.weights]
    model = insert_temporal(image_model, "tsi", 4, name="video")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    old = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    model.train_on_batch(clips(), np.ones((2, 4, 4, 4, 32)))
    moved = [
        not np.array_equal(ops.convert_to_numpy(w), v)
        for w, v in zip(model.trainable_weights, old, strict=True)
    ]
    assert np.mean(moved) > 0.9
    for weight, value in zip(image_model.weights, before, strict=True):
        assert np.array_equal(ops.convert_to_numpy(weight), value)
    assert [layer.name for layer in image_model.layers].count("a2_conv_sme") == 0
    assert image_model.get_layer("a2_conv").output.shape == (None, 4, 4, 16)


def test_dropout_and_statistics_follow_the_training_argument():
    model = insert_temporal(residual_cnn(), "tim", 4, temporal_options=IDENTITY)
    mean = model.get_layer("b1_bn").moving_mean
    before = ops.convert_to_numpy(mean)
    first, second = model(clips(), training=True), model(clips(), training=True)
    assert difference(np.asarray(first), np.asarray(second)) > 0.01
    assert not np.array_equal(ops.convert_to_numpy(mean), before)


def test_frozen_layers_stay_frozen():
    image_model = residual_cnn()
    image_model.get_layer("a2_conv").trainable = False
    model = insert_temporal(image_model, "tim", 4)
    assert not model.get_layer("a2_conv").trainable
    assert model.get_layer("a2_conv_tim").trainable
    assert model.get_layer("b1_conv").trainable


# === Places ===


def test_the_default_is_behind_the_spatial_convolution():
    assert insertion_points(residual_cnn()) == ["a2_relu", "b1_relu"]
    model = insert_temporal(residual_cnn(), "tsi", 4)
    assert neighbours(model, "a2_conv_sme") == (["a2_relu"], ["a2_conv_cti"])
    assert neighbours(model, "a2_conv_cti") == (["a2_conv_sme"], ["a3_conv"])
    assert neighbours(model, "b1_conv_cti") == (["b1_conv_sme"], ["b_dropout"])


def test_parts_in_front_of_the_convolutions_leave_the_shortcut(monkeypatch):
    name = register(
        monkeypatch,
        me=Part(TemporalConv1D, "before_spatial"),
        tim=Part(TemporalConv1D, "branch_input"),
    )
    assert insertion_points(residual_cnn(), "branch_input") == ["a1_conv", "b1_conv"]
    assert insertion_points(residual_cnn(), "before_spatial") == ["a2_conv", "b1_conv"]
    model = insert_temporal(residual_cnn(), name, 4)
    assert neighbours(model, "a1_conv_tim") == (["stem_relu"], ["a1_conv"])
    assert neighbours(model, "a2_conv_me") == (["a1_relu"], ["a2_conv"])
    assert neighbours(model, "b1_conv_tim") == (["a_add"], ["b1_conv_me"])
    assert neighbours(model, "b1_conv_me") == (["b1_conv_tim"], ["b1_conv"])
    for shortcut in ("a_shortcut", "b_add"):
        sources = inputs_of(model.get_layer(shortcut))
        names = [layer.name for layer in model.layers if layer.output in sources]
        assert not any(name.endswith(("_tim", "_me")) for name in names)


def test_zero_padding_belongs_to_its_convolution(monkeypatch):
    name = register(monkeypatch, me=Part(TemporalConv1D, "before_spatial"))
    images = keras.Input((None, None, 8))
    x = layers.ReLU(name="relu")(images)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.Conv2D(8, 3, name="conv")(x)
    image_model = keras.Model(images, layers.Add()([x, images]))
    model = insert_temporal(image_model, name, 2)
    assert neighbours(model, "conv_me") == (["relu"], ["pad"])


@pytest.mark.parametrize(
    "where",
    [
        ["stem_relu", "b_add"],
        lambda layer: layer.name in ("stem_relu", "b_add"),
    ],
)
def test_chosen_layers(where):
    model = insert_temporal(residual_cnn(), TemporalConv1D, 4, where)
    assert neighbours(model, "b_add_temporal") == (["b_add"], ["unfold_frames"])
    names = [layer.name for layer in model.layers if "temporal" in layer.name]
    assert names == ["stem_relu_temporal", "b_add_temporal"]


def test_parts_of_any_place_follow_one_another_where_they_are_told(monkeypatch):
    name = register(
        monkeypatch,
        sme=Part(TemporalConv1D),
        tcm=Part(TemporalConv1D, "after_stage"),
        tim=Part(TemporalConv1D, "branch_input"),
    )
    model = insert_temporal(residual_cnn(), name, 4, where="a_add")
    assert neighbours(model, "a_add_tim") == (["a_add"], ["a_add_sme"])
    assert neighbours(model, "a_add_sme") == (["a_add_tim"], ["a_add_tcm"])
    assert neighbours(model, "a_add_tcm")[0] == ["a_add_sme"]


def test_a_part_elsewhere_than_the_others(monkeypatch):
    name = register(
        monkeypatch,
        tcm=Part(TemporalConv1D, "after_stage"),
        tim=Part(TemporalConv1D, "branch_input"),
    )
    model = insert_temporal(residual_cnn(), name, 4, {"tcm": ["a_add"]})
    assert neighbours(model, "a_add_tcm")[0] == ["a_add"]
    assert neighbours(model, "b1_conv_tim") == (["a_add_tcm"], ["b1_conv"])
    assert neighbours(model, "a1_conv_tim") == (["stem_relu"], ["a1_conv"])
    with pytest.raises(ValueError, match=r"\['sme'\].*\['tcm', 'tim'\]"):
        insert_temporal(residual_cnn(), name, 4, {"sme": ["a_add"]})


@pytest.mark.parametrize("name", list_temporal())
def test_every_registered_module_fits_or_says_what_to_do(name):
    places = {part.place for part in registry.get_temporal(name).parts.values()}
    if places <= {"branch_input", "before_spatial", "after_spatial"}:
        model = insert_temporal(residual_cnn(), name, 4)
        assert model(clips()).shape == (2, 4, 4, 4, 32)
        assert difference(run(model, clips()[1:]), run(model, clips())[1:]) < 1e-4
    else:
        with pytest.raises(ValueError, match="TemporalResNet, or"):
            insert_temporal(residual_cnn(), name, 4)


def test_options_reach_the_layers():
    options = {"sme": {"reduction": 4}, "cti": {"groups": 2}}
    model = insert_temporal(residual_cnn(), "tsi", 4, temporal_options=options)
    assert model.get_layer("b1_conv_sme").reduction == 4
    assert model.get_layer("a2_conv_cti").groups == 2


# === Saving ===


def test_the_network_and_its_classifier_survive_saving(tmp_path):
    backbone = insert_temporal(residual_cnn(), "tsi", 4)
    backbone.get_layer("a2_conv").trainable = False
    model = VideoClassifier(backbone, 3)
    assert model(clips()).shape == (2, 3)
    for name, original in (("backbone", backbone), ("model", model)):
        original.save(tmp_path / f"{name}.keras")
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert np.array_equal(run(loaded, clips()), run(original, clips()))
        assert (loaded.num_frames, loaded.temporal) == (4, "tsi")
        assert len(loaded.trainable_weights) == len(original.trainable_weights)
    backbone.trainable = False
    backbone.save(tmp_path / "frozen.keras")
    assert not keras.saving.load_model(tmp_path / "frozen.keras").trainable_weights


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel")
def test_export(tmp_path):
    import tensorflow as tf

    model = VideoClassifier(insert_temporal(residual_cnn(), "tim", 4), 3)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = np.asarray(loaded.serve(clips().astype("float32")))
    assert difference(served, run(model, clips())) < 1e-5
