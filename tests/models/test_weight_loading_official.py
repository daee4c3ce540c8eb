"""Weights of torchvision, TSM, TEA, TCM, TANet and mmaction2, by their own names."""

import keras
import numpy as np
import pytest

from tsi_keras.layers import BatchNormalization
from tsi_keras.layers.motion_excitation import MotionExcitation
from tsi_keras.layers.multiple_temporal_aggregation import MultipleTemporalAggregation
from tsi_keras.layers.temporal_adaptive import TemporalAdaptive
from tsi_keras.layers.temporal_correlation import TemporalCorrelation
from tsi_keras.models import TemporalResNet
from tsi_keras.models import video_resnet
from tsi_keras.models.weight_loading import load_weights_from
from tsi_keras.models.weight_loading.conversion import to_keras
from tsi_keras.models.weight_loading.conversion import widen_input
from tsi_keras.models.weight_loading.naming import describe
from tsi_keras.models.weight_loading.naming import split_key

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def network(temporal="none", depth=18, classes=5, width=8, **options):
    return video_resnet(
        depth, temporal, classes, num_frames=2, base_width=width, **options
    )


def official(depth=18, classes=5, width=8):
    """The PyTorch network of these options, in evaluation mode."""
    pytest.importorskip("torch")
    from tests.models.torch_resnet import resnet

    return resnet(depth, classes, width)


def weights(**options):
    """Its state dict as NumPy arrays."""
    state = official(**options).state_dict()
    return {key: value.numpy() for key, value in state.items()}


def load(model, source, head="keep"):
    return load_weights_from(model, source, head, verbose=False)


# === The same numbers as PyTorch's ===


def check_outputs(model, images_network, size=64):
    """Frames through both; the clip's logits are the mean of the frames'."""
    import torch

    clips = np.random.default_rng(0).integers(0, 256, (2, 2, size, size, 3))
    images = ((clips / 255.0 - MEAN) / STD).reshape(4, size, size, 3)
    images = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        features = images_network.features(images).numpy().transpose(0, 2, 3, 1)
        logits = images_network(images).numpy().reshape(2, 2, -1).mean(1)
    close(np.asarray(model.backbone(clips)).reshape(features.shape), features)
    close(np.asarray(model(clips)), logits)


def close(found, expected):
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("depth", [18, 26])
@pytest.mark.parametrize("new_format", [True, False])
def test_outputs_are_those_of_pytorch(depth, new_format, torch, tmp_path):
    images_network = official(depth)
    path = tmp_path / "resnet.pth"
    torch.save(
        images_network.state_dict(), path, _use_new_zipfile_serialization=new_format
    )
    model = network(depth=depth)
    batch_norms = {18: 20, 26: 29}[depth]
    assert load(model, path).counts == {
        "loaded": 5 * batch_norms + 2,
        "unused": batch_norms,  # num_batches_tracked
    }
    check_outputs(model, images_network)


def test_safetensors_and_state_dicts_give_the_same(torch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    images_network = official()
    safetensors.save_file(images_network.state_dict(), tmp_path / "x.safetensors")
    sources = [
        tmp_path / "x.safetensors",
        images_network.state_dict(),
        images_network,
        weights(),
    ]
    model = network()
    for source in sources:
        for variable in model.weights:
            variable.assign(np.zeros(variable.shape))
        load(model, source)
        check_outputs(model, images_network, size=32)


def test_bfloat16_is_widened(torch):
    state = {key: value.bfloat16() for key, value in official().state_dict().items()}
    model = network()
    load(model, state)
    expected = state["layer1.0.conv1.weight"].float().numpy().transpose(2, 3, 1, 0)
    kernel = model.backbone.get_layer("layer1_0_conv1").kernel
    np.testing.assert_array_equal(np.asarray(kernel), expected)


def test_a_head_of_other_classes():
    model = network(classes=7)
    before = model.get_layer("classifier").get_weights()
    report = load(model, weights(), "replace")
    unused = [row.source for row in report.of("unused") if row.group == "head"]
    assert unused == ["fc.weight", "fc.bias"]
    for value, old in zip(
        model.get_layer("classifier").get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(value, old)
    for head in ("keep", "error"):
        with pytest.raises(ValueError, match=r"kernel <- fc.weight: \(64, 5\) in the"):
            load(model, weights(), head)


def test_a_video_network_starts_as_the_image_network():
    """No option is needed for weights that know nothing of the temporal layers."""
    options = {"sme": {"reduction": 8}}
    model = network("tsi", temporal_options=options, stages=(2,))
    before = values(model)
    report = load(model, weights())
    assert report.counts == {"loaded": 102, "re-initialised": 48, "unused": 20}
    after = values(model)
    for row in report.of("re-initialised"):
        assert row.reason == "temporal module, not in the source"
        np.testing.assert_array_equal(after[row.weight], before[row.weight])


@pytest.mark.slow
def test_resnet50_is_torchvisions(torch, tmp_path):
    images_network = official(50, 1000, 64)
    torch.save(images_network.state_dict(), tmp_path / "resnet50.pth")
    model = network("none", 50, 1000, 64)
    report = load(model, tmp_path / "resnet50.pth")
    assert report.counts == {"loaded": 267, "unused": 53}
    check_outputs(model, images_network, 96)
    other = network("none", 101, 1000, 64)
    with pytest.raises(
        ValueError, match="looks like ResNet-50, the model is ResNet-101"
    ):
        load(other, tmp_path / "resnet50.pth")


# === Renamed by others ===


def renamed(rename):
    return {rename(key): value for key, value in weights().items()}


def tsm_blockres(key):
    key = key.replace("conv1.weight", "conv1.net.weight") if "layer" in key else key
    head = key.replace("fc.", "module.new_fc.")
    return (
        head if "new_fc" in key or key.startswith("fc.") else f"module.base_model.{key}"
    )


def tsm_block(key):
    stage, *rest = key.split(".")
    if stage.startswith("layer"):
        key = ".".join([stage, rest[0], "net", *rest[1:]])
    return key.replace("fc.", "new_fc.")


def mmaction2(key):
    """Joined convolutions and BNs, `backbone.` and `cls_head.fc_cls.`."""
    if key.startswith("fc."):
        return key.replace("fc.", "cls_head.fc_cls.")
    key = key.replace("downsample.0", "downsample.conv")
    key = key.replace("downsample.1", "downsample.bn")
    for number in "12":
        key = key.replace(f"conv{number}.", f"conv{number}.conv.net.")
        key = key.replace(f"bn{number}.", f"conv{number}.bn.")
    return f"backbone.{key}"


@pytest.mark.parametrize("rename", [tsm_blockres, tsm_block, mmaction2])
def test_renamed_image_networks(rename):
    source = renamed(rename)
    assert set(source) != set(weights())
    model, expected = network(), network()
    load(model, {"state_dict": source, "epoch": 3})
    load(expected, weights())
    for value, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_two_keys_for_one_weight():
    source = weights()
    source["module.conv1.weight"] = source["conv1.weight"]
    message = "module.conv1.weight: names the same weight as conv1.weight"
    with pytest.raises(ValueError, match=message):
        load(network(), source)


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


# === Official temporal modules ===


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


def values(model):
    return {variable.path: np.asarray(variable) for variable in model.weights}


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


def test_tcm_and_tsm_heads_are_convolutions():
    source = weights()
    source["new_fc.weight"] = source.pop("fc.weight")[:, :, None]
    source["new_fc.bias"] = source.pop("fc.bias")
    model = network()
    load(model, source)
    np.testing.assert_array_equal(
        np.asarray(model.get_layer("classifier").kernel),
        source["new_fc.weight"][:, :, 0].T,
    )


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
