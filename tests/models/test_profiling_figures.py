"""Figures of `profile`: the published ones, and each layer's formula.

The literals per layer are worked out by hand from the formulas of the papers; the thop
ones of whole networks were measured with thop 0.1.1 on PyTorch networks.
"""

import keras
import pytest
from keras import layers

from tsi_keras.layers import ChannelwiseMotion
from tsi_keras.layers import ChannelwiseSpatioTemporal
from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import GateShift
from tsi_keras.layers import MotionEnhancement
from tsi_keras.layers import MotionExcitation
from tsi_keras.layers import MultipleTemporalAggregation
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalAdaptive
from tsi_keras.layers import TemporalConv1D
from tsi_keras.layers import TemporalCorrelation
from tsi_keras.layers import TemporalInteraction
from tsi_keras.layers import TemporalShift
from tsi_keras.layers.alignment_guided_attention import AlignmentGuidedTemporalAttention
from tsi_keras.layers.global_temporal_difference import GlobalTemporalDifference
from tsi_keras.models import video_resnet
from tsi_keras.models.profiling import profile

slow = pytest.mark.slow


@pytest.mark.parametrize(
    "temporal, macs, thop",
    [
        ("none", 32_699_940_864, 33_056_407_552),
        pytest.param("cti", 32_726_664_192, 33_083_130_880, marks=slow),
        ("tsi", 34_839_638_240, 33_892_665_138),
        pytest.param("tea", 34_537_495_808, 34_950_735_344, marks=slow),
        pytest.param("tcm", 33_294_062_080, 33_523_609_536, marks=slow),
        pytest.param("tsm", 32_699_940_864, 33_056_407_552, marks=slow),
        pytest.param("tim", 32_733_057_024, 33_089_523_712, marks=slow),
    ],
)
def test_networks_of_8_frames(temporal, macs, thop):
    """174 classes at 224x224. Published: TSN 33, CTI 33, TSI 34, TEA 35 (thop's)."""
    total = profile(video_resnet(50, temporal, num_classes=174)).total
    assert (total.macs, total.thop) == (macs, thop)


@slow
@pytest.mark.parametrize(
    "temporal, macs, thop",
    [
        ("none", 65.400, 66.113),
        ("cti", 65.453, 66.166),
        ("tsi", 69.966, 67.886),
        ("tea", 69.075, 69.901),
    ],
)
def test_networks_of_16_frames(temporal, macs, thop):
    """Published: CTI 66, TSI 68, TEA 70."""
    model = video_resnet(50, temporal, num_classes=174, num_frames=16)
    total = profile(model).total
    assert (round(total.macs / 1e9, 3), round(total.thop / 1e9, 3)) == (macs, thop)


@slow
@pytest.mark.parametrize(
    "temporal, macs", [("teinet", 32.883), ("tanet", 32.756), ("gtd", 32.811)]
)
def test_plugins_of_8_frames(temporal, macs):
    total = profile(video_resnet(50, temporal, num_classes=174)).total
    assert total.macs / 1e9 == pytest.approx(macs, abs=0.0006)


@slow
@pytest.mark.parametrize(
    "options, macs, thop",
    [
        ({"alignment": "linear"}, 32.868, 33.217),
        ({"alignment": "row"}, 32.901, 33.218),
        ({"alignment": "none"}, 32.857, 33.217),
        ({"pool_first": False}, 34.942, 34.039),
    ],
)
def test_readings_of_salient_motion_excitation(options, macs, thop):
    model = video_resnet(50, "tsi", temporal_options={"sme": options})
    total = profile(model).total
    assert (round(total.macs / 1e9, 3), round(total.thop / 1e9, 3)) == (macs, thop)


@pytest.mark.parametrize(
    "options, macs, thop",
    [
        ({}, 589_066_240, 515_696_384),
        ({"matcher": "none"}, 520_224_768, 515_696_384),
        ({"reduction": 2}, 303_263_744, 233_105_152),
        ({"matcher": "sinkhorn"}, 771_926_400, 515_696_384),
    ],
)
def test_alignment_guided_attention(options, macs, thop):
    """196 tokens of 256 channels, as maps and as tokens behind a class token."""
    maps = profile(ATA(8, **options), (8, 14, 14, 256))
    assert (maps.total.macs, maps.total.thop) == (macs, thop)
    assert maps.not_counted == ()
    tokens = profile(ATA(8, num_prefix_tokens=1, **options), (8, 197, 256)).total
    assert (tokens.macs, tokens.thop) == (macs, thop)


SME, MTA = SalientMotionExcitation, MultipleTemporalAggregation
GTD, ATA = GlobalTemporalDifference, AlignmentGuidedTemporalAttention


@pytest.mark.parametrize(
    "layer, channels, macs, thop",
    [
        (SME(8), 128, 77_247_872, 21_513_488),
        (SME(8, pool_first=False), 128, 83_662_208, 31_134_992),
        (SME(8, alignment="linear"), 128, 9_108_864, 8_611_200),
        (SME(8, alignment="row"), 128, 10_865_024, 8_741_344),
        (SME(8, alignment="none"), 128, 8_406_400, 8_611_200),
        (SME(8, alignment="none", levels=3, use_bn=False), 128, 7_616_128, 7_616_128),
        (CrossScaleTemporalIntegration(8), 128, 1_830_912, 1_830_912),
        (
            CrossScaleTemporalIntegration(8, integration="channel"),
            128,
            1_830_912,
            1_833_192,
        ),
        (TemporalConv1D(8), 128, 2_408_448, 2_408_448),
        (TemporalInteraction(8), 128, 2_408_448, 2_408_448),
        (TemporalShift(8), 128, 0, 0),
        (MotionEnhancement(8), 128, 49_152, 49_152),
        (ChannelwiseMotion(8), 128, 13_296_640, 13_296_640),
        (ChannelwiseMotion(8, strides=2), 128, 8_479_744, 8_479_744),
        (ChannelwiseSpatioTemporal(8), 128, 927_252_480, 927_252_480),
        (
            ChannelwiseSpatioTemporal(8, spatial_kernel_size=None),
            128,
            2_408_448,
            2_408_448,
        ),
        (GateShift(8), 128, 21_676_032, 24_887_296),
        (TemporalAdaptive(8), 128, 2_562_048, 163_840),
        (MotionExcitation(8), 104, 4_257_408, 4_448_944),
        (MTA(8), 104, 116_433_408, 118_390_272),
        (MTA(8, strides=2, block_type="stage"), 104, 30_576_000, 31_105_984),
        (TemporalCorrelation(8), 512, 594_121_216, 467_201_984),
        (GTD(8), 256, 458_752, 491_008),
        (GTD(8, qkv="shared"), 256, 393_216, 425_472),
        (GTD(8, qkv="eca"), 256, 365_056, 397_312),
        (GTD(8, aggregation="mta"), 256, 467_968, 500_224),
        (GTD(8, aggregation="lstm"), 256, 720_896, 761_344),
        (GTD(8, aggregation="bilstm"), 256, 983_040, 1_031_680),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_temporal_layers(layer, channels, macs, thop):
    """One clip of 8 frames of 28x28; twice as much for two clips."""
    cost = profile(layer, (8, 28, 28, channels))
    assert (cost.total.macs, cost.total.thop) == (macs, thop)
    assert cost.not_counted == ()
    twice = profile(layer, (16, 28, 28, channels)).total
    assert (twice.macs, twice.thop) == (2 * macs, 2 * thop)


IMAGES = (2, 10, 10, 8)


@pytest.mark.parametrize(
    "layer, shape, macs, thop",
    [
        (layers.Conv2D(12, 3, padding="same"), IMAGES, 172_800, 172_800),
        (layers.Conv2D(12, 3, 2, "same", groups=2), IMAGES, 21_600, 21_600),
        (layers.Conv1D(4, 3, padding="same"), (2, 10, 8), 1_920, 1_920),
        (layers.Conv3D(4, 3, padding="same"), (1, 4, 6, 6, 8), 124_416, 124_416),
        (layers.DepthwiseConv2D(3, padding="same"), IMAGES, 14_400, 14_400),
        (layers.SeparableConv2D(5, 3, padding="same"), IMAGES, 22_400, 22_400),
        (layers.Dense(5), (2, 8), 80, 80),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (2, 3, 8), 384, 384),
        (layers.BatchNormalization(), IMAGES, 0, 6_400),
        (layers.BatchNormalization(scale=False, center=False), IMAGES, 0, 3_200),
        (layers.LayerNormalization(), (2, 10, 8), 0, 640),
        (layers.GroupNormalization(2), IMAGES, 0, 0),
        (layers.AveragePooling2D(2), IMAGES, 0, 400),
        (layers.GlobalAveragePooling2D(), IMAGES, 0, 1_616),
        (layers.MaxPooling2D(2), IMAGES, 0, 0),
        (layers.Softmax(), (2, 7, 10), 0, 406),
        (layers.Activation("softmax"), (2, 7, 10), 0, 406),
        (layers.Activation("gelu"), (2, 8), 0, 0),
        (layers.ReLU(), IMAGES, 0, 0),
        (layers.PReLU(), IMAGES, 0, 1_600),
        (layers.UpSampling2D(2, interpolation="bilinear"), IMAGES, 0, 70_400),
        (layers.UpSampling2D(2), IMAGES, 0, 6_400),
        (layers.LSTM(6, return_sequences=True), (2, 5, 8), 3_360, 4_320),
        (layers.Bidirectional(layers.LSTM(6)), (2, 5, 8), 6_720, 8_640),
        (layers.TimeDistributed(layers.Dense(5)), (2, 3, 8), 240, 240),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_keras_layers_as_thop_counts_them(layer, shape, macs, thop):
    """The thop figures were measured with thop 0.1.1 on the PyTorch modules."""
    cost = profile(layer, shape)
    assert (cost.total.macs, cost.total.thop) == (macs, thop)
    assert cost.not_counted == ()


def test_attention_counts_its_matrix_products():
    """Projections 4 L D^2, products 2 L^2 D; a softmax of 3 ops less 1 per row."""
    tokens = keras.Input((10, 16))
    attended = layers.MultiHeadAttention(2, 8)(tokens, tokens)
    total = profile(keras.Model(tokens, attended)).total
    assert total.macs == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16
    assert total.thop == 4 * 10 * 16 * 16 + 2 * 10 * (3 * 10 - 1)


def test_products_between_layers():
    x = keras.Input((10, 16))
    scores = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
    mixed = keras.ops.einsum("bij,bjc->bic", scores, x)
    total = profile(keras.Model(x, mixed)).total
    assert (total.macs, total.thop) == (2 * 10 * 10 * 16, 0)


@pytest.mark.parametrize(
    "name, gmacs",
    [
        ("MobileNetV3Small", 0.057),
        pytest.param("EfficientNetV2B0", 0.72, marks=slow),
        pytest.param("ConvNeXtTiny", 4.456, marks=slow),
    ],
)
def test_networks_of_keras_applications(name, gmacs):
    """As published with them."""
    build = getattr(keras.applications, name)
    cost = profile(build(weights=None, input_shape=(224, 224, 3)))
    assert cost.total.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert cost.not_counted == ()
