"""Every registered network: parameters, training, saving, export, precision, sizes."""

import keras
import numpy as np
import pytest
from keras import ops

from tsi_keras.models import from_preset
from tsi_keras.models import list_presets
from tsi_keras.models import list_temporal
from tsi_keras.models import video_resnet

# Trainable parameters with ResNet-50, 174 classes, 8 frames.
PARAMETERS = {
    "none": 23_864_558,
    "tsm": 23_864_558,
    "tsm_block": 23_864_558,
    "tim": 23_875_886,
    "mem": 29_854_462,
    "teinet": 29_893_822,
    "cstm": 23_875_886,
    "cmm": 24_023_866,
    "stm": 24_035_194,
    "me": 24_031_890,
    "tim+me": 24_043_218,
    "mta": 24_025_054,
    "tea": 24_456_280,
    "tanet": 25_127_246,
    "gsm": 24_245_070,
    "tcm": 23_935_721,
    "gtd": 35_841_086,
    "ata": 29_447_406,
    "sme": 24_040_386,
    "tim+sme": 24_051_714,
    "cti": 24_111_662,
    "tsi": 24_287_490,
}
PRESET_PARAMETERS = {
    "tsm_resnet101": 42_856_686,
    "table4_sme_without_attention": 24_051_714,
    "table6_res2": 23_866_346,
    "table6_4_blocks": 23_980_978,
    "table7_concat": 29_317_378,
}
NAMES = sorted(PARAMETERS)


def trainable(model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def clips(count=2, frames=4, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, frames, size, size, 3), dtype="uint8")


def small(temporal, num_frames=4, **options):
    """One block a stage, a quarter of the width."""
    options = {"depth": 14, "base_width": 16, "num_classes": 5, **options}
    return video_resnet(temporal=temporal, num_frames=num_frames, **options)


def test_the_tables_here_are_complete():
    assert set(PARAMETERS) == {
        name for name in list_temporal() if not name.startswith("test_")
    }


@pytest.mark.parametrize("temporal", NAMES)
def test_parameters_at_full_size(temporal):
    model = video_resnet(50, temporal, num_classes=174, num_frames=8)
    assert trainable(model) == PARAMETERS[temporal]
    assert model.input_shape == (None, 8, None, None, 3)
    assert model.output_shape == (None, 174)


@pytest.mark.parametrize("name", sorted(PRESET_PARAMETERS))
def test_parameters_of_presets(name):
    assert trainable(from_preset(name)) == PRESET_PARAMETERS[name]


@pytest.mark.parametrize("temporal", NAMES)
def test_trains_saves_reloads_and_exports(temporal, tmp_path):
    # In one stage, as tracing takes the time; the slow tests have full size.
    model = small(temporal, stages=(4 if temporal == "ata" else 3,))
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    # Weights behind a zero-initialised one move in the second step only.
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(clips(4), np.array([0, 1, 2, 3])))
    moved = [
        not np.array_equal(ops.convert_to_numpy(v), old)
        for v, old in zip(model.trainable_variables, before, strict=True)
    ]
    assert np.mean(moved) > 0.9
    expected = ops.convert_to_numpy(model(clips()))
    _check_reloading(model, expected, tmp_path)
    if keras.backend.backend() == "tensorflow":
        _check_export(model, expected, tmp_path)


def _check_reloading(model, expected, folder):
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    assert loaded.temporal == model.temporal
    np.testing.assert_array_equal(loaded(clips()), expected)
    model.save_weights(folder / "model.weights.h5")
    again = type(model).from_config(model.get_config())
    again.load_weights(folder / "model.weights.h5")
    np.testing.assert_array_equal(again(clips()), expected)


def _check_export(model, expected, folder):
    import tensorflow as tf

    model.export(folder / "saved_model", verbose=False)
    served = tf.saved_model.load(str(folder / "saved_model"))
    logits = served.serve(clips().astype("float32"))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("temporal", NAMES)
def test_mixed_precision(temporal, policy):
    reference = small(temporal, head_stddev=0.1)
    expected = ops.convert_to_numpy(reference(clips()))
    keras.config.set_dtype_policy(policy)
    try:
        model = small(temporal)
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(reference.get_weights())
    logits = model(clips())
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    spread = np.abs(expected - expected.mean()).max()
    tolerance = 0.02 if policy == "mixed_float16" else 0.15
    assert np.abs(logits - expected).max() < tolerance * spread


@pytest.mark.slow
@pytest.mark.parametrize("temporal", NAMES)
def test_sixteen_frames_and_another_size(temporal):
    model = small(temporal, num_frames=16)
    for height, width in ((32, 48), (48, 32)):
        frames = np.zeros((1, 16, height, width, 3), "uint8")
        assert model(frames).shape == (1, 5)


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [8, 16])
@pytest.mark.parametrize("temporal", NAMES)
def test_full_size(temporal, num_frames):
    model = video_resnet(50, temporal, num_classes=174, num_frames=num_frames)
    for size in (224, 256):
        logits = ops.convert_to_numpy(model(clips(1, num_frames, size)))
        assert logits.shape == (1, 174) and np.isfinite(logits).all()
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    assert np.isfinite(model.train_on_batch(clips(1, num_frames, 224), np.array([7])))


def full_size(temporal):
    """A network of 8 frames with the features of a trained one in their magnitude.

    With the initial statistics of BatchNormalization they double from block to block, up
    to 40,000: the softmax of SME becomes a maximum, and float16 ends at 65,504.
    """
    model = video_resnet(50, temporal, num_classes=174, num_frames=8)
    norms = [x for x in model._flatten_layers() if hasattr(x, "moving_variance")]
    for norm in norms:
        norm.momentum = 0.0
    model(clips(1, 8, 224), training=True)
    for norm in norms:
        norm.momentum = 0.9
    return model


@pytest.mark.slow
@pytest.mark.parametrize("temporal", NAMES)
def test_full_size_exports_and_reloads(temporal, tmp_path):
    model = full_size(temporal)
    expected = ops.convert_to_numpy(model(clips(1, 8, 224)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(clips(1, 8, 224)), expected)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        model.export(tmp_path / "saved_model", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "saved_model"))
        logits = served.serve(clips(1, 8, 224).astype("float32"))
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("temporal", NAMES)
def test_full_size_mixed_precision(temporal, policy):
    reference = full_size(temporal)
    keras.config.set_dtype_policy(policy)
    try:
        model = video_resnet(50, temporal, num_classes=174, num_frames=8)
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(reference.get_weights())
    logits = ops.convert_to_numpy(model(clips(1, 8, 224)))
    assert logits.dtype == np.float32 and np.isfinite(logits).all()


def test_every_preset_is_described():
    assert len(list_presets()) >= 34
    assert all(list_presets().values())


def test_an_unknown_preset_lists_near_matches():
    with pytest.raises(ValueError, match="tsi_resnet50"):
        from_preset("tsi_resnet_50")
