"""What insert_temporal refuses, and what it says then."""

import keras
import pytest
from keras import layers

from tests.models.image_networks import register
from tests.models.image_networks import residual_cnn
from tsi_keras.layers import TemporalConv1D
from tsi_keras.models import Part
from tsi_keras.models.insertion import insert_temporal
from tsi_keras.models.insertion import insertion_points

# === Errors ===


@keras.saving.register_keras_serializable(package="tests")
class Halves(layers.Layer):
    def call(self, x):
        return x[:, :4], x[:, 4:]

    def compute_output_shape(self, shape):
        return [(shape[0], 4, *shape[2:])] * 2


def two_results():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, layers.Add()(Halves(name="halves")(images)))


class Subclassed(keras.Model):
    def call(self, x):
        return x


def two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    return keras.Model(inputs, layers.Add()(inputs))


def plain_cnn(**options):
    images = keras.Input((8, 8, 6))
    x = layers.Conv2D(6, 3, name="only_conv", padding="same")(images)
    return keras.Model(images, layers.Add()([x, images]) if options else x)


def with_lambda():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, layers.Lambda(lambda x: x + 1, name="plus")(images))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: insert_temporal(Subclassed(), "tim", 4), "Subclassed"),
        (lambda: insert_temporal("resnet50", "tim", 4), "str"),
        (lambda: insert_temporal(two_inputs(), "tim", 4), "2 inputs"),
        (lambda: insert_temporal(keras.Sequential(), "tim", 4), "Sequential"),
        (
            lambda: insert_temporal(
                insert_temporal(residual_cnn(), "tim", 4), "tim", 4
            ),
            "must take images",
        ),
        (lambda: insert_temporal(residual_cnn(), "teinett", 4), "mean 'teinet'"),
        (lambda: insert_temporal(residual_cnn(), "tim", 0), "num_frames=0"),
        (lambda: insert_temporal(plain_cnn(), "tim", 4), "where.*'only_conv'"),
        (
            lambda: insert_temporal(residual_cnn(), "tim", 4, ["a2_rel"]),
            "Did you mean 'a2_relu'.*Layers are, for example",
        ),
        (
            lambda: insert_temporal(residual_cnn(), "tim", 4, lambda layer: False),
            "chose no layer.*for example",
        ),
        (lambda: insert_temporal(two_results(), "tim", 4, ["halves"]), "2 results"),
        (lambda: insert_temporal(residual_cnn(), "tim", 4, []), "`where` is empty"),
        (
            lambda: insert_temporal(residual_cnn(), "tim", 4, preprocessing="caffe"),
            "preprocessing='caffe'",
        ),
        (
            lambda: insert_temporal(
                residual_cnn(),
                "tim",
                4,
                preprocessing=layers.Rescaling(0.5, name="rescaling"),
            ),
            "'rescaling'.*another name",
        ),
        (
            lambda: insert_temporal(
                residual_cnn(), "tim", 4, temporal_options={"sme": {}}
            ),
            "sme",
        ),
        (
            lambda: insert_temporal(plain_cnn(block=True), "sme", 4),
            r"'only_conv_sme' does not fit at 'only_conv'.*6 channels(.|\n)*"
            r'{"sme": {"reduction": 6}}',
        ),
        (
            lambda: insert_temporal(plain_cnn(block=True), "cti", 4),
            r'groups=4(.|\n)*{"cti": {"groups": 6}}',
        ),
        (lambda: insert_temporal(with_lambda(), "tim", 4, ["plus"]), "'plus' .Lambda"),
        (lambda: insertion_points(residual_cnn(), "block"), "'block'"),
    ],
)
def test_errors_name_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("place", ["block", "after_stage", "spatial", "beside_spatial"])
def test_places_only_our_blocks_have(monkeypatch, place):
    name = register(monkeypatch, part=Part(TemporalConv1D, place))
    with pytest.raises(ValueError, match=f'"{place}".*TemporalResNet'):
        insert_temporal(residual_cnn(), name, 4)
    if "spatial" in place:
        with pytest.raises(ValueError, match=f'"{place}"'):
            insert_temporal(residual_cnn(), name, 4, ["a_add"])
