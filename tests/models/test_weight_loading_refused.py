"""What `load_weights_from` refuses, and what it says then."""

import keras
import numpy as np
import pytest

from tests.models.weight_networks import Options
from tests.models.weight_networks import changed
from tests.models.weight_networks import load
from tests.models.weight_networks import network
from tests.models.weight_networks import refusal
from tests.models.weight_networks import source
from tests.models.weight_networks import values
from tsi_keras.models import TemporalResNet
from tsi_keras.models.weight_loading import read_source


def test_only_the_input_may_be_wider():
    weights = values(source("none"))
    weights["layer1_0_conv2/kernel"] = np.ones((5, 5, 16, 16))
    text = refusal(network("tsi", fusion="concat"), weights)
    assert "(5, 5, 16, 16) in the source, (3, 3, 32, 16) in the model" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_weights(value):
    weights = values(source("none"))
    weights["layer1_0_bn2/gamma"] = np.array([1.0] * 15 + [value])
    text = refusal(network("tsi"), weights)
    assert "NaN values for 1 weights of the model, first layer1_0_bn2/gamma" in text


def test_temporal_weights_without_a_place():
    text = refusal(network("sme"), source("tsi"))
    assert text.splitlines()[0].endswith(
        ": 18 of its entries have no place in the model. No weight was changed."
    )
    assert "the same `temporal` in the model" in text
    assert "\n  unexpected  layer1_0_cti/integrate_1/vars/0: no such weight" in text
    assert text.endswith("... and 6 more")


def test_entries_may_be_left_out_of_a_dict():
    model = network("sme", seed=2)
    entries = read_source(source("tsi")).arrays
    sme = {key: value for key, value in entries.items() if "_cti/" not in key}
    assert load(model, sme, "keep").counts == {"loaded": 132}
    assert (
        set(changed(source("tsi"), {**values(source("tsi")), **values(model)})) == set()
    )


def test_a_part_of_a_temporal_layer_is_not_enough():
    fewer = source("tsi", temporal_options=Options(sme={"levels": 3}))
    text = refusal(network("tsi"), fewer)
    assert "4 weights of the model are missing" in text
    assert "layer1_0_sme/pyramid_3/kernel: the source has layer1_0_sme, but" in text
    wider = source("tsi", temporal_options=Options(sme={"reduction": 8}))
    text = refusal(network("tsi"), wider)
    assert "(1, 1, 16, 2) in the source, (1, 1, 16, 1) in the model" in text


@pytest.mark.parametrize(
    "options, cause",
    [
        ({"depth": 34}, "looks like ResNet-34, the model is ResNet-18: use weights of"),
        ({"depth": 26}, "looks like ResNet-26, the model is ResNet-18"),
        (
            {"base_width": 8},
            "is ResNet-18 with 8 channels in its stem, the model's has 16: build the "
            "model with base_width=8",
        ),
    ],
)
def test_other_networks_are_named(options, cause):
    assert cause in refusal(network(), source(**options)).splitlines()[1]


def test_a_foreign_network():
    layers = [keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="second")]
    text = refusal(network(), keras.Sequential([keras.Input((8,)), *layers]))
    assert "No name agrees: the source has first/vars/0, first/vars/1, second/" in text
    assert text.splitlines()[1].endswith("Use weights of the same network.")
    foreign = {"conv1_conv/kernel": np.zeros((7, 7, 3, 16))}
    assert "with insert_temporal" in refusal(network(), foreign)


def test_a_missing_weight_of_the_image_network():
    weights = values(source("tsi"))
    del weights["layer2_0_bn1/gamma"]
    text = refusal(network("tsi"), weights)
    assert "the given dict does not fit" in text
    assert "1 weights of the model are missing in it." in text
    assert text.endswith("\n  missing     layer2_0_bn1/gamma: not in the source")


def test_heads_that_cannot_be_kept():
    backbone = TemporalResNet(18, "none", 2, base_width=16)
    text = refusal(backbone, source(), "keep")
    assert text.startswith('`head="keep"` needs a model with a head')
    text = refusal(backbone, source(), "error")
    assert "classifier/vars/0: the model has no such head" in text
    text = refusal(network(), backbone, "keep")
    assert "missing     classifier/kernel: not in the source" in text
    text = refusal(network(), backbone, "drop")
    assert text == (
        "`head` must be one of ['replace', 'keep', 'error']. Received: head='drop'"
    )


def test_a_model_without_weights():
    with pytest.raises(ValueError, match="has no weights; build it"):
        load(keras.Sequential([keras.layers.Dense(1)]), {})
