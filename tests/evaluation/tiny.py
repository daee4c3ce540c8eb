"""Tiny videos, records and models that the tests of evaluation and export share."""

from pathlib import Path

import av
import keras
import numpy as np
import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.records import encode_record
from tsi_keras.models.presets import video_resnet

CLASSES = [f"class {letter}" for letter in "abcdefg"]
PREPROCESSING = {"short_side": 48, "crop_size": 32, "fps": 12.0}
HEIGHT, WIDTH = 48, 64


def moving_frames(number: int, num_frames: int = 9) -> np.ndarray:
    """A smooth pattern and a moving bright square, uint8 (F, HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    tint = np.array([1.0, 0.3 + 0.1 * (number % 7), 0.9 - 0.12 * (number % 5)])
    frames = []
    for t in range(num_frames):
        wave = np.sin((x + 3 * t * (number % 3 - 1)) / 8 + number) * np.cos(y / 9)
        frame = (120 + 90 * wave)[..., None] * tint
        left = 8 + (2 + number % 4) * t
        frame[16:30, left : left + 12] = 255 - 30 * (number % 6)
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def write_dataset(
    folder: Path, numbers, *, split: str = "val", class_names=CLASSES, frames=None
) -> Path:
    """A prepared data set of videos `moving_frames(n)`, class n modulo their count."""
    folder.mkdir(parents=True, exist_ok=True)
    shard = f"{split}-00000-of-00001.tfrecord"
    counts = dict.fromkeys(class_names, 0)
    with tf.io.TFRecordWriter(str(folder / shard)) as writer:
        for n in numbers:
            name = class_names[n % len(class_names)]
            counts[name] += 1
            images = moving_frames(n) if frames is None else frames[n]
            writer.write(_record(f"video {n}", class_names.index(name), name, images))
    info = SplitInfo(
        sum(counts.values()), counts, [ShardInfo(shard, len(numbers), "0")]
    )
    write_dataset_info(
        DatasetInfo(list(class_names), {split: info}, {}, "test", folder=folder)
    )
    return folder


def _record(video_id, label, name, frames) -> bytes:
    """One record of uint8 frames (F, H, W, 3)."""
    return encode_record(
        video_id=video_id,
        label=label,
        class_name=name,
        jpegs=[tf.io.encode_jpeg(frame, quality=95).numpy() for frame in frames],
        height=frames[0].shape[0],
        width=frames[0].shape[1],
        fps=12.0,
        source_num_frames=len(frames),
        source_fps=12.0,
    )


def tiny_model(temporal: str = "tim", class_names=CLASSES, **options):
    """An untrained classifier whose scores nevertheless differ between videos."""
    keras.utils.set_random_seed(0)
    options.setdefault("preprocessing", PREPROCESSING)
    model = video_resnet(
        18,
        temporal,
        num_classes=len(class_names),
        num_frames=4,
        class_names=class_names,
        base_width=8,
        **options,
    )
    head = model.get_layer("classifier")
    head.kernel.assign(keras.random.normal(head.kernel.shape, stddev=8.0, seed=0))
    return model


def write_mp4(path: Path, frames: np.ndarray) -> Path:
    """A nearly lossless H.264 file at 12 frames per second."""
    with av.open(str(path), "w") as container:
        # Without the second option x264 gives other bytes on other processors.
        options = {"crf": "4", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path
