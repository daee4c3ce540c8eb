"""Crops that the device resizes: the pixels of the host, whatever lies beside the crop."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.making_records import CLASSES
from tests.data.making_records import record
from tests.data.making_records import write_dataset
from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.crop_resizing import decode_crop
from tsi_keras.data.crop_resizing import decode_crop_for_device
from tsi_keras.data.crop_resizing import resize_crops
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.utils.errors import InputError

SIZE = 28
RNG = np.random.default_rng(5)


def by_hand(image: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with half-pixel centres, float64 `(H, W, 3)` to `(size, size, 3)`."""
    for axis in (0, 1):
        count = image.shape[axis]
        place = (np.arange(size) + 0.5) * count / size - 0.5
        place = np.clip(place, 0, count - 1)
        first = np.floor(place).astype(int)
        share = (place - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        second = np.minimum(first + 1, count - 1)
        below, above = image.take(first, axis), image.take(second, axis)
        image = below * (1 - share) + above * share
    return image


def padded(crops: list[np.ndarray], side: int) -> np.ndarray:
    """Crops `(T, H, W, 3)` in the corner of noise."""
    batch = RNG.integers(0, 256, (len(crops), *crops[0].shape[:1], side, side, 3))
    for canvas, crop in zip(batch, crops, strict=True):
        canvas[:, : crop.shape[1], : crop.shape[2]] = crop
    return batch.astype(np.uint8)


def jpegs_of(frames: np.ndarray) -> tf.Tensor:
    """Encode frames, string (T,)."""
    buffers = [io.BytesIO() for _ in frames]
    for buffer, frame in zip(buffers, frames, strict=True):
        Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return tf.constant([buffer.getvalue() for buffer in buffers])


def test_resized_crops_are_bilinear_and_the_rest_is_ignored():
    sides = [(21, 24), (32, 28), (28, 28), (1, 35), (35, 1), (27, 33)]
    crops = [RNG.integers(0, 256, (2, *side, 3)).astype(np.uint8) for side in sides]
    resize = tf.function(lambda x, sides: resize_crops(x, sides, SIZE))
    found = resize(tf.constant(padded(crops, 35)), tf.constant(sides)).numpy()
    assert found.shape == (6, 2, SIZE, SIZE, 3) and found.dtype == np.uint8
    for clip, crop in zip(found, crops, strict=True):
        for frame, image in zip(clip, crop, strict=True):
            expected = by_hand(image.astype(np.float64), SIZE)
            assert np.abs(frame - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("box", [(0, 3, 21, 24), (2, 0, 32, 35), (4, 5, 28, 28)])
def test_host_and_device_give_the_same_pixels(box):
    frames = RNG.integers(0, 256, (3, 36, 52, 3)).astype(np.uint8)
    jpegs, box = jpegs_of(frames), tf.constant(box)
    crop = decode_crop_for_device(jpegs, box, SIZE, 35)
    assert crop["crops"].shape == (3, *box[2:], 3)
    assert crop["sides"].numpy().tolist() == box[2:].numpy().tolist()
    batch = padded([crop["crops"].numpy()], 35)
    found = resize_crops(tf.constant(batch), crop["sides"][None], SIZE)[0]
    np.testing.assert_array_equal(found, decode_crop(jpegs, box, SIZE))


def test_crops_too_large_for_the_device_are_resized_before():
    jpegs = jpegs_of(RNG.integers(0, 256, (3, 36, 52, 3)).astype(np.uint8))
    box = tf.constant((0, 0, 36, 20))
    crop = decode_crop_for_device(jpegs, box, SIZE, 35)
    assert crop["sides"].numpy().tolist() == [SIZE, SIZE]
    np.testing.assert_array_equal(crop["crops"], decode_crop(jpegs, box, SIZE))


def options(**values) -> ClipOptions:
    """Clips of 18 pixels from frames of 24."""
    return ClipOptions(**{"num_frames": 4, "crop_size": 18, "short_side": 24} | values)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve videos in two shards."""
    records = [record(video, 6 + video) for video in range(12)]
    folder = tmp_path_factory.mktemp("data")
    return write_dataset(folder, [records[:7], records[7:]])


def batches(data, clips, count=6, **values):
    """The first batches of a run, with ids."""
    values = {"batch_size": 4, "seed": 3, "deterministic": True} | values
    dataset = make_dataset(
        data, "train", clips, training=True, repeat=True, with_ids=True, **values
    )
    return dataset, list(dataset.take(count))


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(crop="random_resized", area=(0.2, 1.0))],
)
@pytest.mark.parametrize("places", [{}, {"parts": 2}, {"worker": 1, "workers": 2}])
def test_batches_are_those_of_the_host(data, augmentation, places):
    clips = options(augmentation=augmentation)
    _, expected = batches(data, clips, **places)
    dataset, found = batches(data, options(**vars(clips) | ON_DEVICE), **places)
    spec = dataset.element_spec[0]
    assert spec["crops"].shape == (*expected[0][0].shape[:2], 22, 22, 3)
    seen = set()
    for (crops, *facts), (frames, *others) in zip(found, expected, strict=True):
        clip = resize_crops(crops["crops"], crops["sides"], 18)
        np.testing.assert_array_equal(clip, frames)
        for fact, other in zip(facts, others, strict=True):
            np.testing.assert_array_equal(fact, other)
        seen |= {tuple(sides) for sides in crops["sides"].numpy().tolist()}
    assert len(seen) > 2  # of different sizes
    assert max(map(max, seen)) > 18 > min(map(min, seen))


ON_DEVICE = {"resize_on": "device"}


def test_clips_are_mirrored_with_their_labels(data):
    clips = options(flip="swap")
    _, expected = batches(data, clips)
    _, found = batches(data, options(flip="swap", **ON_DEVICE))
    mirrored = 0
    for (crops, *facts), (frames, *others) in zip(found, expected, strict=True):
        clip = resize_crops(crops["crops"], crops["sides"], 18).numpy()
        # The mirrored grid rounds the other way.
        assert np.abs(clip.astype(int) - frames.numpy()).max() <= 1
        np.testing.assert_array_equal(facts[0], others[0])
        mirrored += (clip[:, 0, 0, 0, 0] > clip[:, 0, 0, -1, 0]).sum()
    assert 0 < mirrored < 24


def test_the_short_side_of_the_records_bounds_the_batch(tmp_path):
    write_dataset(tmp_path, [[record(video, 6) for video in range(4)]])
    facts = (tmp_path / "dataset.json").read_text()
    assert '"options": {}' in facts
    facts = facts.replace('"options": {}', '"options": {"short_side": 20}')
    (tmp_path / "dataset.json").write_text(facts)
    dataset, _ = batches(tmp_path, options(**ON_DEVICE), 0)
    assert dataset.element_spec[0]["crops"].shape == (4, 4, 20, 20, 3)


def test_evaluation_is_not_concerned(data):
    arguments = {"batch_size": 4, "training": False}
    dataset = make_dataset(data, "train", options(**ON_DEVICE), **arguments)
    assert dataset.element_spec[0].shape == (None, 4, 18, 18, 3)


@pytest.mark.parametrize("name", ["brightness", "hue", "erasing", "mixup", "cutmix"])
def test_what_needs_resized_clips_is_refused(name):
    augmentation = Augmentation(**{name: 0.5})
    with pytest.raises(InputError, match=f"'device'.*'{name}'"):
        options(augmentation=augmentation, **ON_DEVICE)
    assert options(augmentation=augmentation).resize_on == "host"


def test_other_places_are_refused():
    with pytest.raises(InputError, match=r"`resize_on` must be one of.*'gpu'"):
        options(resize_on="gpu")


def test_the_flip_has_something_to_swap():
    assert {"go left", "go right"} <= set(CLASSES)
