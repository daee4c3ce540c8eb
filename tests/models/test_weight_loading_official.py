"""Image networks of PyTorch: the same numbers, whatever their names."""

import numpy as np
import pytest

from tests.models.weight_networks import values
from tsi_keras.models import video_resnet
from tsi_keras.models.weight_loading import load_weights_from

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
