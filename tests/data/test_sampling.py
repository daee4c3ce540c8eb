"""Frame sampling: golden vectors, the official formulas, NumPy against TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.sampling import clip_indices
from tsi_keras.data.sampling import clip_indices_tf
from tsi_keras.data.sampling import draws_tf

# From the official TSM code, counted from 1 as there.
GOLDEN = {
    (42, 8): [3, 8, 14, 19, 24, 29, 35, 40],
    (42, 16): [2, 4, 7, 10, 12, 15, 18, 20, 23, 25, 28, 31, 33, 36, 39, 41],
    (5, 8): [1, 1, 2, 3, 3, 4, 5, 5],
    (8, 8): [1, 2, 3, 4, 5, 6, 7, 8],
    (9, 8): [1, 2, 3, 4, 6, 7, 8, 9],
    (100, 8): [7, 19, 32, 44, 57, 69, 82, 94],
}
LENGTHS = (1, 2, 7, 8, 10, 16)
FRAMES = (*range(1, 131), 299, 300, 328, 1000, 4321)
# (sampling, clips) of an evaluation.
TESTS = [("segments", 1), ("segments", 3), ("twice", 2), ("dense", 1), ("dense", 10)]


class Official:
    """`_sample_indices` and `_get_test_indices` of the official TSM code, from 0.

    `uniform` are numbers in [0, 1) in place of NumPy's generator: the official
    `randint(0, high)` is the same integer as `int(uniform * high)` would be.
    """

    @staticmethod
    def train(n, length, uniform):
        average = n // length
        if average > 0:
            return [i * average + int(uniform[i] * average) for i in range(length)]
        return [0] * length

    @staticmethod
    def test(n, length):
        tick = n / float(length)
        return [int(tick / 2.0 + tick * x) for x in range(length)]

    @staticmethod
    def twice(n, length):
        tick = n / float(length)
        return [Official.test(n, length), [int(tick * x) for x in range(length)]]

    @staticmethod
    def dense(n, length, start):
        return [(i * (64 // length) + start) % n for i in range(length)]

    @staticmethod
    def dense_train(n, length, uniform):
        position = max(1, 1 + n - 64)
        start = 0 if position == 1 else int(uniform * (position - 1))
        return Official.dense(n, length, start)

    @staticmethod
    def dense_test(n, length, clips):
        position = max(1, 1 + n - 64)
        starts = np.linspace(0, position - 1, num=clips, dtype=int)
        return [Official.dense(n, length, int(start)) for start in starts]


def expected_test(n: int, length: int, sampling: str, clips: int) -> list[list[int]]:
    """What an evaluation samples, from the official formulas as far as these go."""
    if (sampling, clips) == ("dense", 1):
        return [Official.dense(n, length, max(0, n - 64) // 2)]
    if sampling == "dense":
        return Official.dense_test(n, length, clips)
    if sampling == "twice":
        return Official.twice(n, length)
    # The centres of clips * length segments, dealt out in turn.
    centres = Official.test(n, length * clips)
    return [centres[clip::clips] for clip in range(clips)]


def from_graph(sampling: str, length: int, clips: int, frames=FRAMES, **options):
    """The TensorFlow version for many videos within one tf.data map."""
    dataset = tf.data.Dataset.from_tensor_slices(list(frames)).map(
        lambda n: clip_indices_tf(n, length, sampling, clips=clips, **options)
    )
    assert dataset.element_spec.shape == (clips, length)
    assert dataset.element_spec.dtype == tf.int32
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("size", GOLDEN, ids=str)
def test_golden_centres(size):
    indices = clip_indices(*size)
    assert indices.dtype == np.int32 and indices.shape == (1, size[1])
    assert (indices[0] + 1).tolist() == GOLDEN[size]
    assert (clip_indices_tf(*size)[0].numpy() + 1).tolist() == GOLDEN[size]


def test_golden_second_clip_and_dense_windows():
    twice = clip_indices(42, 8, "twice", clips=2) + 1
    assert twice.tolist() == [GOLDEN[42, 8], [1, 6, 11, 16, 22, 27, 32, 37]]
    starts = clip_indices(300, 8, "dense", clips=10)[:, 0]
    assert starts.tolist() == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]
    short = clip_indices(40, 8, "dense") + 1
    assert short.tolist() == [[1, 9, 17, 25, 33, 1, 9, 17]]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("sampling", "clips"), [*TESTS, ("dense", 7)])
def test_evaluation_is_the_official_one_in_numpy_and_tf_data(sampling, clips, length):
    graph = from_graph(sampling, length, clips)
    for n, indices in zip(FRAMES, graph, strict=True):
        expected = expected_test(n, length, sampling, clips)
        assert clip_indices(n, length, sampling, clips=clips).tolist() == expected
        assert indices.tolist() == expected, n


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("clips", [1, 10])
@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_draws_follow_the_official_formula_in_numpy_and_tf_data(
    sampling, clips, length
):
    seed = tf.constant([length, clips], tf.int64)
    draws = draws_tf(length, clips, seed).numpy()
    graph = from_graph(sampling, length, clips, seed=seed, short_videos="first")
    for n, indices in zip(FRAMES, graph, strict=True):
        if sampling == "segments":
            expected = [Official.train(n, length, row) for row in draws]
        else:
            expected = [Official.dense_train(n, length, row[0]) for row in draws]
        from_numpy = clip_indices(
            n, length, sampling, clips=clips, draws=draws, short_videos="first"
        )
        assert from_numpy.tolist() == expected
        assert indices.tolist() == expected, n


def test_short_training_videos_are_spread_unless_asked_otherwise():
    """The one departure from the official training: no still pictures."""
    draws = np.full((2, 8), 0.99)
    for n in range(1, 8):
        spread = [Official.test(n, 8)] * 2
        assert clip_indices(n, 8, clips=2, draws=draws).tolist() == spread
        [graph] = from_graph("segments", 8, 2, frames=[n], seed=(1, 2))
        assert graph.tolist() == spread


def test_every_frame_is_drawn_equally_often():
    repeats = 800

    def draw(i):
        segments = clip_indices_tf(26, 4, seed=tf.stack([i, 3]))[0]
        return segments, clip_indices_tf(72, 4, "dense", seed=tf.stack([i, 3]))[0]

    dataset = tf.data.Dataset.range(repeats).map(draw)
    segments, dense = (
        np.stack(x) for x in zip(*dataset.as_numpy_iterator(), strict=True)
    )
    counts = np.bincount(segments.ravel(), minlength=26)
    # The average segment is rounded down: the last two frames are never drawn.
    assert counts[24:].tolist() == [0, 0]
    assert counts[:24].min() > 85 and counts[:24].max() < 185  # 133 expected
    offsets = segments % 6
    assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.12
    starts = np.bincount(dense[:, 0], minlength=9)
    # The official randint leaves the last of the 9 windows out.
    assert starts[8] == 0 and starts[:8].min() > 60 and starts[:8].max() < 145


def test_equal_seeds_draw_equal_frames_in_eager_and_graph_mode():
    def draw(seed):
        return clip_indices_tf(80, 8, clips=3, seed=seed)

    first = draw([1, 2]).numpy()
    assert draw([1, 2]).numpy().tolist() == first.tolist()
    assert tf.function(draw)(tf.constant([1, 2])).numpy().tolist() == first.tolist()
    assert draw([1, 3]).numpy().tolist() != first.tolist()
    assert len({tuple(row) for row in first.tolist()}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "`num_frames` must be at least 1"),
        ((8, 0), "at least 1. Received: length=0"),
        ((8, 8, "uniform"), "`sampling` must be one of"),
        ((80, 65, "dense"), "span 64 frames.*length=65"),
        ((8, 8, "twice"), "makes 2 clips. Received: clips=1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        clip_indices(*arguments)
    if arguments[0]:
        with pytest.raises(ValueError, match=message):
            clip_indices_tf(*arguments)


def test_draws_must_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 8\).*Received: \(1, 8\)"):
        clip_indices(80, 8, clips=2, draws=np.zeros((1, 8)))
    with pytest.raises(ValueError, match="takes no draws"):
        clip_indices_tf(80, 8, "twice", clips=2, seed=[0, 1])
    with pytest.raises(ValueError, match="`short_videos` must be one of"):
        clip_indices(80, 8, draws=np.zeros((1, 8)), short_videos="loop")
