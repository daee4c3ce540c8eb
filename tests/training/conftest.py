"""A tiny prepared data set, written directly as records."""

import hashlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.records import encode_record

CLASS_NAMES = ["down", "left", "up"]
MOTIONS = [(1, 0), (0, -1), (-1, 0)]


def jpeg(frame):
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG")
    return buffer.getvalue()


def video(label, rng):
    """Four frames of noise that moves in the direction of the class."""
    image = rng.integers(0, 256, (36, 44, 3), dtype=np.uint8)
    dy, dx = MOTIONS[label]
    return [jpeg(np.roll(image, (3 * t * dy, 3 * t * dx), (0, 1))) for t in range(4)]


def write_split(folder, name, videos, rng):
    """One shard with `videos` records, labels in turn."""
    path = folder / f"{name}-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(videos):
            label = index % 3
            record = encode_record(
                video_id=f"{name}-{index}",
                label=label,
                class_name=CLASS_NAMES[label],
                jpegs=video(label, rng),
                height=36,
                width=44,
                fps=12.0,
                source_num_frames=4,
                source_fps=12.0,
            )
            writer.write(record)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    counts = dict.fromkeys(CLASS_NAMES, videos // 3)
    return SplitInfo(videos, counts, [ShardInfo(path.name, videos, digest)])


def write_data(folder, *, train=12, val=7, seed=0):
    """Write a data set with `train` and `val` videos; without val if that is 0."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    splits = {"train": write_split(folder, "train", train, rng)}
    if val:
        splits["val"] = write_split(folder, "val", val, rng)
    info = DatasetInfo(CLASS_NAMES, splits, {}, "test", folder=folder)
    write_dataset_info(info)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """12 training and 7 validation videos of 3 classes."""
    return write_data(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="session")
def make_data(tmp_path_factory):
    """The function that writes other data sets: `make_data(train=..., val=...)`."""
    folder = tmp_path_factory.mktemp("more")
    return lambda name, **options: write_data(folder / name, **options)
