"""Official checkpoints of TEA, TCM and TANet, and ours under PyTorch's names."""

import keras
import numpy as np
import pytest

from tests.models.weight_networks import load
from tests.models.weight_networks import values
from tsi_keras.layers import BatchNormalization
from tsi_keras.layers.motion_excitation import MotionExcitation
from tsi_keras.layers.multiple_temporal_aggregation import MultipleTemporalAggregation
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive
from tsi_keras.layers.temporal_correlation import TemporalCorrelation
from tsi_keras.models import TemporalResNet


def normalization(channels):
    return {
        "weight": (channels,),
        "bias": (channels,),
        "running_mean": (channels,),
        "running_var": (channels,),
        "num_batches_tracked": (),
    }


def random_state(modules):
    """`{module: shape of its weight, or channels of a BN}` to a state dict."""
    rng = np.random.default_rng(0)
    state = {}
    for module, shape in modules.items():
        shapes = normalization(shape) if isinstance(shape, int) else {"weight": shape}
        for name, size in shapes.items():
            state[f"module.base_model.{module}.{name}"] = rng.normal(size=size)
    return state


def block(inputs, layers):
    """A model of one layer after the other, named as in a ResNet."""
    x = images = keras.Input((8, 8, inputs))
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


def test_tea():
    """Bottle2neckShift of 32 channels in 4 fragments, ME with 32 // 16 channels."""
    model = block(
        3,
        [
            keras.layers.Conv2D(32, 1, use_bias=False, name="layer1_0_conv1"),
            BatchNormalization(name="layer1_0_bn1"),
            MotionExcitation(2, name="layer1_0_me"),
            MultipleTemporalAggregation(2, block_type="stage", name="layer1_0_mta"),
        ],
    )
    modules = {"conv1": (32, 3, 1, 1), "bn1": 32}
    excitation = {
        "me.conv1": (2, 32, 1, 1),
        "me.bn1": 2,
        "me.conv2": (2, 1, 3, 3),
        "me.conv3": (32, 2, 1, 1),
        "me.bn3": 32,
    }
    fragments = {f"convs.{i}": (8, 8, 3, 3) for i in range(3)}
    fragments |= {f"bns.{i}": 8 for i in range(3)}
    shifts = {f"shifts.{i}.conv": (8, 1, 3) for i in range(4)}
    res2net = {f"layer1.0.{key}": shape for key, shape in (modules | fragments).items()}
    added = {f"layer1.0.{key}": shape for key, shape in (excitation | shifts).items()}
    tea = random_state(res2net | added)

    assert load(model, tea, "error").counts == {"loaded": 35, "unused": 6}
    found, prefix = values(model), "module.base_model.layer1.0."
    np.testing.assert_allclose(
        found["layer1_0_mta/temporal_3/kernel"],
        tea[prefix + "shifts.3.conv.weight"][:, 0].T,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        found["layer1_0_me/transform/kernel"][:, :, 1, 0],
        tea[prefix + "me.conv2.weight"][1, 0],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        found["layer1_0_mta/bns_2/moving_variance"],
        tea[prefix + "bns.2.running_var"],
        rtol=1e-6,
    )

    # Res2Net's ImageNet weights have the fragments, but nothing temporal.
    report = load(model, random_state(res2net), "error")
    assert report.counts == {"loaded": 20, "re-initialised": 15, "unused": 4}
    assert {row.group for row in report.of("loaded")} == {"image backbone"}
    incomplete = random_state(res2net)
    del incomplete["module.base_model.layer1.0.convs.1.weight"]
    with pytest.raises(
        ValueError, match="layer1_0_mta/convs_1/kernel: not in the sour"
    ):
        load(model, incomplete, "error")


def tcm_modules():
    modules = {"mtdm.chnl_reduction.0": (64, 32, 1, 1), "mtdm.chnl_reduction.1": 64}
    for index in (0, 3, 6):
        modules[f"tam.conv1.{index}"] = (6, 2, 3, 3)
        modules[f"tam.conv1.{index + 1}"] = 6
    modules |= {"tam.conv1.9": (16, 6, 1, 1), "tam.conv1.10": 16}
    for stage, inputs, outputs in ((2, 16, 32), (3, 32, 64), (4, 64, 32)):
        modules |= {
            f"tam.conv{stage}.0": (inputs, 1, 3, 3),
            f"tam.conv{stage}.1": inputs,
            f"tam.conv{stage}.3": (outputs, inputs, 1, 1),
            f"tam.conv{stage}.4": outputs,
        }
    modules["tam.ETA.conv"] = (1, 1, 3)
    return {f"tcm_layer.{key}": shape for key, shape in modules.items()}


def test_tcm():
    def tcm(num_frames):
        layers = [
            keras.layers.Conv2D(32, 1, use_bias=False, name="layer1_0_conv1"),
            TemporalCorrelation(num_frames, name="layer2_tcm"),
        ]
        return block(3, layers)

    source = random_state({"layer1.0.conv1": (32, 3, 1, 1), **tcm_modules()})
    source["module.new_fc.weight"] = np.zeros((5, 2048, 1))
    model = tcm(8)
    # The convolution before, TCM's 12 kernels and 11 BNs.
    report = load(model, source, "replace")
    assert not report.of("re-initialised")
    assert report.counts["loaded"] == len(model.weights) == 1 + 12 + 11 * 4
    np.testing.assert_allclose(
        values(model)["layer2_tcm/conv1_3/kernel"][2, 1, 0, 5],
        source["module.base_model.tcm_layer.tam.conv1.3.weight"][5, 0, 2, 1],
        rtol=1e-6,
    )
    kept = load(tcm(16), source, "replace").of("re-initialised")
    assert [row.weight for row in kept] == ["layer2_tcm/eta/kernel"]
    assert "depends on num_frames" in kept[0].reason


def test_tanet():
    model = block(
        16,
        [
            keras.layers.Conv2D(16, 1, use_bias=False, name="layer1_0_conv1"),
            TemporalAdaptive(4, name="layer1_0_tam"),
        ],
    )
    source = random_state(
        {
            "layer1.0.net.conv1": (16, 16, 1, 1),
            "layer1.0.tam.G.0": (8, 4),
            "layer1.0.tam.G.1": 8,
            "layer1.0.tam.G.3": (3, 8),
            "layer1.0.tam.L.0": (4, 16, 3),
            "layer1.0.tam.L.1": 4,
            "layer1.0.tam.L.3": (16, 4, 1),
        }
    )
    assert load(model, source, "error").counts == {"loaded": 13, "unused": 2}
    np.testing.assert_allclose(
        values(model)["layer1_0_tam/local_reduce/kernel"][2, 7, 3],
        source["module.base_model.layer1.0.tam.L.0.weight"][3, 7, 2],
        rtol=1e-6,
    )


def test_our_own_modules_under_pytorch_names():
    """TSI-style: `layer1.0.sme.reduce.weight`, after TSM's prefixes."""
    model = TemporalResNet(18, "tsi", 2, base_width=16, stages=(2,))
    names = {
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    source = {}
    for path, value in values(model).items():
        head, _, name = path.replace("/", ".").rpartition(".")
        for stage in range(1, 5):
            for index in range(2):
                prefix = f"layer{stage}_{index}_"
                head = head.replace(prefix, f"layer{stage}.{index}.")
        head = head.replace("downsample_", "downsample.")
        depthwise = ".pyramid_" in head
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        if value.ndim == 4:
            value = value.transpose(order)
        elif ".temporal_" in head:
            value = value.T[:, None]
        elif value.ndim == 2:
            value = value.T
        source[f"module.base_model.{head}.{names.get(name, name)}"] = value + 1
    assert load(model, source, "error").counts == {"loaded": 148}
    found = values(model)["layer1_1_cti/temporal_2/kernel"]
    key = "module.base_model.layer1.1.cti.temporal_2.weight"
    np.testing.assert_array_equal(found, source[key][:, 0].T)
