"""Records of a known size and content, for measurements that others can repeat."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tsi_keras import __version__
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.records import encode_record
from tsi_keras.data.synthetic import CLASSES
from tsi_keras.data.synthetic import SyntheticOptions
from tsi_keras.data.synthetic import render_clip
from tsi_keras.data.synthetic import video_seed
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.files import file_sha256

_FPS = 12.0


@dataclass(frozen=True)
class BenchmarkRecords:
    """Size of the records to measure with; the defaults are the published ones.

    Attributes:
        num_videos: videos, dealt out to the classes in turn.
        num_frames: stored frames of each.
        width: of the frames in pixels.
        height: of the frames in pixels.
        quality: of the JPEG files (4:2:0), 1 to 100.
        num_shards: TFRecord files.
        grain: standard deviation of the noise on top, in grey levels. With 3 the frames
            have 19 KB each, as those of a Kinetics clip of this size and quality do;
            without any 12 KB.

    Raises:
        InputError: a number is below 1, or the grain below 0.
    """

    num_videos: int = 128
    num_frames: int = 24
    width: int = 340
    height: int = 256
    quality: int = 90
    num_shards: int = 4
    grain: float = 3.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "grain":
                check_positive(name, value)
        if not 0 <= self.grain <= 100:
            raise InputError(
                f"`grain` must lie between 0 and 100. Received: {self.grain!r}"
            )


def write_benchmark_records(
    folder: str | Path, options: BenchmarkRecords | None = None
) -> Path:
    """Write a train split of synthetic videos straight to records, without H.264.

    Args:
        folder: an existing empty folder.
        options: sizes; the published ones when `None`.

    Returns:
        `folder`, a data set for `make_dataset`; equal options give equal bytes.

    Example:
        ```python
        data = write_benchmark_records(tempfile.mkdtemp())
        ```
    """
    options = options or BenchmarkRecords()
    folder = Path(folder)
    shards = [
        _write_shard(folder, number, options)
        for number in range(min(options.num_shards, options.num_videos))
    ]
    labels = [video % len(CLASSES) for video in range(options.num_videos)]
    counts = {name: labels.count(label) for label, name in enumerate(CLASSES)}
    info = DatasetInfo(
        class_names=list(CLASSES),
        splits={"train": SplitInfo(options.num_videos, counts, shards)},
        options={
            "fps": _FPS,
            "short_side": min(options.width, options.height),
            "quality": options.quality,
        },
        tool_version=__version__,
        folder=folder,
    )
    write_dataset_info(info)
    return folder


def _write_shard(folder: Path, number: int, options: BenchmarkRecords) -> ShardInfo:
    """Every so-manieth video, beginning with `number`."""
    count = min(options.num_shards, options.num_videos)
    name = f"train-{number:05d}-of-{count:05d}.tfrecord"
    videos = range(number, options.num_videos, count)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for video in videos:
            writer.write(_record(video, options))
    return ShardInfo(name, len(videos), file_sha256(folder / name))


def _record(video: int, options: BenchmarkRecords) -> bytes:
    """One video, rendered and compressed."""
    label = video % len(CLASSES)
    clip = SyntheticOptions(
        width=options.width, height=options.height, num_frames=options.num_frames
    )
    seed = video_seed(0, CLASSES[label], video // len(CLASSES))
    frames = _grainy(render_clip(CLASSES[label], seed, clip), options.grain, seed)
    return encode_record(
        video_id=f"{CLASSES[label]}/{video:05d}",
        label=label,
        class_name=CLASSES[label],
        jpegs=[_jpeg(frame, options.quality) for frame in frames],
        height=options.height,
        width=options.width,
        fps=_FPS,
        source_num_frames=options.num_frames,
        source_fps=_FPS,
    )


def _grainy(frames: np.ndarray, grain: float, seed: tuple[int, ...]) -> np.ndarray:
    """Brightness noise, as a camera's sensor has; uint8 (T, H, W, 3)."""
    if not grain:
        return frames
    noise = np.random.default_rng(seed).normal(0, grain, (*frames.shape[:3], 1))
    return np.clip(frames + np.rint(noise), 0, 255).astype(np.uint8)


def _jpeg(frame: np.ndarray, quality: int) -> bytes:
    """Uint8 RGB `(H, W, 3)` to a JPEG file as `prepare` writes it."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()
