"""Inside the export scope layers compute the same, without loops."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

from tsi_keras.layers import ChannelwiseMotion
from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import MotionEnhancement
from tsi_keras.layers import MotionExcitation
from tsi_keras.layers import MultipleTemporalAggregation
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalCorrelation
from tsi_keras.layers import TemporalShift
from tsi_keras.layers import alignment
from tsi_keras.layers import correlation
from tsi_keras.layers.export_scope import export_scope
from tsi_keras.layers.export_scope import is_exporting

LAYERS = {
    **{
        f"sme {mode}": (SalientMotionExcitation, {"alignment": mode, "reduction": 4})
        for mode in alignment.ALIGNMENTS
    },
    "sme identity": (
        SalientMotionExcitation,
        {"last_frame": "identity", "reduction": 4},
    ),
    "sme repeat": (SalientMotionExcitation, {"last_frame": "repeat", "reduction": 4}),
    "cti": (CrossScaleTemporalIntegration, {}),
    "tsm": (TemporalShift, {}),
    "online tsm": (TemporalShift, {"bidirectional": False}),
    "me": (MotionExcitation, {}),
    "mem": (MotionEnhancement, {"zero_init": False}),
    "cmm": (ChannelwiseMotion, {"zero_init": False}),
    "tcm": (TemporalCorrelation, {"patch_size": 3}),
    "mta": (MultipleTemporalAggregation, {}),
}


def frames(size=7, channels=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2 * 4, size, size + 1, channels)).astype("float32")


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_scope_changes_no_result(name):
    cls, options = LAYERS[name]
    layer = cls(num_frames=4, **options)
    expected = ops.convert_to_numpy(layer(frames()))
    with export_scope():
        inside = ops.convert_to_numpy(layer(frames()))
    assert np.abs(expected - frames()).max() > 5e-4
    np.testing.assert_allclose(inside, expected, rtol=1e-5, atol=1e-5)


# Blocks of 11 rows, of one pair, of three pairs.
@pytest.mark.parametrize("block_bytes", [2500, 13_000, 10_000_000])
def test_unrolled_attention_is_the_attention(block_bytes):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 2, 3, 56, 4)).astype("float32")
    np.testing.assert_allclose(
        alignment._unrolled_attention(q, k, block_bytes),
        alignment.softmax_attention(q, k),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_first_of_several_maxima_is_found():
    x = np.random.default_rng(0).integers(0, 4, (50, 9)).astype("float32")
    with export_scope():
        found = ops.convert_to_numpy(correlation._first_maximum(x))
    np.testing.assert_array_equal(found, x.argmax(axis=-1))
    assert found.dtype == np.int32


def test_an_unknown_size_is_left_to_the_loop():
    layer = SalientMotionExcitation(num_frames=4, reduction=4)
    expected = layer(frames())
    inputs = keras.Input((None, None, 16))
    with export_scope():
        model = keras.Model(inputs, layer(inputs))
        assert model.output_shape == (None, None, None, 16)
    np.testing.assert_allclose(model(frames()), expected, atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's graph"
)
def test_graph_has_no_loop_and_no_gradient_function(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(alignment, "BLOCKS_IN_FLIGHT", 0)
    monkeypatch.setattr(alignment, "EXPORT_BLOCK_BYTES", 3000)
    layers = [
        SalientMotionExcitation(num_frames=4, reduction=4),
        CrossScaleTemporalIntegration(num_frames=4),
        TemporalShift(num_frames=4),
    ]

    def operations(scoped):
        @tf.function(input_signature=[tf.TensorSpec((4, 7, 8, 16))], autograph=False)
        def run(x):
            for layer in layers:
                x = layer(x)
            return x

        if not scoped:
            return run.get_concrete_function().graph.as_graph_def()
        with export_scope():
            return run.get_concrete_function().graph.as_graph_def()

    kinds = {node.op for node in operations(scoped=True).node}
    assert not kinds & {"While", "StatelessWhile", "IdentityN"}
    assert {"While", "StatelessWhile"} & {n.op for n in operations(False).node}


def test_the_scope_ends_and_belongs_to_its_thread():
    seen = []
    with pytest.raises(KeyError), export_scope():
        assert is_exporting()
        thread = threading.Thread(target=lambda: seen.append(is_exporting()))
        thread.start()
        thread.join()
        raise KeyError
    assert seen == [False] and not is_exporting()
