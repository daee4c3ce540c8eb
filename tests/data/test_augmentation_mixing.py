"""MixUp and CutMix of clips: labels follow the pixels, draws follow the seeds."""

import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.data.augmentation_mixing import mix_batch

CLASSES = 5
SHAPE = (3, 20, 24, 3)  # of a clip


def batch(size: int, seed: int = 0):
    """Clips of one even colour each, which tell by how much they were mixed."""
    levels = np.where(np.arange(size) % 2, 250, 50)
    frames = np.broadcast_to(levels[:, None, None, None, None], (size, *SHAPE))
    labels = np.where(np.arange(size) % 2, 4, 1)
    seeds = np.stack([np.arange(size) + 1000 * seed, np.full(size, 9)], 1)
    return tf.constant(frames.astype(np.uint8)), tf.constant(labels), tf.constant(seeds)


def mixed(size=200, *, mixup=0.0, cutmix=0.0, share=1.0, seed=0):
    """Frames (B, ...), labels (B, K) and each clip's own share by its pixels (B,)."""
    frames, labels, seeds = batch(size, seed)
    new, soft = tf.function(mix_batch)(
        frames,
        labels,
        seeds,
        num_classes=CLASSES,
        mixup=mixup,
        cutmix=cutmix,
        share=share,
    )
    own = frames.numpy()[:, 0, 0, 0, 0].astype(float)
    other = 300 - own
    mean = new.numpy().reshape(size, -1).mean(1)
    return new.numpy(), soft.numpy(), (mean - other) / (own - other)


def own_label(soft: np.ndarray) -> np.ndarray:
    """The share of a clip's own class, (B,)."""
    return soft[np.arange(len(soft)), np.where(np.arange(len(soft)) % 2, 4, 1)]


@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.2, 0.3)])
def test_labels_are_the_shares_of_the_pixels(alphas):
    frames, soft, shares = mixed(mixup=alphas[0], cutmix=alphas[1])
    assert frames.dtype == np.uint8 and soft.dtype == np.float32
    assert soft.shape == (200, CLASSES)
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)
    # Within the rounding of MixUp's pixels.
    np.testing.assert_allclose(own_label(soft), shares, atol=0.5 / 200)
    assert (soft[:, [0, 2, 3]] == 0).all()
    assert (np.abs(shares - 0.5) < 0.3).any()


def test_cutmix_pastes_one_box_into_all_frames():
    frames, soft, shares = mixed(cutmix=1.0)
    np.testing.assert_allclose(own_label(soft), shares, atol=1e-6)  # exactly
    for clip, own in zip(frames, batch(200)[0].numpy()[:, 0, 0, 0, 0], strict=True):
        assert (clip == clip[:1]).all()
        assert set(np.unique(clip)) <= {50, 250}
        rows, columns = np.where((clip[0] != own).any(-1))
        if len(rows):
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert height * width == len(rows)  # a full rectangle


def test_mixup_is_even_over_the_clip():
    frames, _, shares = mixed(mixup=0.8)
    assert (frames == frames[:, :1, :1, :1, :1]).all()
    # Beta(0.8, 0.8): symmetric, and wider than uniform.
    assert abs(shares.mean() - 0.5) < 0.08
    assert 0.085 < shares.var() < 0.115  # 1 / (4 (2 * 0.8 + 1)) = 0.096


def test_alpha_shapes_the_distribution():
    """(tf-models-official's is uniform whatever alpha is: variance 0.083.)"""
    variance = {alpha: mixed(600, mixup=alpha)[2].var() for alpha in (0.2, 4.0)}
    assert variance[0.2] == pytest.approx(1 / 5.6, rel=0.15)
    assert variance[4.0] == pytest.approx(1 / 36, rel=0.2)


def test_half_of_the_clips_get_each_and_the_rest_stay():
    frames, soft, _ = mixed(400, mixup=1.0, cutmix=1.0, share=0.6)
    kept = (own_label(soft) == 1.0) & (
        frames.reshape(400, -1) == batch(400)[0].numpy().reshape(400, -1)
    ).all(1)
    assert 0.32 < kept.mean() < 0.5
    blended = np.array([bool(set(np.unique(clip)) - {50, 250}) for clip in frames])
    # Those of CutMix whose box is empty look like those that stay.
    assert 0.22 < blended.mean() < 0.38
    none, soft, _ = mixed(20, mixup=1.0, share=0.0)
    np.testing.assert_array_equal(none, batch(20)[0])
    assert (own_label(soft) == 1).all()


def test_draws_follow_the_seed_of_the_clip_alone():
    frames, labels, seeds = batch(8)

    def mix(part):
        new, soft = mix_batch(
            frames[part],
            labels[part],
            seeds[part],
            num_classes=CLASSES,
            mixup=0.8,
            cutmix=1.0,
            share=1.0,
        )
        return new.numpy(), soft.numpy()

    whole = mix(slice(None))
    # Any even share of the batch by itself: as workers and parts of a step do it.
    for part in (slice(0, 2), slice(2, 6), slice(6, 8)):
        for own, other in zip(mix(part), whole, strict=True):
            np.testing.assert_array_equal(own, other[part])
    assert not np.array_equal(mixed(8, mixup=0.8, cutmix=1.0, seed=1)[1], whole[1])


def test_shapes_stay_static():
    frames, labels, seeds = batch(4)
    dataset = tf.data.Dataset.from_tensors((frames, labels, seeds)).map(
        lambda *clips: mix_batch(
            *clips, num_classes=CLASSES, mixup=1.0, cutmix=0.0, share=1.0
        )
    )
    spec = dataset.element_spec
    assert spec[0].shape == (4, *SHAPE) and spec[1].shape == (4, CLASSES)
