"""The estimate of `profile` for what training keeps between forward and backward."""

import keras
import pytest
from keras import layers

from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D
from tsi_keras.models import video_resnet
from tsi_keras.models.profiling import profile


def of(*chain, shape=(6, 6, 4)):
    """A functional model of these layers in a row."""
    inputs = x = keras.Input(shape)
    for layer in chain:
        x = layer(x)
    return keras.Model(inputs, x)


MAP = 36 * 4  # elements of a map of `of`


@pytest.mark.parametrize(
    "chain, kept",
    [
        # The input of the first convolution is the model's, that of a sum is not needed.
        ([layers.Conv2D(4, 1)], 0),
        ([layers.Conv2D(4, 1), layers.Conv2D(4, 1)], MAP),
        # Each tensor once: the ReLU's output is also the convolution's input.
        ([layers.Conv2D(4, 1), layers.ReLU(), layers.Conv2D(4, 1)], MAP),
        ([layers.Conv2D(4, 1), layers.BatchNormalization(), layers.ReLU()], 2 * MAP),
        ([layers.Conv2D(4, 1), layers.ZeroPadding2D(1)], 0),
        ([layers.Conv2D(4, 1), layers.ZeroPadding2D(1), layers.Conv2D(1, 3)], 256),
        ([layers.Conv2D(4, 1, activation="relu")], MAP),
        ([layers.Conv2D(4, 1, activation="gelu")], MAP),
        ([layers.Dropout(0.5)], MAP // 4),
        ([layers.Dropout(0.0)], 0),
    ],
)
def test_kept_tensors(chain, kept):
    chain = [type(layer).from_config(layer.get_config()) for layer in chain]
    assert profile(of(*chain)).total.activation_bytes == 4 * kept


def test_half_precision_takes_half_the_memory():
    def bytes_under(policy):
        inputs = keras.Input((6, 6, 4))
        x = layers.Conv2D(4, 1, dtype=policy)(inputs)
        x = layers.BatchNormalization(dtype=policy)(x)
        outputs = layers.ReLU(dtype=policy)(x)
        return profile(keras.Model(inputs, outputs)).total.activation_bytes

    assert bytes_under("float32") == 8 * MAP
    # The convolution's cast copy of the float32 input is kept too.
    assert bytes_under("mixed_float16") == 4 * MAP + 2 * MAP
    assert bytes_under("float64") == 16 * MAP + 8 * MAP


@pytest.mark.slow
def test_memory_is_what_pytorch_saves():
    """687.6 MB of saved tensors measured with PyTorch; explicit padding adds 6%."""
    total = profile(video_resnet(50, "none")).total
    assert total.activation_bytes == pytest.approx(726.67e6, rel=1e-4)


@pytest.mark.slow
def test_memory_of_temporal_modules():
    """PyTorch: 787.2 MB for CTI. TSI's attention maps (0.9 GB) are not kept."""
    cti, tsi = (profile(video_resnet(50, t)).total for t in ("cti", "tsi"))
    assert cti.activation_bytes == pytest.approx(787.2e6, rel=0.07)
    assert tsi.activation_bytes == pytest.approx(1.01 * cti.activation_bytes, rel=0.01)


FRAMES = 8 * 28 * 28  # positions of a clip


@pytest.mark.parametrize(
    "layer, kept",
    [
        (TemporalConv1D(8), 0),
        # Three groups of 32: the difference of the mixed, the mixture, alpha; the
        # input of the Dense layer and its output before the sigmoid.
        (CrossScaleTemporalIntegration(8), 3 * 32 * (2 * FRAMES + 2 * 8)),
        # Reduced; query, key, attended and aligned of seven pairs; after the pooling
        # the motion, the gate before BN and the gate.
        (
            SalientMotionExcitation(8),
            8 * FRAMES + 4 * 8 * 7 * 28 * 28 + 8 * 8 + 2 * 8 * 128,
        ),
    ],
)
def test_kept_inside_temporal_layers(layer, kept):
    """Beside their input; 8 frames of 28x28, 128 channels."""
    total = profile(layer, (8, 28, 28, 128)).total
    assert total.activation_bytes == 4 * kept


def test_attention_maps_are_not_kept():
    """They would take 7 * 3136^2 * 4 bytes = 275 MB here."""
    total = profile(SalientMotionExcitation(8), (8, 56, 56, 64)).total
    assert total.activation_bytes < 3e6
