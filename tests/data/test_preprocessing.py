"""Decode, resize and centre crop: against Pillow, eager, in tf.data and exported."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tsi_keras.data.crop_resizing import decode_regions
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.preprocessing import resize_frames
from tsi_keras.utils.errors import InputError


def smooth_frames(num_frames: int, height: int, width: int) -> np.ndarray:
    """Pictures with structure at several scales, uint8 (T, H, W, 3)."""
    y, x, t, c = np.meshgrid(
        np.arange(height),
        np.arange(width),
        np.arange(num_frames),
        np.arange(3),
        indexing="ij",
    )
    wave = np.sin(x / 5 + t) + np.cos(y / 3 + c) + np.sin((x + y) / 11)
    return np.uint8(127 + 40 * wave).transpose(2, 0, 1, 3)


def to_jpeg(frame: np.ndarray, quality: int = 90) -> bytes:
    """Encode one frame with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def in_tf_data(function, value):
    """Apply `function` in a tf.data map where only the rank of `value` is known."""
    value = tf.convert_to_tensor(value)
    spec = tf.TensorSpec([None] * value.shape.rank, value.dtype)
    dataset = tf.data.Dataset.from_generator(lambda: [value], output_signature=spec)
    return next(iter(dataset.map(function))).numpy()


@pytest.mark.parametrize("size", [(48, 80), (80, 48), (31, 57), (20, 33), (90, 40)])
def test_resize_is_pillows_bilinear_filter(size):
    frames = smooth_frames(2, *size)
    clip = resize_and_center_crop(frames, short_side=32, crop_size=24).numpy()
    assert clip.shape == (2, 24, 24, 3) and clip.dtype == np.uint8
    scale = 32 / min(size)
    height, width = (int(side * scale + 0.5) for side in size)
    top, left = (height - 24) // 2, (width - 24) // 2
    for frame, result in zip(frames, clip, strict=True):
        image = Image.fromarray(frame).resize((width, height), Image.BILINEAR)
        expected = np.array(image)[top : top + 24, left : left + 24]
        assert np.abs(expected.astype(int) - result).max() <= 1


@pytest.mark.parametrize("size", [(32, 47), (47, 32), (32, 32)])
def test_frames_of_the_right_size_are_not_resampled(size):
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    clip = resize_and_center_crop(frames, short_side=32, crop_size=25)
    top, left = (size[0] - 25) // 2, (size[1] - 25) // 2
    expected = frames[:, top : top + 25, left : left + 25]
    np.testing.assert_array_equal(clip, expected)


def test_extreme_values_survive_the_resize():
    frames = np.zeros((1, 50, 70, 3), np.uint8)
    frames[:, :, 35:] = 255
    for size in ((31, 43), (77, 99)):
        for filtered in (True, False):
            resized = resize_frames(frames, *size, filtered=filtered).numpy()
            assert resized[:, :, : size[1] // 3].max() == 0
            assert resized[:, :, -(size[1] // 3) :].min() == 255


def test_enlarging_is_the_same_with_and_without_filter():
    frames = smooth_frames(1, 20, 30)
    plain, filtered = (resize_frames(frames, 33, 47, filtered=f) for f in (False, True))
    assert np.abs(plain.numpy().astype(int) - filtered.numpy()).max() <= 1


def test_eager_and_tf_data_agree():
    frames = smooth_frames(3, 40, 56)

    def function(x):
        return resize_and_center_crop(x, short_side=24, crop_size=16)

    mapped = in_tf_data(function, frames)
    np.testing.assert_array_equal(mapped, function(frames))


def test_static_shape_is_known_within_tf_data():
    spec = tf.TensorSpec((8, None, None, 3), tf.uint8)
    function = tf.function(
        lambda x: resize_and_center_crop(x, short_side=24, crop_size=16)
    )
    assert function.get_concrete_function(spec).output_shapes == (8, 16, 16, 3)


def test_decode_agrees_with_pillow_in_eager_and_tf_data():
    jpegs = [to_jpeg(frame) for frame in smooth_frames(3, 37, 50)]
    expected = np.stack([np.array(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    eager = decode_frames(tf.constant(jpegs)).numpy()
    assert eager.dtype == np.uint8 and eager.shape == (3, 37, 50, 3)
    assert np.abs(eager.astype(int) - expected).max() <= 3
    assert np.abs(eager.astype(int) - expected).mean() < 0.5
    # The loop for a number of frames unknown to the graph gives the same pixels.
    np.testing.assert_array_equal(in_tf_data(decode_frames, jpegs), eager)


def test_long_clips_decode_in_the_loop():
    jpegs = [to_jpeg(np.full((8, 8, 3), value, np.uint8)) for value in range(0, 130, 2)]
    frames = decode_frames(tf.constant(jpegs)).numpy()
    assert np.abs(frames[:, 0, 0, 0] - np.arange(0.0, 130, 2)).max() <= 1


def test_grey_jpegs_become_rgb():
    jpeg = to_jpeg(smooth_frames(1, 16, 24)[0, :, :, 0])
    frames = decode_frames(tf.constant([jpeg, jpeg])).numpy()
    assert frames.shape == (2, 16, 24, 3)
    np.testing.assert_array_equal(frames[..., 0], frames[..., 2])


def test_box_decodes_the_region_only():
    jpegs = tf.constant([to_jpeg(frame) for frame in smooth_frames(2, 48, 64)])
    box = tf.constant([5, 9, 30, 41])
    whole = decode_frames(jpegs).numpy()[:, 5:35, 9:50]

    def regions(jpegs):
        return tf.stack(decode_regions(jpegs, box))

    region = regions(jpegs).numpy()
    assert region.shape == whole.shape
    # Chroma is interpolated from within the region, which shows at its border.
    assert np.abs(region.astype(int) - whole)[:, 2:-2, 2:-2].max() <= 3
    spec = tf.TensorSpec((2,), tf.string)
    graph = tf.function(regions, input_signature=[spec])
    np.testing.assert_array_equal(graph(jpegs), region)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "size"])
@pytest.mark.parametrize("static", [True, False])
def test_damaged_frames_raise(damage, static):
    good = to_jpeg(smooth_frames(1, 48, 64)[0])
    bad = {
        "text": b"no picture",
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "size": to_jpeg(smooth_frames(1, 48, 60)[0]),
    }[damage]
    jpegs = tf.constant([good, bad])
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_frames(jpegs) if static else in_tf_data(decode_frames, jpegs)


def test_works_in_a_saved_model(tmp_path):
    class Preprocess(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, jpegs):
            frames = decode_frames(jpegs)
            return resize_and_center_crop(frames, short_side=24, crop_size=16)

    module = Preprocess()
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for size in ((48, 64), (24, 30)):
        jpegs = tf.constant([to_jpeg(frame) for frame in smooth_frames(4, *size)])
        frames = decode_frames(jpegs)
        expected = resize_and_center_crop(frames, short_side=24, crop_size=16)
        np.testing.assert_array_equal(loaded(jpegs), expected)


@pytest.mark.parametrize("sizes", [(16, 17), (16, 0), (0, 0), (16.0, 8), (True, 1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="Received"):
        resize_and_center_crop(
            smooth_frames(1, 20, 20), short_side=sizes[0], crop_size=sizes[1]
        )


def test_other_frames_than_uint8_are_refused():
    with pytest.raises(ValueError, match="uint8 of shape"):
        resize_and_center_crop(np.zeros((2, 9, 9, 3)), short_side=8, crop_size=8)
    with pytest.raises(ValueError, match="uint8 of shape"):
        resize_and_center_crop(np.zeros((9, 9, 3), "uint8"), short_side=8, crop_size=8)
