"""Colour jitter: known colours, the same change for all frames, reproducible draws."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.augmentation_color import color_jitter
from tsi_keras.data.augmentation_color import recolor

STRONG = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}


@pytest.fixture
def clip():
    """uint8 (3, 6, 8, 3) of muted colours, which no test drives out of range."""
    rng = np.random.default_rng(0)
    return rng.integers(90, 140, size=(3, 6, 8, 3)).astype(np.uint8)


def grey(clip: np.ndarray) -> np.ndarray:
    """Luma of the clip with a channel of size 1."""
    return (clip * np.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)


def test_each_property_by_its_definition(clip):
    x = clip.astype(float)
    mean = grey(x).mean()
    expected = {
        "brightness": 1.3 * x,
        "contrast": mean + 1.3 * (x - mean),
        "saturation": grey(x) + 1.3 * (x - grey(x)),
    }
    for name, values in expected.items():
        result = recolor(clip, **{name: 1.3}).numpy()
        assert result.dtype == np.uint8
        # Rounded once; the published YIQ matrix has four digits.
        np.testing.assert_allclose(result, values, atol=0.6, err_msg=name)


def test_nothing_to_do_changes_nothing(clip):
    np.testing.assert_array_equal(recolor(clip), clip)
    np.testing.assert_array_equal(recolor(clip, turn=1.0), clip)


def test_extremes():
    clip = np.array([[[[200, 30, 90]]]], np.uint8)
    assert recolor(clip, brightness=2.0).numpy().ravel().tolist() == [255, 60, 180]
    assert recolor(clip, brightness=0.0).numpy().ravel().tolist() == [0, 0, 0]
    assert len(set(recolor(clip, saturation=0.0).numpy().ravel().tolist())) == 1
    assert recolor(clip, contrast=0.0).numpy().max() == round(grey(clip).item())


def test_hue_turns_colours_and_keeps_luma():
    clip = np.array([[[[150, 100, 100]]]], np.uint8)  # red
    hues = []
    for third in range(3):
        turned = recolor(clip, turn=third / 3).numpy()
        assert abs(grey(turned) - grey(clip)).max() < 1.0
        hues.append(colorsys.rgb_to_hsv(*turned.ravel() / 255)[0])
    steps = np.diff([*hues, hues[0]])
    steps = np.abs((steps + 0.5) % 1 - 0.5)
    # Thirds of the circle, within what YIQ and HSV differ.
    np.testing.assert_allclose(steps, 1 / 3, atol=0.08)


def test_all_frames_of_a_clip_change_alike(clip):
    still = np.repeat(clip[:1], 4, axis=0)
    seen = set()
    for i in range(12):
        changed = color_jitter(still, seed=(i, 1), **STRONG).numpy()
        assert (changed == changed[:1]).all()
        seen.add(changed[0].tobytes())
    assert len(seen) == 12
    # In a moving clip too: reordered frames give the reordered result.
    once = color_jitter(clip, seed=(5, 1), **STRONG).numpy()
    back = color_jitter(clip[::-1], seed=(5, 1), **STRONG).numpy()
    np.testing.assert_array_equal(back[::-1], once)


def test_draws_cover_the_range_and_no_more():
    clip = np.full((1, 1, 1, 3), 100, np.uint8)
    draws = [
        int(
            color_jitter(
                clip, brightness=0.5, contrast=0, saturation=0, hue=0, seed=(i, 2)
            )[0, 0, 0, 0]
        )
        for i in range(150)
    ]
    assert 50 <= min(draws) < 60 and 140 < max(draws) <= 150
    assert 90 < np.mean(draws) < 110


def test_equal_seeds_draw_equally_in_eager_and_tf_data(clip):
    def jitter(i):
        return color_jitter(clip, seed=tf.stack([i, 7]), **STRONG)

    eager = [jitter(tf.constant(i, tf.int64)).numpy() for i in range(4)]
    dataset = tf.data.Dataset.range(4).map(jitter)
    for own, other in zip(eager, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(own, other)
