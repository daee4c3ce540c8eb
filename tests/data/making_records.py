"""Small data sets of records, written by hand for tests."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.records import encode_record

CLASSES = ["clap", "go left", "go right"]
HEIGHT, WIDTH = 24, 36


def jpeg(video: int, frame: int) -> bytes:
    """A frame that tells its number (blue), its video (green) and its left (red)."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 250, WIDTH)
    pixels[..., 1] = 10 * video
    pixels[..., 2] = 8 * frame
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def record(video: int, num_frames: int, spoilt: bool = False) -> bytes:
    """One video named `v<number>`; its class is its number modulo 3."""
    jpegs = [jpeg(video, frame) for frame in range(num_frames)]
    if spoilt:
        jpegs = [data[: len(data) // 2] for data in jpegs]
    return encode_record(
        video_id=f"v{video}",
        label=video % 3,
        class_name=CLASSES[video % 3],
        jpegs=jpegs,
        height=HEIGHT,
        width=WIDTH,
        fps=12.0,
        source_num_frames=num_frames,
        source_fps=12.0,
    )


def write_dataset(
    folder: Path, shards: list[list[bytes]], num_videos: int | None = None
) -> Path:
    """Write shards of split "train"."""
    infos = []
    for i, records in enumerate(shards):
        name = f"train-{i:05d}-of-{len(shards):05d}.tfrecord"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for serialized in records:
                writer.write(serialized)
        infos.append(ShardInfo(name, len(records), "0" * 64))
    count = sum(map(len, shards)) if num_videos is None else num_videos
    split = SplitInfo(count, dict.fromkeys(CLASSES, count // 3), infos)
    info = DatasetInfo(CLASSES, {"train": split}, {}, "0.1.0", folder=folder)
    write_dataset_info(info)
    return folder
