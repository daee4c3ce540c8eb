"""Signatures on a network that tells which frames it got."""

import numpy as np
import pytest
import tensorflow as tf

from tests.export.making_requests import example
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.sampling import clip_indices
from tsi_keras.export.signatures import build_signatures

NUM_FRAMES = 4


class Network:
    """The mean brightness of each frame as logits."""

    def __init__(self):
        self.traces = 0

    def __call__(self, frames):
        self.traces += 1
        assert frames.shape[1] == NUM_FRAMES
        return tf.reduce_mean(tf.cast(frames, tf.float32), (2, 3, 4))


def options(sampling="segments"):
    return ClipOptions(
        num_frames=NUM_FRAMES, short_side=16, crop_size=8, sampling=sampling
    )


def grey(level):
    """A JPEG file of one colour, which it keeps."""
    frame = tf.fill((16, 20, 3), tf.cast(level, tf.uint8))
    return tf.io.encode_jpeg(frame, quality=100).numpy()


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_frames_are_those_of_the_evaluation(sampling):
    """Videos of all lengths, in one batch."""
    signatures = build_signatures(Network(), options(sampling), (None, None))
    files = [grey(2 * i) for i in range(120)]
    lengths = [*range(1, 24), 63, 64, 65, 66, 97, 120]
    videos = [example(files[:length]) for length in lengths]
    answer = signatures["serve_example"](tf.constant(videos))
    expected = [2 * clip_indices(n, NUM_FRAMES, sampling)[0] for n in lengths]
    np.testing.assert_allclose(answer["logits"], expected, atol=1)
    assert np.ptp(answer["logits"][-1]) > 60


def test_network_is_traced_once():
    network = Network()
    signatures = build_signatures(network, options())
    assert network.traces == 1
    for batch in (1, 3):
        signatures["serve_jpeg"](tf.constant([[grey(9)] * NUM_FRAMES] * batch))
    assert network.traces == 1


def test_frames_of_a_request_may_differ_in_size():
    frames = [np.full((*size, 3), 77, np.uint8) for size in [(8, 9), (40, 16)] * 2]
    files = [tf.io.encode_jpeg(frame, quality=100) for frame in frames]
    signatures = build_signatures(Network(), options())
    answer = signatures["serve_jpeg"](tf.stack(files)[None])
    np.testing.assert_allclose(answer["logits"], np.full((1, 4), 77), atol=1)


def test_errors_as_python_sees_them():
    """`test_session_loading` has all of them."""
    signatures = build_signatures(Network(), options())
    cases = {
        "serving_default": (tf.zeros((1, 3, 8, 8, 3), tf.uint8), "[1 3 8 8 3]"),
        "serve_jpeg": (tf.constant([[b"text"] * NUM_FRAMES]), "frame 0 of clip 0"),
        "serve_example": (tf.constant([b""]), "`examples[0]` has no frames"),
    }
    for signature, (value, wanted) in cases.items():
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            signatures[signature](value)
        assert wanted in str(error.value)
