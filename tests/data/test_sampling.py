"""Segment sampling: golden vectors, NumPy against TensorFlow, the training draws."""

import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.sampling import segment_indices
from tsi_keras.data.sampling import segment_indices_tf

# From the official TSM code, counted from 1 as there.
GOLDEN = {
    (42, 8): [3, 8, 14, 19, 24, 29, 35, 40],
    (42, 16): [2, 4, 7, 10, 12, 15, 18, 20, 23, 25, 28, 31, 33, 36, 39, 41],
    (5, 8): [1, 1, 2, 3, 3, 4, 5, 5],
    (8, 8): [1, 2, 3, 4, 5, 6, 7, 8],
    (9, 8): [1, 2, 3, 4, 6, 7, 8, 9],
    (100, 8): [7, 19, 32, 44, 57, 69, 82, 94],
}
SEGMENTS = (1, 2, 4, 8, 16)
LENGTHS = range(1, 121)


def draws_over_lengths(num_segments: int, training: bool, lengths=LENGTHS):
    """Run the TensorFlow version for many lengths within one tf.data map."""
    dataset = tf.data.Dataset.from_tensor_slices(list(lengths)).enumerate()
    dataset = dataset.map(
        lambda count, n: segment_indices_tf(
            n, num_segments, training=training, seed=tf.stack([count, 3])
        )
    )
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("size", GOLDEN, ids=str)
def test_centres_are_the_official_ones(size):
    indices = segment_indices(*size)
    assert (indices + 1).tolist() == GOLDEN[size]
    assert indices.dtype == np.int32
    eager = segment_indices_tf(*size, training=False)
    assert eager.dtype == tf.int32
    assert (eager.numpy() + 1).tolist() == GOLDEN[size]


@pytest.mark.parametrize("num_segments", (*SEGMENTS, 7, 10))
def test_centres_agree_with_the_formula_in_numpy_and_tf_data(num_segments):
    graph = draws_over_lengths(num_segments, training=False)
    for n, from_graph in zip(LENGTHS, graph, strict=True):
        tick = n / num_segments
        expected = [int(tick / 2.0 + tick * i) for i in range(num_segments)]
        assert segment_indices(n, num_segments).tolist() == expected
        assert from_graph.tolist() == expected


@pytest.mark.parametrize("num_segments", SEGMENTS)
def test_draws_stay_in_their_segment(num_segments):
    rng = np.random.default_rng(0)
    graph = draws_over_lengths(num_segments, training=True)
    for n, from_graph in zip(LENGTHS, graph, strict=True):
        from_numpy = segment_indices(n, num_segments, rng=rng)
        average = n // num_segments
        for indices in (from_numpy, from_graph):
            assert indices.dtype == np.int32
            if average:
                segment = indices // average
                assert segment.tolist() == list(range(num_segments))
            else:
                expected = segment_indices(n, num_segments)
                assert indices.tolist() == expected.tolist()


def test_every_frame_of_a_segment_is_drawn_equally_often():
    repeats = 600
    rng = np.random.default_rng(0)
    numpy = [segment_indices(26, 4, rng=rng) for _ in range(repeats)]
    graph = draws_over_lengths(4, training=True, lengths=[26] * repeats)
    for draws in (numpy, graph):
        counts = np.bincount(np.ravel(draws), minlength=26)
        # 100 expected for each of 4 * 6 frames; the last two are never drawn.
        assert counts[24:].tolist() == [0, 0]
        assert counts[:24].min() > 60 and counts[:24].max() < 140
        # Segments draw independently of each other.
        offsets = np.array(draws) % 6
        assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.15


def test_equal_seeds_draw_equal_frames_in_eager_and_graph_mode():
    def draw(seed):
        return segment_indices_tf(80, 8, training=True, seed=seed)

    first = draw([1, 2]).numpy()
    assert draw([1, 2]).numpy().tolist() == first.tolist()
    assert tf.function(draw)(tf.constant([1, 2])).numpy().tolist() == first.tolist()
    assert draw([1, 3]).numpy().tolist() != first.tolist()


@pytest.mark.parametrize("size", [(0, 8), (8, 0)])
def test_empty_requests_are_refused(size):
    with pytest.raises(ValueError, match="at least 1"):
        segment_indices(*size)


def test_training_needs_a_seed():
    with pytest.raises(ValueError, match="needs a `seed`"):
        segment_indices_tf(8, 8, training=True)
    with pytest.raises(ValueError, match="at least 1"):
        segment_indices_tf(8, 0, training=False)
