"""Random erasing and the boxes of CutMix: where they lie, and in all frames alike."""

import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.augmentation_boxes import cut_box
from tsi_keras.data.augmentation_boxes import paste
from tsi_keras.data.augmentation_boxes import random_erasing

SIZE = (30, 40)


@pytest.fixture(scope="module")
def clip():
    """uint8 (3, 30, 40, 3), no two frames alike."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(3, *SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def erased(clip):
    """200 draws of erasing, with probability 1/2."""
    dataset = tf.data.Dataset.range(200).map(
        lambda i: random_erasing(tf.constant(clip), 0.5, tf.stack([i, 2]))
    )
    return np.stack(list(dataset.as_numpy_iterator()))


def boxes_of(clip: np.ndarray, results: np.ndarray) -> list[tuple[int, ...]]:
    """(top, left, height, width) of what changed, for those that did."""
    boxes = []
    for result in results:
        rows, columns = np.where((result != clip).any((0, 3)))
        if len(rows):
            top, left = rows.min(), columns.min()
            boxes.append((top, left, rows.max() - top + 1, columns.max() - left + 1))
    return boxes


def test_half_of_the_clips_have_a_box(clip, erased):
    assert erased.dtype == np.uint8 and erased.shape == (200, *clip.shape)
    assert 75 < len(boxes_of(clip, erased)) < 125


def test_boxes_are_within_the_published_ranges(clip, erased):
    boxes = np.array(boxes_of(clip, erased))
    area = boxes[:, 2] * boxes[:, 3] / (SIZE[0] * SIZE[1])
    aspect = boxes[:, 2] / boxes[:, 3]
    # A pixel more or less by rounding.
    assert area.min() > 0.01 and area.max() < 0.38
    assert area.min() < 0.08 and area.max() > 0.25
    assert aspect.min() < 0.5 and aspect.max() > 1.8
    assert len(np.unique(boxes[:, 0])) > 10 and len(np.unique(boxes[:, 1])) > 10


def test_the_box_and_its_noise_stand_still(clip, erased):
    changed = 0
    for result in erased:
        inside = (result != clip).any((0, 3))
        if inside.any():
            rows, columns = np.where(inside)
            box = result[
                :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
            ]
            assert (box == box[:1]).all()
            # Noise, of all values.
            assert box[0].std() > 40 and len(np.unique(box[0])) > 20
            changed += 1
    assert changed > 50


def test_probabilities_at_their_ends(clip):
    for i in range(20):
        never = random_erasing(tf.constant(clip), 0.0, (i, 1)).numpy()
        assert (never == clip).all()
        assert (random_erasing(tf.constant(clip), 1.0, (i, 1)).numpy() != clip).any()


def test_equal_seeds_erase_equally(clip, erased):
    for i in (0, 1, 2, 3):
        eager = random_erasing(tf.constant(clip), 0.5, tf.constant([i, 2], tf.int64))
        np.testing.assert_array_equal(eager, erased[i])


def test_paste_replaces_exactly_the_box(clip):
    other = 255 - clip
    for box in [(0, 0, 30, 40), (4, 7, 9, 11), (29, 39, 1, 1), (5, 5, 0, 7)]:
        top, left, height, width = box
        expected = clip.copy()
        region = (slice(None), slice(top, top + height), slice(left, left + width))
        expected[region] = other[region]
        np.testing.assert_array_equal(paste(clip, other, tf.constant(box)), expected)


def test_cut_boxes_have_the_share_until_the_border():
    def draw(i):
        share = tf.cast(i % 10, tf.float32) / 10
        return share, cut_box(30, 40, share, tf.stack([i, 1]))

    drawn = list(tf.data.Dataset.range(600).map(draw).as_numpy_iterator())
    for share, (top, left, height, width) in drawn:
        assert top >= 0 and left >= 0 and top + height <= 30 and left + width <= 40
        assert height * width <= share * 1200
    whole = [h * w / (s * 1200) for s, (_, _, h, w) in drawn if 0.05 < s < 0.35]
    # Boxes that meet no border have nearly all of their share.
    assert np.quantile(whole, 0.9) > 0.8
    assert all(h * w == 0 for s, (_, _, h, w) in drawn if s == 0)
