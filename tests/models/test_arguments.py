"""Bad arguments of models: refused with what was received and what to do."""

import keras
import numpy as np
import pytest

from tsi_keras.models import TemporalResNet
from tsi_keras.models import TSIResNet50
from tsi_keras.models import VideoClassifier
from tsi_keras.models import from_preset
from tsi_keras.models import insert_temporal
from tsi_keras.models import video_resnet

SMALL = {"base_width": 16, "stem": "small", "input_shape": (32, 32, 3)}


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def image_network():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 1, name="reduce")(inputs)
    y = keras.layers.Conv2D(16, 3, padding="same", name="spatial")(x)
    y = keras.layers.Conv2D(16, 1, name="expand")(y)
    return keras.Model(inputs, keras.layers.Add()([x, y]))


@pytest.mark.parametrize(
    "build, hint",
    [
        (lambda: from_preset("tsi_resnet50", num_frame=16, **SMALL), "`num_frames`"),
        (lambda: TSIResNet50(5, fusionn="sum", **SMALL), "`fusion`"),
        (lambda: TemporalResNet(14, temporal_option={}, **SMALL), "temporal_options"),
        (lambda: TemporalResNet(14, junk=3, **SMALL), "junk=3"),
        (lambda: TemporalResNet(14, dtype="float16", **SMALL), "set_dtype_policy"),
    ],
)
def test_unknown_arguments_are_refused(build, hint):
    with pytest.raises(ValueError, match=hint):
        build()


def test_too_narrow_for_a_module_names_layer_and_option():
    with pytest.raises(ValueError) as error:
        TemporalResNet(18, "tsi", num_frames=4, base_width=4)
    message = str(error.value)
    assert message.startswith("layer1_0_sme, on 4 channels: ")
    assert "`temporal_options={'sme': {...}}`" in message


def test_unknown_arguments_of_the_classifier_are_refused():
    backbone = TemporalResNet(14, "none", num_frames=2, **SMALL)
    with pytest.raises(ValueError, match="Did you mean `dropout`"):
        VideoClassifier(backbone, 5, dropuot=0.1)


@pytest.mark.parametrize("temporal", ["none", "tsi", "teinet", "tea", "tcm"])
def test_networks_are_channels_last_whatever_the_default(temporal, channels_first):
    model = video_resnet(14, temporal, 5, num_frames=4, **SMALL)
    assert model.backbone.output_shape == (None, 4, 2, 2, 512)
    assert model(np.zeros((1, 4, 32, 32, 3), "uint8")).shape == (1, 5)


def test_insertion_refuses_channels_first(channels_first):
    inputs = keras.Input((3, 32, 32))
    outputs = keras.layers.Conv2D(8, 3, name="spatial")(inputs)
    with pytest.raises(ValueError, match="'spatial' has data_format='channels_first'"):
        insert_temporal(keras.Model(inputs, outputs), "tim", 4)


def test_the_classifier_refuses_other_backbones():
    with pytest.raises(ValueError, match="insert_temporal"):
        VideoClassifier(image_network(), 5)
    network = image_network()
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    inserted = insert_temporal(keras.Model(network.input, pooled), "tim", 4)
    with pytest.raises(ValueError, match="include_top=False"):
        VideoClassifier(inserted, 5)


@pytest.mark.parametrize("temporal", ["stm", "cmm", "tea", "mta"])
def test_modules_made_for_bottlenecks_say_so(temporal):
    with pytest.raises(ValueError, match="`depth` 14, 26, 50 or 101"):
        TemporalResNet(18, temporal, **SMALL)


@pytest.mark.parametrize("temporal", ["tea", "tsm", "none", "sme"])
def test_a_fusion_of_fewer_than_two_parts_is_refused(temporal):
    with pytest.raises(ValueError, match="`fusion='sum'`"):
        TemporalResNet(14, temporal, fusion="sum", **SMALL)


@pytest.mark.parametrize("num_frames", [None, "4", 0, -3, 2.5, True])
def test_num_frames_is_checked_first(num_frames):
    for build in (TemporalResNet, lambda **kw: insert_temporal(image_network(), **kw)):
        with pytest.raises(ValueError, match="`num_frames`"):
            build(temporal="none", num_frames=num_frames)


def test_a_whole_float_is_a_number_of_frames():
    assert TemporalResNet(14, "tim", num_frames=4.0, **SMALL).num_frames == 4
    assert insert_temporal(image_network(), "tim", 4.0).num_frames == 4


def test_weights_of_another_framework(tmp_path):
    torch = pytest.importorskip("torch")
    source = video_resnet(14, "none", 7, 2, **SMALL)
    source.save(tmp_path / "source.keras")
    model = video_resnet(
        14, "tim", 5, 2, weights=str(tmp_path / "source.keras"), **SMALL
    )
    np.testing.assert_array_equal(
        model.backbone.get_layer("conv1").kernel,
        source.backbone.get_layer("conv1").kernel,
    )
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="conv1"):
        video_resnet(14, "tim", 5, 2, weights=tmp_path / "other.pth", **SMALL)


def test_a_misspelt_option_is_not_taken_for_a_misfit():
    with pytest.raises(ValueError) as error:
        insert_temporal(image_network(), "sme", 4, temporal_options={"sme": {"a": 1}})
    assert "multiples" not in str(error.value)


def test_where_of_another_type():
    with pytest.raises(ValueError, match="where=3"):
        insert_temporal(image_network(), "tim", 4, 3)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "It is empty"), (b"PK\x03\x04" + bytes(50), "cut short .54 bytes.")],
)
def test_broken_downloads_are_called_that(tmp_path, content, message):
    (tmp_path / "resnet.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        video_resnet(14, "none", 5, 2, weights=tmp_path / "resnet.pth", **SMALL)


def test_safetensors_by_another_name(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    numpy_files.save_file({"conv1.weight": np.zeros(3)}, tmp_path / "renamed.pth")
    with pytest.raises(ValueError, match="conv1"):
        video_resnet(14, "none", 5, 2, weights=tmp_path / "renamed.pth", **SMALL)
