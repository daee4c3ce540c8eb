"""Multi-scale crops and flips: the official geometry, one draw per clip."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tsi_keras.data.augmentation import CROP_POSITIONS
from tsi_keras.data.augmentation import multi_scale_crop_box
from tsi_keras.data.augmentation import random_flip
from tsi_keras.data.augmentation import random_resized_crop_box
from tsi_keras.data.crop_resizing import decode_crop
from tsi_keras.data.crop_resizing import stored_size

SCALES = (1.0, 0.875, 0.75, 0.66)
# (x, y) of 224-pixel crops of 340x256 frames in the official code.
OFFSETS_224 = {
    (0, 0), (116, 0), (0, 32), (116, 32), (58, 16), (0, 16), (116, 16),
    (58, 32), (58, 0), (29, 8), (87, 8), (29, 24), (87, 24),
}  # fmt: skip


def official_boxes(height: int, width: int, crop: int) -> set[tuple[int, ...]]:
    """Every (top, left, height, width) the official code can draw."""
    sizes = [int(min(height, width) * scale) for scale in SCALES]
    sizes = [crop if abs(size - crop) < 3 else size for size in sizes]
    boxes = set()
    for i, h in enumerate(sizes):
        for j, w in enumerate(sizes):
            for x, y in CROP_POSITIONS if abs(i - j) <= 1 else ():
                boxes.add(((height - h) // 4 * y, (width - w) // 4 * x, h, w))
    return boxes


def drawn_boxes(height: int, width: int, crop: int, count: int) -> np.ndarray:
    """Draw `count` boxes in a tf.data map."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: multi_scale_crop_box(height, width, crop, SCALES, tf.stack([i, 5]))
    )
    return np.stack(list(dataset.as_numpy_iterator()))


def jpegs_of(frames: np.ndarray) -> tf.Tensor:
    """Encode frames, string (T,)."""
    buffers = [io.BytesIO() for _ in frames]
    for buffer, frame in zip(buffers, frames, strict=True):
        Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return tf.constant([buffer.getvalue() for buffer in buffers])


def coordinate_frame(height: int, width: int) -> np.ndarray:
    """A frame whose red is the column and whose green is the row, uint8 (H, W, 3)."""
    frame = np.full((height, width, 3), 128, np.uint8)
    frame[..., 0] = np.arange(width)
    frame[..., 1] = np.arange(height)[:, None]
    return frame


def random_crop(jpegs, crop_size, seed):
    """A multi-scale crop of encoded frames."""
    box = multi_scale_crop_box(*stored_size(jpegs), crop_size, SCALES, seed)
    return decode_crop(jpegs, box, crop_size)


def draw_clip(seed, frames, crop_size=32):
    """A random crop of `frames`, which are encoded first."""
    return random_crop(jpegs_of(frames), crop_size, seed)


@pytest.mark.parametrize(
    "frame", [(256, 340, 224), (340, 256, 224), (72, 96, 64), (240, 240, 112)]
)
def test_boxes_are_all_the_official_ones(frame):
    boxes = drawn_boxes(*frame, count=2500)
    assert boxes.dtype == np.int32
    assert {tuple(box) for box in boxes.tolist()} == official_boxes(*frame)


def test_golden_offsets():
    boxes = drawn_boxes(256, 340, 224, count=2500)
    whole = boxes[(boxes[:, 2] == 224) & (boxes[:, 3] == 224)]
    assert {(x, y) for y, x, _, _ in whole.tolist()} == OFFSETS_224
    assert set(boxes[:, 2]) == {256, 224, 192, 168}


def test_pairs_and_positions_are_equally_likely():
    boxes = drawn_boxes(256, 340, 224, count=3900)
    sizes, counts = np.unique(boxes[:, 2:], axis=0, return_counts=True)
    assert len(sizes) == 10
    assert counts.min() > 320 and counts.max() < 460  # 390 expected
    centre = (boxes[:, 0] == (256 - boxes[:, 2]) // 4 * 2) & (
        boxes[:, 1] == (340 - boxes[:, 3]) // 4 * 2
    )
    # 1 of 13, and for the 3 of 10 pairs as high as the frame 3 of 13 (no margin).
    assert 0.07 < centre.mean() < 0.15


@pytest.mark.parametrize("frame", [(63, 63, 64), (62, 90, 64), (20, 30, 64)])
def test_boxes_never_leave_the_frame(frame):
    height, width, _ = frame
    top, left, box_height, box_width = drawn_boxes(*frame, count=300).T
    assert (top >= 0).all() and (top + box_height <= height).all()
    assert (left >= 0).all() and (left + box_width <= width).all()
    assert (box_height > 0).all() and (box_width > 0).all()


def test_equal_seeds_draw_equal_boxes_in_eager_and_tf_data():
    eager = [
        multi_scale_crop_box(72, 96, 64, SCALES, [i, 5]).numpy().tolist()
        for i in range(20)
    ]
    assert drawn_boxes(72, 96, 64, count=20).tolist() == eager


@pytest.mark.parametrize("crop_size", [20, 32, 48])
def test_all_frames_of_a_clip_get_the_same_region(crop_size):
    """Covers the filtered, the plain and the enlarging resize of a 36x52 frame."""
    frames = np.stack([coordinate_frame(36, 52)] * 4)
    regions = set()
    for i in range(12):
        clip = draw_clip(tf.constant([i, 1]), frames, crop_size).numpy()
        assert clip.shape == (4, crop_size, crop_size, 3) and clip.dtype == np.uint8
        assert (clip == clip[:1]).all()
        regions.add((int(clip[0, 0, 0, 0]), int(clip[0, 0, 0, 1])))
    assert len(regions) > 3  # and clips differ from each other


@pytest.mark.parametrize("crop_size", [24, 32, 48])
def test_clip_shows_the_box_that_was_drawn(crop_size):
    frames = coordinate_frame(36, 52)[None]
    for i in range(8):
        seed = tf.constant([i, 2])
        box = multi_scale_crop_box(36, 52, crop_size, SCALES, seed).numpy()
        top, left, height, width = box
        clip = draw_clip(seed, frames, crop_size).numpy()[0].astype(float)
        middle = clip[crop_size // 2 - 1 : crop_size // 2 + 1]
        middle = middle[:, crop_size // 2 - 1 : crop_size // 2 + 1].mean((0, 1))
        assert abs(middle[0] - (left + (width - 1) / 2)) < 2.5
        assert abs(middle[1] - (top + (height - 1) / 2)) < 2.5
        # The slope along the crop is the scale of the resize.
        red = clip[crop_size // 2, :, 0]
        slope = np.polyfit(np.arange(crop_size), red, 1)[0]
        assert abs(slope - width / crop_size) < 0.12


def test_crop_agrees_in_eager_and_tf_data():
    frames = np.stack([coordinate_frame(36, 52), 255 - coordinate_frame(36, 52)])
    seed = tf.constant([4, 4], tf.int64)
    eager = draw_clip(seed, frames)
    dataset = tf.data.Dataset.from_tensors(jpegs_of(frames)).map(
        lambda x: random_crop(x, 32, seed)
    )
    assert dataset.element_spec.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(next(iter(dataset)), eager)


def test_damaged_frame_raises():
    jpegs = tf.concat([jpegs_of(coordinate_frame(36, 52)[None]), [b"broken"]], 0)
    for order in (jpegs, jpegs[::-1]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            random_crop(order, 32, [0, 0])


def resized_boxes(height: int, width: int, area, aspect, count: int) -> np.ndarray:
    """Draw `count` boxes of random resized crops in a tf.data map."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: random_resized_crop_box(height, width, area, aspect, tf.stack([i, 5]))
    )
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("area", [(0.08, 1.0), (0.3, 0.5)])
def test_resized_crops_are_within_area_and_aspect(area):
    boxes = resized_boxes(256, 340, area, (3 / 4, 4 / 3), count=600)
    assert boxes.dtype == np.int32
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (top + height <= 256).all()
    assert (left >= 0).all() and (left + width <= 340).all()
    shares = height * width / (256 * 340)
    assert shares.min() > area[0] - 0.01 and shares.max() < area[1] + 0.01
    # The whole range is drawn from, as far as the aspect leaves room in the frame.
    assert shares.min() < area[0] + 0.03 and shares.max() > 0.9 * area[1] - 0.02
    assert (width / height).min() > 0.73 and (width / height).max() < 1.37
    assert (width / height).min() < 0.78 and (width / height).max() > 1.28
    assert len(np.unique(left)) > 100 and len(np.unique(top)) > 80


def test_frames_without_such_a_region_are_taken_whole():
    boxes = resized_boxes(20, 400, (0.9, 1.0), (1.0, 1.0), count=3)
    assert boxes.tolist() == [[0, 0, 20, 400]] * 3


def test_resized_crop_decodes_the_box_that_was_drawn():
    frames = np.stack([coordinate_frame(36, 52)] * 2)
    for i in range(6):
        seed = tf.constant([i, 8], tf.int64)
        box = random_resized_crop_box(36, 52, (0.2, 1.0), (0.5, 2.0), seed)
        clip = decode_crop(jpegs_of(frames), box, 16).numpy().astype(float)
        assert clip.shape == (2, 16, 16, 3) and (clip[0] == clip[1]).all()
        top, left, height, width = box.numpy()
        middle = clip[0, 7:9, 7:9].mean((0, 1))
        assert abs(middle[0] - (left + (width - 1) / 2)) < 2.5
        assert abs(middle[1] - (top + (height - 1) / 2)) < 2.5


def flips(label: int, flip_map: list[int], eager: bool, count: int = 200):
    """Flip one clip with many seeds: [(frames, label), ...]."""
    clip = tf.constant(np.stack([coordinate_frame(6, 9)] * 3))

    def flip(i):
        return random_flip(clip, tf.constant(label), np.array(flip_map), (i, 3))

    if eager:
        return [(f.numpy(), int(k)) for f, k in map(flip, range(count))]
    dataset = tf.data.Dataset.range(count, output_type=tf.int32).map(flip)
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize(("label", "mirrored"), [(0, 0), (1, 2), (2, 1)])
def test_flip_mirrors_the_clip_and_its_label(eager, label, mirrored):
    clip = np.stack([coordinate_frame(6, 9)] * 3)
    count = 0
    for frames, new_label in flips(label, [0, 2, 1, -1], eager):
        flipped = frames[0, 0, 0, 0] != clip[0, 0, 0, 0]
        expected = clip[:, :, ::-1] if flipped else clip
        np.testing.assert_array_equal(frames, expected)
        assert new_label == (mirrored if flipped else label)
        count += flipped
    assert 70 < count < 130


def test_unmirrorable_class_stays_as_it_is():
    clip = np.stack([coordinate_frame(6, 9)] * 3)
    for frames, label in flips(3, [0, 2, 1, -1], eager=False):
        np.testing.assert_array_equal(frames, clip)
        assert label == 3
