"""Kernels stored in half the room: what is stored, and what is computed."""

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.tiny import tiny_model
from tests.export.making_requests import jpeg_clips
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.saved_model import write_saved_model
from tsi_keras.export.stored_weights import rounded_model
from tsi_keras.export.stored_weights import rounding_effect
from tsi_keras.export.stored_weights import stored_network
from tsi_keras.utils.errors import InputError


@pytest.fixture(scope="module")
def tim():
    return tiny_model("tim")


def stored_bytes(folder):
    """Bytes of the variables by type."""
    reader = tf.train.load_checkpoint(str(folder / "variables/variables"))
    shapes, total = reader.get_variable_to_shape_map(), {}
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype != tf.string:
            size = int(np.prod(shapes[name])) * dtype.size
            total[dtype.name] = total.get(dtype.name, 0) + size
    return total


def test_half_of_the_room(tim, tmp_path):
    options = clip_options(tim)
    vectors = sum(w.numpy().nbytes for w in tim.weights if len(w.shape) == 1)
    kernels = sum(w.numpy().nbytes for w in tim.weights if len(w.shape) > 1)
    assert kernels > 15 * vectors
    write_saved_model(tim, tmp_path / "m", options, weights="bfloat16")
    assert stored_bytes(tmp_path / "m") == {
        "bfloat16": kernels // 2,
        "float32": vectors,
    }
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    answer = loaded.signatures["serving_default"](frames=tf.constant(clips))
    assert {value.dtype for value in answer.values()} == {tf.float32}
    rounded = rounded_model(tim, "bfloat16")
    np.testing.assert_allclose(
        answer["logits"], rounded(clips, training=False), atol=1e-4
    )


@pytest.mark.parametrize("weights, bits", [("float16", 11), ("bfloat16", 8)])
def test_rounded_copy(tim, weights, bits):
    before = tim.get_weights()
    rounded = rounded_model(tim, weights)
    changed = 0
    for old, new in zip(before, rounded.get_weights(), strict=True):
        if old.ndim == 1:
            np.testing.assert_array_equal(new, old)
            continue
        # Below 2**-14 float16 has fewer bits.
        np.testing.assert_allclose(new, old, rtol=2.0**-bits, atol=2.0**-25)
        changed += int((old != new).sum())
    assert changed > 0.9 * sum(w.size for w in before if w.ndim > 1)
    for old, new in zip(before, tim.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_rounding_effect(tim):
    options, clips = clip_options(tim), jpeg_clips(3).tolist()
    assert rounding_effect(tim, tim, clips, options) == {
        "max_difference": 0.0,
        "mean_difference": 0.0,
        "top1_agreement": 1.0,
    }
    fine, coarse = (
        rounding_effect(tim, rounded_model(tim, weights), clips, options)
        for weights in ("float16", "bfloat16")
    )
    assert 0 < fine["mean_difference"] < coarse["mean_difference"]
    other = tiny_model("tim")
    head = other.get_layer("classifier")
    head.set_weights([-head.kernel, -head.bias])
    assert rounding_effect(tim, other, clips, options)["top1_agreement"] == 0


def test_float32_is_the_model_itself(tim):
    frames = tf.zeros((1, 4, 32, 32, 3), tf.uint8)
    expected = tim(frames, training=False)
    np.testing.assert_array_equal(stored_network(tim, "float32")(frames), expected)


def test_what_float16_cannot_hold():
    model = tiny_model("none")
    kernel = model.get_layer("classifier").kernel
    kernel.assign(with_first(kernel, 7e4))
    for function in (stored_network, rounded_model):
        with pytest.raises(InputError, match="'classifier/kernel'.* 7e[+]04; use bf"):
            function(model, "float16")
        function(model, "bfloat16")


def with_first(variable, value):
    """The values with another one in the first place."""
    values = variable.numpy()
    values[0, 0] = value
    return values


def test_unknown_type(tim):
    with pytest.raises(InputError, match="`--weights` must be one of .*'int8'"):
        stored_network(tim, "int8")
