"""Sampling and augmentation in the input pipeline: one draw per clip and video."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.data.making_records import CLASSES
from tests.data.making_records import jpeg
from tests.data.making_records import record
from tests.data.making_records import write_dataset
from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.sampling import clip_indices
from tsi_keras.utils.errors import InputError

EVERYTHING = Augmentation(
    crop="random_resized",
    area=(0.3, 1.0),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    erasing=0.5,
)
MIXING = Augmentation(mixup=0.8, cutmix=1.0)


def options(augmentation=EVERYTHING, **values) -> ClipOptions:
    """Small clips, flipped and augmented."""
    values = {"num_frames": 4, "crop_size": 16, "short_side": 24} | values
    return ClipOptions(flip="swap", augmentation=augmentation, **values)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve videos in two shards."""
    records = [record(video, 6 + video) for video in range(12)]
    folder = tmp_path_factory.mktemp("data")
    return write_dataset(folder, [records[:7], records[7:]])


def training(data, clips, batches: int, **values) -> list[tuple[np.ndarray, ...]]:
    """The first batches of (frames, labels, ids) of a run."""
    values = {"batch_size": 4, "seed": 3, "deterministic": True} | values
    dataset = make_dataset(
        data, "train", clips, training=True, repeat=True, with_ids=True, **values
    )
    return list(dataset.take(batches).as_numpy_iterator())


def by_id(batches) -> dict[bytes, bytes]:
    """The pixels of each video's clip."""
    return {
        name: clip.tobytes()
        for frames, _, ids in batches
        for clip, name in zip(frames, ids, strict=True)
    }


@pytest.mark.parametrize("rand_augment", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_draws_are_a_function_of_seed_epoch_and_video(data, rand_augment):
    if rand_augment:
        pytest.importorskip("official.vision.ops.augment")
    clips = options(Augmentation(erasing=0.5, hue=0.1, rand_augment=rand_augment))
    if not rand_augment:
        clips = options()
    epoch = by_id(training(data, clips, 3))
    assert len(epoch) == 12
    # Whatever the batches and the order are; in the next epoch and run all differ.
    assert by_id(training(data, clips, 12, batch_size=1, deterministic=False)) == epoch
    assert by_id(training(data, clips, 2, batch_size=6, shuffle_buffer=2)) == epoch
    later = by_id(training(data, clips, 3, first_epoch=1))
    other = by_id(training(data, clips, 3, seed=4))
    for name, clip in epoch.items():
        assert later[name] != clip and other[name] != clip


def test_all_frames_of_a_still_video_stay_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.data.making_records.jpeg", lambda video, _: jpeg(video, 3)
    )
    data = write_dataset(tmp_path, [[record(video, 9) for video in range(6)]])
    for augmentation in (EVERYTHING, MIXING):
        for frames, _, _ in training(data, options(augmentation), 6, batch_size=2):
            assert frames.dtype == np.uint8
            for clip in frames:
                assert (clip == clip[:1]).all()


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_training_and_evaluation_sample_alike(data, sampling):
    clips = options(Augmentation(), sampling=sampling, scales=(1.0,))
    dataset = make_dataset(data, "train", clips, batch_size=12, training=False)
    [(frames, _)] = dataset.as_numpy_iterator()
    for video, clip in enumerate(frames):
        [indices] = clip_indices(6 + video, 4, sampling)
        jpegs = tf.constant([jpeg(video, i) for i in indices])
        expected = resize_and_center_crop(
            decode_frames(jpegs), short_side=24, crop_size=16
        )
        np.testing.assert_array_equal(clip, expected)
    for frames, _, ids in training(data, clips, 3):
        for clip, name in zip(frames, ids, strict=True):
            video = int(name[1:])
            numbers = np.rint(clip[..., 2].astype(float).mean((1, 2)) / 8).astype(int)
            if sampling == "dense":  # the window holds more than the video
                assert numbers.tolist() == [i * 16 % (6 + video) for i in range(4)]
            else:
                average = (6 + video) // 4
                assert (numbers // average).tolist() == [0, 1, 2, 3]


def test_mixed_labels_are_shares_and_evaluation_keeps_integers(data):
    clips = options(MIXING)
    dataset = make_dataset(data, "train", clips, batch_size=4, training=True)
    frames, labels = dataset.element_spec
    assert frames.shape == (4, 4, 16, 16, 3) and frames.dtype == tf.uint8
    assert labels.shape == (4, len(CLASSES)) and labels.dtype == tf.float32
    several = 0
    for _, labels, _ in training(data, clips, 9):
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
        several += (np.count_nonzero(labels, axis=1) > 1).sum()
    assert several > 10
    dataset = make_dataset(data, "train", clips, batch_size=4, training=False)
    assert dataset.element_spec[1].dtype == tf.int32


def test_parts_and_workers_have_the_shares_of_the_whole_batch(data):
    clips = options(MIXING)
    whole = training(data, clips, 3)
    parts = training(data, clips, 6, parts=2)
    shares = [training(data, clips, 3, worker=w, workers=2) for w in (0, 1)]
    for number, batch in enumerate(whole):
        pairs = (parts[2 * number : 2 * number + 2], [s[number] for s in shares])
        for pieces in pairs:
            for value, pieced in zip(batch, zip(*pieces, strict=True), strict=True):
                np.testing.assert_array_equal(np.concatenate(pieced), value)


def test_a_resumed_epoch_goes_on_as_it_was(data):
    clips = options(MIXING)
    whole = training(data, clips, 5)
    resumed = training(data, clips, 4, first_step=1)
    for batch, again in zip(whole[1:], resumed, strict=True):
        for value, wanted in zip(again, batch, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    "values",
    [{"batch_size": 3}, {"parts": 4}, {"drop_remainder": False, "repeat": False}],
)
def test_batches_without_pairs_are_refused(data, values):
    with pytest.raises(InputError, match="`mixup` and `cutmix` need full batches"):
        arguments = {"batch_size": 4, "repeat": True} | values
        make_dataset(data, "train", options(MIXING), training=True, **arguments)
