"""The walk of `profile` through models, what it takes, and its result."""

import csv
import json
import math
import time

import keras
import pytest
from keras import layers
from keras import ops

from tsi_keras.layers import TemporalConv1D
from tsi_keras.models import TemporalResNet
from tsi_keras.models import video_resnet
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.profiling import profile
from tsi_keras.models.profiling import register_cost


@pytest.fixture(scope="module")
def small():
    return video_resnet(
        18, "tsi", num_classes=5, num_frames=4, base_width=16, name="small"
    )


@pytest.fixture(scope="module")
def resnet50():
    return video_resnet(50, "none", num_classes=174)


class Mixer(layers.Layer):
    """A layer with a weight and no rule."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1],) * 2)

    def call(self, x):
        return ops.matmul(x, self.kernel)

    def compute_output_shape(self, input_shape):
        return input_shape


class Stated(Mixer):
    def cost(self, input_shape):
        return {"macs": 7 * input_shape[1], "kept_elements": 100}


def of(*chain, shape=(6, 6, 4)):
    """A functional model of these layers in a row."""
    inputs = x = keras.Input(shape)
    for layer in chain:
        x = layer(x)
    return keras.Model(inputs, x)


# === Walk ===


def test_stages_of_the_classifier(resnet50):
    """Sums per stage as modules.md gives them per frame, in millions."""
    cost = profile(resnet50)
    assert list(cost.stages) == ["stem", "res2", "res3", "res4", "res5", "head"]
    macs = {stage: row.macs / 8e6 for stage, row in cost.stages.items()}
    assert macs == pytest.approx(
        {
            "stem": 118.0,
            "res2": 667.9,
            "res3": 1027.6,
            "res4": 1464.3,
            "res5": 809.2,
            "head": 0.36,
        },
        abs=0.06,
    )
    assert cost.input_shape == (1, 8, 224, 224, 3)


def test_parameters_are_the_models(resnet50, small):
    for model in (resnet50, small):
        total = profile(model, frame_size=64).total
        assert total.parameters == model.count_params()
        trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
        assert total.trainable == trainable


def test_a_shared_layer_costs_twice_and_weighs_once():
    layer = layers.Conv2D(4, 1)
    total = profile(of(layer, layer)).total
    assert (total.macs, total.parameters) == (2 * 36 * 16, 20)


def test_frozen_weights_are_not_trainable():
    model = of(layers.Conv2D(4, 1), layers.BatchNormalization())
    model.layers[1].trainable = False
    total = profile(model).total
    assert (total.trainable, total.non_trainable) == (8, 20 + 8)


def test_the_model_is_left_as_it_was(small):
    layer = small.backbone.get_layer("layer1_0_conv1")
    before, output = len(layer._inbound_nodes), layer.output
    profile(small, frame_size=32)
    assert len(layer._inbound_nodes) == before
    assert layer.output is output


def test_nothing_is_computed(resnet50):
    start = time.perf_counter()
    total = profile(resnet50, frame_size=8192).total
    assert time.perf_counter() - start < 3
    assert total.activation_bytes > 500e9


def test_nested_models_and_their_prefix():
    inner = of(layers.Conv2D(3, 3, name="conv"), layers.ReLU(name="relu"))
    sequential = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2D(2, 1, name="last")]
    )
    outer = of(inner, sequential)
    names = [row.name for row in profile(outer).rows]
    assert names == [
        f"{inner.name}/conv",
        f"{inner.name}/relu",
        f"{sequential.name}/last",
    ]
    assert profile(outer).total.macs == 16 * 27 * 4 + 16 * 6
    assert profile(sequential).total.macs == 16 * 6


def test_two_inputs():
    a, b = keras.Input((8, 8, 2)), keras.Input((8, 8, 2))
    model = keras.Model([a, b], layers.Conv2D(1, 1)(layers.Concatenate()([a, b])))
    assert profile(model).total.macs == 64 * 4
    assert profile(keras.Model([a, b], a + b)).not_counted == ()


def test_maps_give_the_stages_of_unknown_networks():
    model = of(
        layers.Conv2D(4, 3, strides=2, padding="same"),
        layers.ZeroPadding2D(3),
        layers.Conv2D(4, 3, strides=2),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(3),
        shape=(32, 32, 3),
    )
    cost = profile(model)
    assert [row.stage for row in cost.rows] == ["16x16"] * 2 + ["10x10"] + ["head"] * 3


@pytest.mark.slow
def test_an_image_network_with_temporal_modules():
    """Eight times the image network, and the modules."""
    images = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(96, 96, 3)
    )
    video = profile(insert_temporal(images, "tsi", num_frames=8))
    assert video.not_counted == ()
    image = profile(images).total
    assert video.total.macs == 8 * image.macs + video.temporal.macs
    assert video.total.trainable == image.trainable + video.temporal.trainable


# === Input shapes ===


def test_frame_sizes(small):
    assert profile(small).input_shape == (1, 4, 224, 224, 3)
    assert profile(small, frame_size=64).input_shape == (1, 4, 64, 64, 3)
    assert profile(small, frame_size=(64, 96)).input_shape == (1, 4, 64, 96, 3)
    whole = profile(small, (4, 64, 96, 3))
    assert whole.input_shape == (1, 4, 64, 96, 3)
    assert profile(small, (2, 4, 64, 96, 3)).total.macs == 2 * whole.total.macs


def test_a_fixed_frame_size_is_the_default():
    backbone = TemporalResNet(18, "none", 2, base_width=4, input_shape=(32, 48, 3))
    assert profile(backbone).input_shape == (1, 2, 32, 48, 3)
    assert profile(backbone, frame_size=(32, 48)).input_shape == (1, 2, 32, 48, 3)
    with pytest.raises(ValueError, match=r"frames of \(32, 48\) only.*frame_size=64"):
        profile(backbone, frame_size=64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (((4, 64, 64, 4),), "every axis of an input"),
        (((64, 64, 3),), "every axis of an input"),
        (((4, None, 64, 3),), "every axis of an input"),
        (([(4, 64, 64, 3)] * 2,), "has 1 inputs"),
    ],
)
def test_unfit_input_shapes(small, arguments, message):
    with pytest.raises(ValueError, match=message):
        profile(small, *arguments)


def test_an_open_number_of_frames_must_be_given():
    clips = keras.Input((None, None, None, 3))
    model = keras.Model(clips, ops.mean(clips, axis=(1, 2, 3)))
    with pytest.raises(ValueError, match=r"Received: \(1, None, 224, 224, 3\)"):
        profile(model)
    assert profile(model, (4, 8, 8, 3)).input_shape == (1, 4, 8, 8, 3)


def test_unfit_frame_sizes(small):
    with pytest.raises(ValueError, match="either `input_shape` or `frame_size`"):
        profile(small, (4, 64, 64, 3), frame_size=64)
    with pytest.raises(ValueError, match="positive int or .height, width."):
        profile(small, frame_size=0)
    with pytest.raises(ValueError, match="needed to profile a layer"):
        profile(TemporalConv1D(4))


# === Layers of others ===


def test_a_layer_without_a_rule_is_never_silently_free():
    cost = profile(of(layers.Conv2D(4, 1), Mixer(name="mixer")))
    assert cost.not_counted == ("mixer (Mixer)",)
    assert "NOT COUNTED: Mixer (1 call) has no cost rule" in str(cost)
    assert cost.to_dict()["not_counted"] == ["mixer (Mixer)"]
    assert cost.total.parameters == 20 + 16


def test_a_subclass_with_its_own_call_does_not_inherit_the_rule():
    class Twice(layers.Conv2D):
        def call(self, x):
            return super().call(super().call(x))

    class Renamed(layers.Conv2D):
        pass

    assert profile(of(Twice(4, 1, name="twice"))).not_counted == ("twice (Twice)",)
    assert profile(of(Renamed(4, 1))).total.macs == 36 * 16


def test_a_model_with_its_own_call_is_not_walked_through():
    class Doubled(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((6, 6, 4))
    model = Doubled(inputs, layers.Conv2D(4, 1)(inputs), name="doubled")
    assert profile(of(model)).not_counted == ("doubled (Doubled)",)


def test_a_layer_states_its_own_cost():
    row = profile(of(Stated())).rows[-1]
    assert (row.figures.macs, row.figures.thop) == (42, 42)
    assert row.figures.activation_bytes == 400  # its input is the model's
    assert row.not_counted == ()


@pytest.mark.parametrize("stated", [{"flops": 1, "macs": 1}, {"thop": 1}, 3])
def test_a_wrong_statement_is_named(stated):
    class Wrong(Mixer):
        def cost(self, input_shape):
            return stated

    with pytest.raises(ValueError, match="`Wrong.cost` must return a dict with `macs`"):
        profile(of(Wrong()))


def test_a_registered_rule():
    class Foreign(Mixer):
        pass

    @register_cost(Foreign)
    def foreign(ledger, layer, inputs, output):
        ledger.spend(macs=3, thop=5)
        ledger.keep(output)

    total = profile(of(Foreign())).total
    assert (total.macs, total.thop, total.activation_bytes) == (3, 5, 4 * 144)


# === Result ===


def test_sums(small):
    cost = profile(small, frame_size=64)
    parts = cost.stages.values()
    for figure in ("trainable", "non_trainable", "macs", "thop", "activation_bytes"):
        whole = getattr(cost.total, figure)
        assert whole == sum(getattr(part, figure) for part in parts) > 0
    temporal = [row for row in cost.rows if row.temporal]
    assert len(temporal) == 16  # two in each of eight blocks
    assert cost.temporal.macs == sum(row.figures.macs for row in temporal)


def test_table(small):
    lines = str(profile(small, frame_size=64)).splitlines()
    assert lines[0] == "small, input (1, 4, 64, 64, 3)"
    assert lines[1].split() == [
        *("parameters", "trainable", "GMACs", "thop", "G", "activations", "MB")
    ]
    first = [line.split()[0] for line in lines[2:]]
    assert first == ["stem", "res2", "res3", "res4", "res5", "head", "total", "of"]
    assert len({len(line) for line in lines[1:]}) == 1
    by_class = profile(small, frame_size=64).table("class")
    assert "SalientMotionExcitation" in by_class
    with pytest.raises(ValueError, match="`per` must be one of .*per='block'"):
        profile(small, frame_size=64).table("block")


def test_dict_and_csv(small, tmp_path):
    cost = profile(small, frame_size=64)
    plain = json.loads(json.dumps(cost.to_dict()))
    assert plain["total"]["macs"] == cost.total.macs
    assert plain["total"]["parameters"] == small.count_params()
    assert len(plain["layers"]) == len(cost.rows)
    cost.to_csv(tmp_path / "cost.csv", per="layer")
    with open(tmp_path / "cost.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows[:-1]] == [row.name for row in cost.rows]
    assert int(rows[-1]["macs"]) == cost.total.macs
    assert sum(int(row["activation_bytes"]) for row in rows[:-1]) == int(
        rows[-1]["activation_bytes"]
    )
