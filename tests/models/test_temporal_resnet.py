"""Backbone and classifier: counts, shapes, placement, saving, errors."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from tsi_keras.layers import TemporalConv1D
from tsi_keras.models import CTIResNet50
from tsi_keras.models import Part
from tsi_keras.models import TemporalResNet
from tsi_keras.models import TIMResNet50
from tsi_keras.models import TSIResNet50
from tsi_keras.models import TSNResNet50
from tsi_keras.models import VideoClassifier
from tsi_keras.models import list_temporal
from tsi_keras.models import register_temporal
from tsi_keras.models import video_resnet


def clips(count=2, frames=4, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, frames, size, size, 3), dtype="uint8")


def trainable(model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def small(temporal="tsi", num_classes=5, **options):
    options = {"depth": 18, "base_width": 16, "num_frames": 4, **options}
    return video_resnet(temporal=temporal, num_classes=num_classes, **options)


@pytest.mark.parametrize(
    "preset, parameters",
    [
        (TSNResNet50, 23_864_558),
        (TIMResNet50, 23_875_886),
        (CTIResNet50, 24_111_662),
        (TSIResNet50, 24_287_490),
    ],
)
def test_parameters_of_the_presets(preset, parameters):
    model = preset(num_classes=174)
    assert trainable(model) == parameters
    assert model.input_shape == (None, 8, None, None, 3)
    assert model.output_shape == (None, 174)


@pytest.mark.parametrize(
    "depth, parameters", [(18, 11_689_512), (34, 21_797_672), (101, 44_549_160)]
)
def test_parameters_are_torchvisions(depth, parameters):
    """The totals torchvision publishes for its 1000-class image networks."""
    assert trainable(video_resnet(depth, "none", num_classes=1000)) == parameters


@pytest.mark.parametrize("depth, channels", [(18, 128), (26, 512)])
@pytest.mark.parametrize("stem, stride", [("imagenet", 32), ("small", 16)])
def test_feature_shapes(depth, channels, stem, stride):
    backbone = TemporalResNet(
        depth, "none", num_frames=3, base_width=16, stem=stem, stages=(2, 3)
    )
    features = backbone(np.zeros((2, 3, 64, 96, 3), "uint8"))
    assert features.shape == (2, 3, 64 // stride, 96 // stride, channels)


def test_registry_lists_the_names_of_the_contract():
    names = set(list_temporal())
    assert {"none", "tim", "tsm", "me", "mta", "tim+sme", "cti", "sme", "tsi"} <= names
    assert {"tea", "teinet", "stm", "tcm", "gtd", "ata"} <= names
    assert all(list_temporal().values())


@pytest.mark.parametrize(
    "temporal, expected",
    [
        ("tsm", ["relu3", "1_shift", "1_conv1"]),
        ("teinet", ["relu3", "1_mem", "1_tim", "1_conv1"]),
        ("tanet", ["1_relu1", "1_tam", "1_conv2"]),
        ("tea", ["1_relu1", "1_me", "1_mta", "1_conv3"]),
        ("tim+me", ["1_relu2", "1_me", "1_tim", "1_conv3"]),
        ("gtd", ["relu3", "1_shift", "1_gtd", "1_conv1"]),
    ],
)
def test_places_in_a_block(temporal, expected):
    backbone = TemporalResNet(50, temporal, base_width=16)
    names = [layer.name for layer in backbone.layers]
    first = names.index(f"layer1_{expected[1]}")
    found = names[first - 1 : first - 1 + len(expected)]
    assert [name.split("layer1_")[1] for name in found[1:]] == expected[1:]
    assert found[0].endswith(expected[0])


def inputs_of(model, name):
    """Names of the layers whose outputs a layer takes."""
    (node,) = model.get_layer(name)._inbound_nodes
    return [x._keras_history.operation.name for x in node.input_tensors]


def test_narrow_shortcuts_are_strided_convolutions():
    model = TemporalResNet(18, "none", num_frames=2, base_width=8, stem="small")
    before, after = (
        model.get_layer(name)
        for name in ("layer2_0_downsample_0_subsample", "layer2_0_downsample_0")
    )
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 8)).astype("float32")
    strided = keras.ops.conv(x, after.kernel, strides=2, padding="valid")
    np.testing.assert_allclose(after(before(x)), strided, atol=1e-6)
    wide = TemporalResNet(18, "none", num_frames=2, base_width=16, stem="small")
    assert wide.get_layer("layer2_0_downsample_0").strides == (2, 2)


def test_the_shortcut_is_unshifted_except_in_the_in_place_variant():
    residual = TemporalResNet(50, "tsm", base_width=16)
    assert inputs_of(residual, "layer1_1_add") == ["layer1_1_bn3", "layer1_0_relu3"]
    block = TemporalResNet(50, "tsm_block", base_width=16)
    assert inputs_of(block, "layer1_1_add") == ["layer1_1_bn3", "layer1_1_shift"]
    assert inputs_of(block, "layer1_0_downsample_0") == ["layer1_0_shift"]


def test_stm_sums_its_branches_before_the_activation():
    backbone = TemporalResNet(50, "stm", base_width=16)
    assert inputs_of(backbone, "layer1_0_cmm") == ["layer1_0_relu1"]
    assert inputs_of(backbone, "layer1_0_cstm") == ["layer1_0_relu1"]
    assert inputs_of(backbone, "layer1_0_conv2") == ["layer1_0_cstm"]
    assert inputs_of(backbone, "layer1_0_beside") == ["layer1_0_bn2", "layer1_0_cmm"]
    assert inputs_of(backbone, "layer1_0_relu2") == ["layer1_0_beside"]


def test_tcm_follows_res3_once():
    backbone = TemporalResNet(50, "tcm", base_width=16)
    names = [layer.name for layer in backbone.layers]
    assert [name for name in names if name.endswith("_tcm")] == ["layer2_tcm"]
    assert inputs_of(backbone, "layer3_0_downsample_0") == ["layer2_tcm"]


def test_a_part_without_a_stage_left_is_refused():
    with pytest.raises(ValueError, match=r"`tcm` follows res3.*stages=\(4, 5\)"):
        TemporalResNet(50, "tcm", stages=(4, 5))


def test_mta_needs_bottlenecks():
    with pytest.raises(ValueError, match="`depth` 14, 26, 50 or 101"):
        TemporalResNet(18, "tea")


def test_alternate_blocks_are_tsms_on_resnet101():
    backbone = TemporalResNet(101, "tsm", base_width=16, blocks="alternate")
    names = [layer.name for layer in backbone.layers if layer.name.endswith("shift")]
    assert len(names) == 2 + 2 + 12 + 2
    assert "layer3_22_shift" in names and "layer3_1_shift" not in names


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="after_spatial.*between"):
        Part(TemporalConv1D, "between")


def test_modules_sit_after_the_spatial_convolution_of_every_block():
    names = [layer.name for layer in TemporalResNet(50, "tsi").layers]
    assert sum(name.endswith("_sme") for name in names) == 16
    position = names.index("layer3_5_sme")
    assert names[position - 1] == "layer3_5_relu2"
    assert names[position + 1 : position + 3] == ["layer3_5_cti", "layer3_5_conv3"]


def test_basic_blocks_have_the_modules_between_their_convolutions():
    names = [layer.name for layer in TemporalResNet(18, "tsi").layers]
    position = names.index("layer1_1_sme")
    assert names[position - 1] == "layer1_1_relu1"
    assert names[position + 2] == "layer1_1_conv2"


@pytest.mark.parametrize(
    "stages, blocks, expected",
    [
        ((2,), "first", ["layer1_0_cti"]),
        ((2, 5), "first", ["layer1_0_cti", "layer4_0_cti"]),
        ((4,), [[1, 5]], ["layer3_1_cti", "layer3_5_cti"]),
        ((), "all", []),
    ],
)
def test_stages_and_blocks(stages, blocks, expected):
    backbone = TemporalResNet(50, "cti", stages=stages, blocks=blocks, base_width=16)
    found = [layer.name for layer in backbone.layers if layer.name.endswith("_cti")]
    assert found == expected


def test_fusions_differ_and_concatenation_widens_the_next_convolution():
    outputs = {}
    for fusion in ("cascade", "sum", "concat"):
        keras.utils.set_random_seed(1)
        model = small(fusion=fusion, stages=(3,), depth=26)
        outputs[fusion] = trainable(model)
        assert model(clips()).shape == (2, 5)
        layer = model.backbone.get_layer("layer2_0_conv3")
        assert layer.kernel.shape[2] == (64 if fusion == "concat" else 32)
    assert outputs["cascade"] == outputs["sum"] < outputs["concat"]


def test_temporal_options_reach_the_layers():
    options = {"sme": {"alignment": "linear"}, "cti": {"alpha_bias": 2.0}}
    backbone = TemporalResNet(18, "tsi", base_width=16, temporal_options=options)
    assert backbone.get_layer("layer1_0_sme").alignment == "linear"
    assert backbone.get_layer("layer4_1_cti").alpha_bias == 2.0


def wide_convolution(num_frames, name):
    return TemporalConv1D(num_frames, kernel_size=5, name=name)


keras.saving.register_keras_serializable(package="tests")(wide_convolution)


def test_a_callable_is_a_temporal_module(tmp_path):
    model = small(wide_convolution)
    assert model.backbone.get_layer("layer2_0_temporal").kernel_size == 5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(clips()), model(clips()))


def test_a_layer_class_is_a_temporal_module(tmp_path):
    model = small(TemporalConv1D)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.temporal is TemporalConv1D
    np.testing.assert_array_equal(loaded(clips()), model(clips()))


def test_frozen_layers_stay_frozen(tmp_path):
    model = small("none")
    model.backbone.get_layer("conv1").trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.backbone.get_layer("conv1").trainable
    assert len(loaded.trainable_variables) == len(model.trainable_variables)


def test_float_frames_are_not_rounded_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = small("none").backbone
    finally:
        keras.config.set_dtype_policy("float32")
    normalized = backbone.get_layer("normalization").output
    model = keras.Model(backbone.input, normalized)
    model.autocast = False
    grey = model(np.full((1, 4, 8, 8, 3), 200.4, "float32"))
    assert float(grey[0, 0, 0, 0]) == pytest.approx((200.4 / 255 - 0.485) / 0.229, 1e-6)


def test_a_registered_name_is_a_temporal_module():
    register_temporal("wide", "five frames", {"wide": wide_convolution})
    assert small("wide").backbone.get_layer("layer1_0_wide").kernel_size == 5
    with pytest.raises(ValueError, match="already registered"):
        register_temporal("wide", "again", {})


def test_integer_and_float_frames_agree_and_values_count_from_0_to_255():
    model = small("none")
    np.testing.assert_array_equal(model(clips()), model(clips().astype("float32")))
    stem = keras.Model(
        model.backbone.input, model.backbone.get_layer("normalization").output
    )
    grey = np.full((1, 4, 8, 8, 3), 127.5, "float32")
    expected = (0.5 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(stem(grey)[0, 0, 0], expected, rtol=1e-5)


def test_logits_are_the_mean_over_frames():
    model = small("none")
    x = clips(1)
    frames = np.repeat(x.transpose(1, 0, 2, 3, 4), 4, axis=1)
    per_frame = ops.convert_to_numpy(model(frames))
    np.testing.assert_allclose(model(x)[0], per_frame.mean(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32_logits(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small(stages=(3,))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.backbone.get_layer("layer2_0_sme").compute_dtype == policy[6:]
    logits = model(clips())
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(ops.convert_to_numpy(logits)).all()


def test_what_is_needed_to_use_a_model_is_saved_with_it(tmp_path):
    facts = {"short_side": 36, "crop_size": 32, "fps": 12.0}
    model = small("none", num_classes=2, class_names=["a", "b"], preprocessing=facts)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.class_names == ["a", "b"]
    assert loaded.preprocessing == facts
    assert (loaded.num_frames, loaded.num_classes) == (4, 2)


def test_weights_file_reproduces_the_network(tmp_path):
    model = small()
    model.save_weights(tmp_path / "w.weights.h5")
    again = small(weights=str(tmp_path / "w.weights.h5"))
    np.testing.assert_array_equal(again(clips()), model(clips()))


def test_config_is_json_and_rebuilds_the_same_network():
    backbone = TemporalResNet(
        26, "tsi", stages=(3, 4), blocks=[[0], [1]], base_width=16
    )
    config = json.loads(json.dumps(backbone.get_config()))
    again = TemporalResNet.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert [v.shape for v in again.variables] == [v.shape for v in backbone.variables]


def test_importing_models_loads_none_of_the_heavy_packages():
    code = (
        "import sys, keras; before = set(sys.modules); import tsi_keras.models; "
        "heavy = {'tensorflow_io', 'official', 'av', 'matplotlib'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TemporalResNet(19), "depth.*19"),
        (lambda: TemporalResNet(18, "tsl"), "Did you mean .*'tsi'"),
        (lambda: TemporalResNet(18, fusion="add"), "fusion='add'"),
        (lambda: TemporalResNet(18, stages=(1, 2)), r"stages=\(1, 2\)"),
        (lambda: TemporalResNet(18, stages=(2, 2)), r"stages=\(2, 2\)"),
        (lambda: TemporalResNet(18, blocks="last"), "blocks='last'"),
        (lambda: TemporalResNet(18, blocks=[[0]]), "one list of block indices"),
        (lambda: TemporalResNet(18, stages=(2,), blocks=[[2]]), r"blocks.*\[2\]"),
        (lambda: TemporalResNet(18, base_width=0), "base_width.*0"),
        (lambda: TemporalResNet(18, input_shape=(3, 32, 32)), "channels last"),
        (lambda: TemporalResNet(18, stem="big"), "stem='big'"),
        (lambda: TemporalResNet(18, base_width=8), "reduction=16"),
        (lambda: TemporalResNet(18, "cti", temporal_options={"sme": {}}), "sme"),
        (lambda: small(num_classes=1), "num_classes=1"),
        (lambda: small(dropout=1.0), "dropout=1.0"),
        (lambda: small(num_classes=2, class_names=["a"]), "Received 1"),
        (lambda: small(num_classes=2, class_names=["a", "a"]), "1 of them different"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_clips_of_another_length_are_refused():
    with pytest.raises(ValueError, match="shape"):
        small("none")(clips(frames=8))


def test_classifier_over_any_backbone():
    inputs = keras.Input((4, 16, 16, 3))
    features = keras.layers.Conv3D(6, (1, 3, 3))(inputs)
    backbone = keras.Model(inputs, features)
    backbone.num_frames = 4
    model = VideoClassifier(backbone, 3)
    assert model(clips(size=16)).shape == (2, 3)
    assert model.temporal is None
