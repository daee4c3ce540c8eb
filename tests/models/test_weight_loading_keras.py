"""Weights of dicts and of other people's Keras models and files."""

import keras
import numpy as np
import pytest

from tests.models.weight_networks import changed
from tests.models.weight_networks import load
from tests.models.weight_networks import network
from tests.models.weight_networks import randomize
from tests.models.weight_networks import source
from tests.models.weight_networks import values
from tsi_keras.layers import TemporalConv1D
from tsi_keras.models.insertion import insert_temporal


def test_a_dict_by_paths():
    model = network("tim", seed=2)
    assert load(model, values(source("tim")), "keep").counts == {"loaded": 104}
    assert not changed(model, values(source("tim")))


def test_a_legacy_file_of_our_own_network(tmp_path):
    source("tsi").save(tmp_path / "trained.h5")
    model = network("tsi", seed=2)
    assert load(model, tmp_path / "trained.h5", "keep").counts == {"loaded": 150}
    assert not changed(model, values(source("tsi")))


@pytest.fixture(scope="module")
def image_network():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        weights=None, include_top=True, alpha=0.35, input_shape=(32, 32, 3), classes=3
    )
    return randomize(model, 1)


@pytest.fixture
def inserted():
    """A MobileNetV2 with other weights and temporal layers."""
    images = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(32, 32, 3)
    )
    return insert_temporal(images, TemporalConv1D, 2)


def check_inserted(report, model, images):
    """260 weights of MobileNetV2 without its top, 10 residual branches."""
    assert report.counts == {"loaded": 260, "re-initialised": 10, "unused": 2}
    assert {row.group for row in report.of("re-initialised")} == {"temporal: temporal"}
    for name in ("Conv1", "block_16_project_BN", "block_3_depthwise"):
        mine, theirs = model.get_layer(name), images.get_layer(name)
        for value, expected in zip(
            mine.get_weights(), theirs.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(value, expected)


def test_networks_of_keras_applications(image_network, inserted):
    report = load(inserted, image_network)
    check_inserted(report, inserted, image_network)


def test_legacy_files_of_keras_applications(image_network, inserted, tmp_path):
    image_network.save(tmp_path / "images.h5")
    report = load(inserted, tmp_path / "images.h5")
    check_inserted(report, inserted, image_network)


def nesting(seed):
    """An image network with a layer in a nested model, and one without a name."""
    images = keras.Input((16, 16, 3))
    stem = [keras.layers.Conv2D(8, 3, name="stem_conv_1"), keras.layers.ReLU()]
    x = keras.Sequential(stem, name="stem")(images)
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(x)
    return randomize(keras.Model(images, keras.layers.LayerNormalization()(x)), seed)


@pytest.mark.parametrize("ending", [None, "keras", "weights.h5", "h5"])
def test_nested_and_unnamed_layers_of_image_networks(ending, tmp_path):
    """`insert_temporal` unwraps nested models; Keras numbers unnamed layers anew."""
    given = images = nesting(1)
    if ending:
        given = tmp_path / f"images.{ending}"
        images.save_weights(given) if "weights" in ending else images.save(given)
    model = insert_temporal(nesting(2), TemporalConv1D, 2, where=["conv"])
    assert load(model, given).counts == {"loaded": 6, "re-initialised": 1}
    mine, theirs = (
        [np.asarray(v) for v in net.weights if v.path != "conv_temporal/kernel"]
        for net in (model, images)
    )
    for value, expected in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_small_model_as_a_temporal_layer(tmp_path):
    """Layers of the same name in several nested models are told apart."""

    def temporal(num_frames, name):
        layers = [TemporalConv1D(num_frames, name=f"mix_{i}") for i in range(5)]
        return keras.Sequential(layers, name=name)

    given, model = (network(temporal, seed=seed) for seed in (1, 2))
    given.save_weights(tmp_path / "nested.weights.h5")
    assert load(model, tmp_path / "nested.weights.h5", "keep").counts == {"loaded": 112}
    for mine, theirs in zip(model.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = network("tim", seed=2)
    finally:
        keras.config.set_dtype_policy(before)
    load(model, source("tim"), "keep")
    kernel = model.backbone.get_layer("layer1_0_conv1").kernel
    assert kernel.dtype == {"mixed_bfloat16": "float32"}.get(policy, policy)
    assert not changed(model, values(source("tim")))
