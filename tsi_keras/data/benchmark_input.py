"""How many clips the input pipeline gives in a second, and where its time goes.

Measured are cut-down pipelines, each with one step more than the one before: what a step
costs is the difference. All have the threads and the buffers of the real one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from tsi_keras.data.autotuning import BATCHES_AHEAD
from tsi_keras.data.autotuning import untuned
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import crop_box
from tsi_keras.data.clips import epoch_number
from tsi_keras.data.crop_resizing import decode_regions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.epochs import Shuffle
from tsi_keras.data.epochs import repeated_epochs
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.shard_cache import cached_shard_paths
from tsi_keras.utils.console import progress
from tsi_keras.utils.cores import available_cores
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive

BARE = "tf.io.decode_jpeg alone"
STEPS = ("read", "parse", "decode", "augment", "transfer")

# Elements that are handed over at a time where the step itself makes no batches.
_BLOCK = 16

# Most videos whose frames are held to be decoded again and again.
_BARE_VIDEOS = 64

# From this many times the clips a training takes on, a queue of batches never runs dry.
_ENOUGH = 1.2


@dataclass(frozen=True)
class StepSpeed:
    """The pipeline up to and including one step.

    Attributes:
        step: one of `STEPS`, or `BARE`.
        clips_per_second: median of the measurements.
        slowest: of the measurements, clips per second.
        fastest: likewise.
        cpu_ms_per_clip: processor time of this process, milliseconds, median.
        share: of the time of the whole pipeline that this step adds, 0..1; None for
            `BARE`.
    """

    step: str
    clips_per_second: float
    slowest: float
    fastest: float
    cpu_ms_per_clip: float
    share: float | None


@dataclass(frozen=True)
class InputSpeed:
    """The outcome.

    Attributes:
        steps: `BARE` first, then the pipeline's in their order.
        clips_per_second: of the whole pipeline, median.
        ratio: whole pipeline (without the transfer) to bare decoding of whole frames,
            median of the ratios of neighbouring measurements.
        cpu_ratio: the same of clips per second of processor time, which other work on
            the machine changes less.
        frame_bytes: mean size of a JPEG file.
    """

    steps: list[StepSpeed]
    clips_per_second: float
    ratio: float
    cpu_ratio: float
    frame_bytes: float


def benchmark_input(
    data_dir: str | Path,
    options: ClipOptions,
    *,
    batch_size: int = 8,
    split: str = "train",
    shuffle_buffer: int = 1024,
    cache: str | Path = "none",
    seconds: float = 2.0,
    repeats: int = 5,
) -> InputSpeed:
    """Measure the training input of a prepared data set.

    The measurements of all steps take turns, so that what else the machine does falls
    on all of them. Steps: `read` the records; `parse` them, choose the frames, shuffle;
    `decode` the regions that are drawn; `augment`: resize these (unless the device does),
    all other augmentation, and batches; `transfer` to the GPU, if there is one.

    Args:
        data_dir: the output of `pipelines.prepare`.
        options: clips and augmentation.
        batch_size: clips per batch.
        split: which videos.
        shuffle_buffer: as for `make_dataset`.
        cache: as for `make_dataset`.
        seconds: duration of one measurement, after a warm-up half as long.
        repeats: measurements of each step.

    Returns:
        Medians.

    Raises:
        InputError: as `make_dataset`, or a number is out of range.

    Example:
        ```python
        speed = benchmark_input("data/mine", ClipOptions(), batch_size=16)
        print(describe_wait_for_data(speed.clips_per_second, needed=40.0))
        ```
    """
    check_positive("repeats", repeats)
    if not seconds > 0:
        raise InputError(f"`seconds` must be above 0. Received: {seconds!r}")
    info = load_dataset_info(data_dir)
    clips = make_dataset(
        info.folder,
        split,
        options,
        batch_size=batch_size,
        training=True,
        repeat=True,
        shuffle_buffer=shuffle_buffer,
        cache=cache,
    )
    shuffle = _shuffle(info, split, options, shuffle_buffer, cache)
    videos = partial(repeated_epochs, shuffle, 0, 1, 0, 0)
    frames, frame_bytes = _some_frames(videos(), info.split(split).num_videos)
    # The two that are compared are neighbours.
    pipelines = {
        "augment": _Pipeline(clips, batch_size),
        BARE: _Pipeline(_bare(frames)),
        "decode": _Pipeline(_decoded(videos(), options)),
        "parse": _Pipeline(videos().map(lambda video: video["label"]).batch(_BLOCK)),
        "read": _Pipeline(_records(shuffle)),
    }
    if tf.config.list_logical_devices("GPU"):
        pipelines["transfer"] = _Pipeline(clips, batch_size, _to_gpu)
    return _summary(_measure_all(pipelines, seconds, repeats), frame_bytes)


def describe_wait_for_data(available: float, needed: float) -> str:
    """Say in a line whether a training will wait for its data.

    Args:
        available: clips per second of the input pipeline.
        needed: clips per second the training computes if it need not wait.

    Returns:
        One line.
    """
    figures = (
        f"the input pipeline gives {available:.0f} clips/s, the training takes "
        f"{needed:.0f}"
    )
    if available >= _ENOUGH * needed:
        return f"{figures}: it will not wait for data"
    if available >= needed:
        return f"{figures}: it may wait for data at times; there is little to spare"
    return (
        f"{figures}: it will wait for data about {1 - available / needed:.0%} of the "
        f"time; {needed / available:.1f} times the cores would do"
    )


@dataclass(frozen=True)
class _Pipeline:
    """What is measured.

    Attributes:
        dataset: endless.
        clips: in each of its elements.
        use: called on each element.
    """

    dataset: tf.data.Dataset
    clips: int = _BLOCK
    use: Callable = lambda element: None


def _shuffle(
    info: DatasetInfo,
    split: str,
    options: ClipOptions,
    buffer: int,
    cache: str | Path,
) -> Shuffle:
    """The order of the videos, as in `make_dataset`."""
    paths = cached_shard_paths(info, split, cache)
    return Shuffle(
        paths, info.split(split).num_videos, options, buffer, False, available_cores()
    )


def _records(shuffle: Shuffle) -> tf.data.Dataset:
    """Lengths of the records; they themselves would have to be copied."""
    epochs = tf.data.Dataset.counter()
    records = epochs.flat_map(lambda epoch: shuffle.records(epoch_number(0, epoch)))
    return records.map(tf.strings.length).batch(_BLOCK)


def _decoded(videos: tf.data.Dataset, options: ClipOptions) -> tf.data.Dataset:
    """Frames as the decoder gives them, thrown away."""

    def decode(video: dict[str, tf.Tensor]) -> tf.Tensor:
        box = crop_box(video["jpegs"], options, video["seed"])
        regions = decode_regions(video["jpegs"], box)
        return tf.stack([region[0, 0, 0] for region in regions])

    return videos.map(
        decode, num_parallel_calls=available_cores(), deterministic=False
    ).batch(_BLOCK)


def _some_frames(videos: tf.data.Dataset, count: int) -> tuple[np.ndarray, float]:
    """JPEG files, string (videos, T), and their mean size in bytes."""
    videos = videos.take(min(count, _BARE_VIDEOS))
    frames = np.stack([video["jpegs"] for video in videos.as_numpy_iterator()])
    return frames, float(np.mean([len(jpeg) for jpeg in frames.ravel()]))


def _bare(frames: np.ndarray) -> tf.data.Dataset:
    """Whole frames from memory, decoded as TensorFlow does by default; thrown away."""

    def decode(jpegs: tf.Tensor) -> tf.Tensor:
        pictures = [tf.io.decode_jpeg(jpeg, channels=3) for jpeg in tf.unstack(jpegs)]
        return tf.stack([picture[0, 0, 0] for picture in pictures])

    return (
        tf.data.Dataset.from_tensor_slices(frames)
        .repeat()
        .map(decode, num_parallel_calls=available_cores(), deterministic=False)
        .batch(_BLOCK)
        .prefetch(BATCHES_AHEAD)
    )


def _to_gpu(batch: tuple) -> None:
    """Copy a batch and wait until it is there."""
    with tf.device("GPU:0"):
        copies = [tf.identity(value) for value in tf.nest.flatten(batch)]
    copies[0][0, 0, 0, 0].numpy()


def _measure_all(
    pipelines: dict[str, _Pipeline], seconds: float, repeats: int
) -> dict[str, np.ndarray]:
    """Rows of (clips/s, processor milliseconds per clip) of each pipeline."""
    rows = {name: [] for name in pipelines}
    with progress("rounds") as bar:
        for _ in bar.track(range(repeats), description="measuring"):
            for name, pipeline in pipelines.items():
                rows[name].append(_measure(pipeline, seconds))
    return {name: np.array(values) for name, values in rows.items()}


def _measure(pipeline: _Pipeline, seconds: float) -> tuple[float, float]:
    """Once, after a warm-up; nothing of it runs on afterwards."""
    elements = iter(untuned(pipeline.dataset))
    _take(elements, pipeline.use, seconds / 2)
    cpu = time.process_time()
    count, elapsed = _take(elements, pipeline.use, seconds)
    cpu = time.process_time() - cpu
    clips = count * pipeline.clips
    return clips / elapsed, 1000 * cpu / clips


def _take(elements, use: Callable, seconds: float) -> tuple[int, float]:
    """Elements taken, and the seconds that took."""
    start, count = time.perf_counter(), 0
    while True:
        use(next(elements))
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return count, elapsed


def _summary(rows: dict[str, np.ndarray], frame_bytes: float) -> InputSpeed:
    """Medians, and what each step adds to the one before."""
    names = [name for name in STEPS if name in rows]
    times = [1 / np.median(rows[name][:, 0]) for name in names]
    # A step within the noise, or one that skips work of the one before, adds nothing.
    added = np.diff(np.maximum.accumulate(times), prepend=0)
    shares = dict(zip(names, added / added.sum(), strict=True))
    steps = [
        StepSpeed(
            step=name,
            clips_per_second=float(np.median(rows[name][:, 0])),
            slowest=float(rows[name][:, 0].min()),
            fastest=float(rows[name][:, 0].max()),
            cpu_ms_per_clip=float(np.median(rows[name][:, 1])),
            share=float(shares[name]) if name in shares else None,
        )
        for name in (BARE, *names)
    ]
    return InputSpeed(
        steps=steps,
        clips_per_second=steps[-1].clips_per_second,
        ratio=float(np.median(rows["augment"][:, 0] / rows[BARE][:, 0])),
        cpu_ratio=float(np.median(rows[BARE][:, 1] / rows["augment"][:, 1])),
        frame_bytes=frame_bytes,
    )
