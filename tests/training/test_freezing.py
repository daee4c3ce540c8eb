"""Partial and frozen BatchNormalization: what trains, what stays, what is saved."""

import keras
import numpy as np
import pytest

from tsi_keras.models import TemporalResNet
from tsi_keras.models import VideoClassifier
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.training.freezing import freeze_batch_norm
from tsi_keras.training.optimizer import GroupedSGD


def residual_network(**options):
    options = {"temporal": "tsi", "stages": (3,), "blocks": "first", **options}
    return TemporalResNet(
        depth=18,
        num_frames=2,
        base_width=16,
        input_shape=(16, 16, 3),
        stem="small",
        **options,
    )


def inserted_network():
    """Two convolutions with BN; TSI's modules behind the second."""
    inputs = x = keras.Input((16, 16, 3))
    for index in (1, 2):
        x = keras.layers.Conv2D(16, 3, 2, padding="same", name=f"conv_{index}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
    return insert_temporal(keras.Model(inputs, x), "tsi", 2, where=["relu_2"])


def classifier(backbone):
    model = VideoClassifier(backbone, 3, dropout=0.0, head_stddev=0.5)
    model.build((None, 2, 16, 16, 3))
    return model


def batch_norms(model):
    """Name to layer, of all BatchNormalization, those in temporal modules included."""
    return {
        layer.path if hasattr(layer, "path") else layer.name: layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def train(model):
    """Two steps; returns the variables that moved, by path."""
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (8, 2, 16, 16, 3)).astype("uint8")
    before = {v.path: v.numpy() for v in model.variables}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(GroupedSGD(0.1), loss)
    model.fit(clips, np.arange(8) % 3, batch_size=4, verbose=0)
    return {v.path for v in model.variables if (v.numpy() != before[v.path]).any()}


@pytest.mark.parametrize("make", [residual_network, inserted_network])
@pytest.mark.parametrize("mode", ["partial", "frozen"])
def test_frozen_layers_do_not_move(make, mode):
    model = classifier(make())
    frozen = freeze_batch_norm(model, mode)
    first = "bn1" if make is residual_network else "norm_1"
    assert (first in frozen) == (mode == "frozen")
    moved = train(model)
    parts = {path.split("/")[-2] for path in moved}
    assert not parts & set(frozen)
    assert (first in parts) == (mode == "partial")
    # The modules' own normalisation trains: gamma, beta and the moving statistics.
    modules = [path for path in moved if path.endswith(("gamma", "moving_mean"))]
    assert any(first not in path for path in modules), moved
    assert any(path.endswith("classifier/kernel") for path in moved)


def test_partial_keeps_the_first_in_the_order_of_the_data():
    model = classifier(residual_network(temporal="none"))
    frozen = freeze_batch_norm(model, "partial")
    assert frozen[:3] == ["layer1_0_bn1", "layer1_0_bn2", "layer1_1_bn1"]
    # 1 in the stem, 16 in the blocks, 3 on the projecting shortcuts; without the first.
    assert len(frozen) == 19
    assert model.backbone.get_layer("bn1").trainable
    assert len([v for v in model.trainable_variables if "gamma" in v.path]) == 1


def test_a_frozen_layer_uses_its_moving_statistics():
    model = classifier(residual_network(temporal="none"))
    freeze_batch_norm(model, "frozen")
    clips = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), "uint8")
    np.testing.assert_array_equal(model(clips, training=True), model(clips))
    freeze_batch_norm(model, "partial")
    assert np.abs(model(clips, training=True) - model(clips)).max() > 1e-3


def test_train_undoes_it():
    model = classifier(residual_network())
    count = len(model.trainable_variables)
    freeze_batch_norm(model, "frozen")
    assert len(model.trainable_variables) < count
    assert freeze_batch_norm(model, "train") == []
    assert len(model.trainable_variables) == count


@pytest.mark.parametrize("make", [residual_network, inserted_network])
def test_saved_and_copied_models_know(make, tmp_path):
    model = classifier(make())
    frozen = freeze_batch_norm(model, "partial")
    model.save(tmp_path / "model.keras")
    copies = [
        keras.saving.load_model(tmp_path / "model.keras"),
        VideoClassifier.from_config(model.get_config()),
    ]
    paths = [v.path for v in model.trainable_variables]
    for copy in copies:
        assert [v.path for v in copy.trainable_variables] == paths
        copy.set_weights(model.get_weights())
        layers = copy.backbone.layers
        assert [x.name for x in layers if not x.trainable] == frozen
    clips = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), "uint8")
    for training in (False, True):
        expected = model(clips, training=training)
        # Moving statistics of the layers that train went on by one step.
        loaded = copies[0](clips, training=training)
        np.testing.assert_allclose(loaded, expected, rtol=0, atol=1e-6)


def test_a_backbone_alone_and_nested_models():
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.BatchNormalization(name="inner")]
    )
    outer = keras.Sequential(
        [keras.layers.BatchNormalization(name="first"), inner], name="outer"
    )
    outer.build((None, 4, 4, 3))
    assert freeze_batch_norm(outer, "partial") == ["inner"]
    assert not inner.get_layer("inner").trainable
    assert inner.trainable and outer.get_layer("first").trainable


def test_refuses_what_it_cannot_do():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="'partial', 'frozen'.*mode='half'"):
        freeze_batch_norm(model, "half")
    with pytest.raises(ValueError, match="plain has none"):
        freeze_batch_norm(model, "partial")
    assert freeze_batch_norm(model, "train") == []
