"""Names and layouts of PyTorch's weights, one by one."""

import keras
import numpy as np
import pytest

from tsi_keras.models.weight_loading.conversion import to_keras
from tsi_keras.models.weight_loading.conversion import widen_input
from tsi_keras.models.weight_loading.naming import describe
from tsi_keras.models.weight_loading.naming import split_key


@pytest.mark.parametrize(
    "key, module, parameter",
    [
        ("conv1.weight", "conv1", "weight"),
        ("layer3.22.bn2.running_var", "layer3_22_bn2", "running_var"),
        ("layer2.0.downsample.1.bias", "layer2_0_downsample_1", "bias"),
        ("module.base_model.layer1.0.conv1.net.weight", "layer1_0_conv1", "weight"),
        ("module.new_fc.bias", "classifier", "bias"),
        ("module.base_model.fc.weight", "classifier", "weight"),
        ("_orig_mod.model.last_linear.weight", "classifier", "weight"),
        ("layer4.2.convs.1.weight", "layer4_2_mta_convs_1", "weight"),
        ("layer4.2.bns.1.running_mean", "layer4_2_mta_bns_1", "running_mean"),
        ("layer4.2.shifts.3.conv.weight", "layer4_2_mta_temporal_3", "weight"),
        ("layer1.0.me.conv2.weight", "layer1_0_me_transform", "weight"),
        ("layer1.0.me.bn3.weight", "layer1_0_me_expand_bn", "weight"),
        ("tcm_layer.mtdm.chnl_reduction.1.bias", "layer2_tcm_reduction_bn", "bias"),
        ("tcm_layer.tam.conv1.10.weight", "layer2_tcm_conv1_10", "weight"),
        ("tcm_layer.tam.ETA.conv.weight", "layer2_tcm_eta", "weight"),
        ("layer1.0.tam.L.3.weight", "layer1_0_tam_local_expand", "weight"),
        ("backbone.layer1.0.block.conv3.bn.weight", "layer1_0_bn3", "weight"),
        ("layer1.0.sme.pyramid_2.weight", "layer1_0_sme_pyramid_2", "weight"),
    ],
)
def test_names(key, module, parameter):
    assert split_key(key) == (module, parameter)


def test_names_of_whole_networks():
    bottleneck = {"layer1_0_conv3"}
    blocks = {
        f"layer{stage}_{index}_conv1"
        for stage, count in zip((1, 2, 3, 4), (3, 4, 6, 3), strict=True)
        for index in range(count)
    }
    assert describe(blocks) == "ResNet-34"
    assert describe(blocks | bottleneck) == "ResNet-50"
    assert describe(blocks | {"layer1_0_mta_convs_0"}) == "Res2Net-50"
    assert describe(blocks | bottleneck | {"layer2_7_conv1", "layer3_35_conv1"}) == (
        "ResNet-152"
    )
    assert describe(blocks | {"layer4_3_conv1"}) == "a ResNet of 3-4-6-4 basic blocks"
    assert describe({"conv1", "fc"}) is None


# === Layouts ===


class Kind:
    convolution = keras.layers.Conv2D(1, 1)
    depthwise = keras.layers.DepthwiseConv2D(3)


@pytest.mark.parametrize(
    "layer, torch_shape, torch_index, keras_shape, keras_index",
    [
        (Kind.convolution, (5, 4, 3, 2), (4, 3, 2, 1), (3, 2, 4, 5), (2, 1, 3, 4)),
        (Kind.convolution, (6, 2, 3, 3), (4, 1, 0, 2), (3, 3, 2, 6), (0, 2, 1, 4)),
        (Kind.convolution, (1, 1, 3, 3), (0, 0, 1, 2), (3, 3, 1, 1), (1, 2, 0, 0)),
        (Kind.depthwise, (4, 1, 3, 3), (2, 0, 0, 1), (3, 3, 4, 1), (0, 1, 2, 0)),
        (Kind.depthwise, (6, 1, 3, 3), (3, 0, 0, 1), (3, 3, 3, 2), (0, 1, 1, 1)),
        (None, (4, 3), (3, 1), (3, 4), (1, 3)),
        (None, (4, 1, 3), (3, 0, 2), (3, 4), (2, 3)),
        (None, (1, 1, 5), (0, 0, 4), (5, 1), (4, 0)),
        (None, (5, 4, 3), (4, 3, 2), (3, 4, 5), (2, 3, 4)),
        (None, (5, 4, 1), (4, 3, 0), (4, 5), (3, 4)),
        (None, (5, 4, 1, 1), (4, 3, 0, 0), (4, 5), (3, 4)),
        (None, (5, 4), (4, 3), (1, 1, 4, 5), (0, 0, 3, 4)),
        (None, (2, 4, 3, 3, 3), (1, 3, 0, 1, 2), (3, 3, 3, 4, 2), (0, 1, 2, 3, 1)),
        (None, (7,), (3,), (7,), (3,)),
    ],
)
def test_layouts(layer, torch_shape, torch_index, keras_shape, keras_index):
    array = np.arange(np.prod(torch_shape)).reshape(torch_shape)
    found = to_keras(array, keras_shape, layer)
    assert found.shape == keras_shape
    assert found[keras_index] == array[torch_index]
    assert sorted(found.ravel()) == list(range(array.size))


def test_widening_shares_the_kernel():
    found = widen_input(np.array([[[[2.0], [4.0]]]]), 6)
    np.testing.assert_allclose(found[0, 0, :, 0], [2 / 3, 4 / 3] * 3)
