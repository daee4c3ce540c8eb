"""What is computed once per frame, and that the scores are the model's own."""

from fractions import Fraction

import keras
import numpy as np
import pytest

from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import PREPROCESSING
from tsi_keras.export.stream_features import FrameFeatures
from tsi_keras.export.stream_graph import split_graph
from tsi_keras.export.stream_windows import StoredFrame
from tsi_keras.layers import FoldFrames
from tsi_keras.layers import UnfoldFrames
from tsi_keras.models import VideoClassifier
from tsi_keras.models import insert_temporal
from tsi_keras.models import video_resnet
from tsi_keras.models.video_backbone import VideoBackbone


def _resnet(temporal, **options):
    """Two layers of every kind; scores that differ between clips."""
    return video_resnet(
        14,
        temporal,
        num_classes=len(CLASSES),
        num_frames=4,
        base_width=16,
        head_stddev=8.0,
        preprocessing=PREPROCESSING,
        **options,
    )


def _image_network():
    """A residual CNN of another make, with a squeeze-and-excitation and operators."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, 2, "same", name="stem")(x)
    for name in ("a", "b"):
        y = keras.layers.Conv2D(8, 3, padding="same", name=f"{name}_spatial")(x)
        y = keras.layers.BatchNormalization()(y)
        s = keras.ops.mean(y, axis=(1, 2), keepdims=True)
        y = y * keras.ops.sigmoid(s)
        y = keras.layers.Conv2D(8, 1, name=f"{name}_last")(keras.ops.relu(y))
        x = x + y
    return keras.Model(inputs, x, name="foreign")


def _inserted():
    backbone = insert_temporal(_image_network(), "tim", 4, where=["b_spatial"])
    return VideoClassifier(backbone, 7, preprocessing=PREPROCESSING, head_stddev=8.0)


# Network, the first and the last layers that see single frames, features at the cut.
NETWORKS = {
    "tsn": (lambda: _resnet("none"), "classifier", 1),
    "tsm": (lambda: _resnet("tsm"), "layer1_0_downsample_1", 2),
    "tcm": (lambda: _resnet("tcm"), "layer1_0_downsample_1", 2),
    "tsi": (lambda: _resnet("tsi"), "layer1_0_relu2", 2),
    "tsi in res5": (lambda: _resnet("tsi", stages=(5,)), "layer4_0_relu2", 2),
    "tea": (lambda: _resnet("tea"), "layer1_0_relu1", 2),
    "inserted": (_inserted, "b_spatial", 2),
}


def _frames(count, seed=0):
    rng = np.random.default_rng(seed)
    crops = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return crops, [StoredFrame(i, Fraction(i), crop) for i, crop in enumerate(crops)]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_model(name):
    make, last, cut = NETWORKS[name]
    model = make()
    split = split_graph(model)
    names = [call.operation.name for call in split.per_frame]
    assert last in names and len(split.cut) == cut
    assert not any(hasattr(c.operation, "shift_div") for c in split.per_frame)
    crops, frames = _frames(7)
    features = FrameFeatures(model)
    # Sliding by one, then back: frames in another order, and one twice.
    for chosen in ([0, 1, 2, 3], [1, 2, 3, 4], [3, 4, 5, 6], [0, 0, 2, 6]):
        wanted = model(crops[None, chosen], training=False)[0]
        got = features.logits([frames[i] for i in chosen])
        largest = np.abs(wanted).max()
        assert largest > 1e-3
        # Sums of float32 in another order; the last bits depend on the processor.
        np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-6 * max(1.0, largest))
    assert features.computed == 7 and features.windows == 4
    assert 0 < features.per_frame_share <= 1
    assert features.reused == pytest.approx(features.per_frame_share * (1 - 7 / 16))


def test_the_order_of_frames_matters_after_the_cut():
    model = _inserted()
    _, frames = _frames(4)
    features = FrameFeatures(model)
    forwards, backwards = features.logits(frames), features.logits(frames[::-1])
    assert np.abs(forwards - backwards).max() > 1e-2
    assert features.computed == 4


def test_without_reuse_nothing_is_kept():
    model = _resnet("none")
    crops, frames = _frames(4)
    features = FrameFeatures(model, reuse=False)
    assert features._split.per_frame == ()
    wanted = model(crops[None], training=False)[0]
    np.testing.assert_allclose(features.logits(frames), wanted, rtol=1e-5, atol=1e-5)
    assert all(frame.features is None for frame in frames)
    assert features.reused == 0


def test_mixed_precision_is_the_models():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = _resnet("none")
    finally:
        keras.config.set_dtype_policy("float32")
    crops, frames = _frames(4)
    wanted = model(crops[None], training=False)[0]
    got = FrameFeatures(model).logits(frames)
    np.testing.assert_allclose(got, wanted, rtol=1e-2)


def test_warming_up_is_not_counted():
    features = FrameFeatures(_resnet("none"))
    features.warm_up()
    assert (features.windows, features.computed) == (0, 0)


class _Unknown(keras.layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


def _mixes(x):
    return x - keras.ops.mean(x, axis=0, keepdims=True)


@pytest.mark.parametrize(
    "mixing",
    [
        _Unknown(),
        keras.layers.Lambda(_mixes, output_shape=(32, 32, 4)),
        keras.layers.UnitNormalization(axis=0),
        keras.layers.UnitNormalization(axis=-4),
        keras.layers.Softmax(axis=(-1, -4)),
        lambda x: keras.layers.Concatenate(axis=-4)([x, x]),
        lambda x: keras.ops.mean(x, axis=0, keepdims=True) + x,
        lambda x: keras.ops.roll(x, 1, axis=0),
    ],
    ids=["own layer", "lambda", "axis 0", "axis -4", "axes", "join", "mean", "roll"],
)
def test_what_may_mix_frames_ends_the_first_part(mixing):
    inputs = keras.Input((4, 32, 32, 3))
    x = FoldFrames(name="fold")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", name="alone")(x)
    x = mixing(x)
    x = keras.layers.Conv2D(4, 3, padding="same", name="behind")(x)
    backbone = VideoBackbone(inputs, UnfoldFrames(4, name="unfold")(x), 4)
    model = VideoClassifier(
        backbone, len(CLASSES), preprocessing=PREPROCESSING, head_stddev=8.0
    )
    names = [call.operation.name for call in split_graph(model).per_frame]
    assert names == ["fold", "alone"]
    crops, frames = _frames(4)
    wanted = model(crops[None], training=False)[0]
    got = FrameFeatures(model).logits(frames)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_joined_channels_are_still_of_one_frame():
    inputs = keras.Input((4, 32, 32, 3))
    x = FoldFrames(name="fold")(inputs)
    x = keras.layers.Concatenate(axis=-1, name="join")([x, x])
    x = keras.layers.Conv2D(4, 3, padding="same", name="behind")(x)
    backbone = VideoBackbone(inputs, UnfoldFrames(4, name="unfold")(x), 4)
    model = VideoClassifier(backbone, 7, preprocessing=PREPROCESSING)
    names = [call.operation.name for call in split_graph(model).per_frame]
    assert names[:4] == ["fold", "join", "behind", "unfold"]


def test_training_is_off_as_in_predict():
    """Keras does not ask what the layer was called with."""
    inputs = keras.Input((4, 32, 32, 3))
    x = FoldFrames(name="fold")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x, training=True)
    backbone = VideoBackbone(inputs, UnfoldFrames(4, name="unfold")(x), 4)
    model = VideoClassifier(backbone, 7, preprocessing=PREPROCESSING, head_stddev=1.0)
    crops, frames = _frames(4)
    wanted = model.predict_on_batch(crops[None])[0]
    got = FrameFeatures(model).logits(frames)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_the_model_stays_as_it_is(tmp_path):
    model = _inserted()
    crops, frames = _frames(4)
    FrameFeatures(model).logits(frames)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(crops[None]), model(crops[None]), rtol=1e-6)
