"""What each augmentation costs, beside decoding and a plain multi-scale crop."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.benchmark_records import BenchmarkRecords
from tsi_keras.data.benchmark_records import write_benchmark_records
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import Element
from tsi_keras.data.clips import choose_frames
from tsi_keras.data.clips import clip_seed
from tsi_keras.data.clips import mixed_batch
from tsi_keras.data.clips import training_clip
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.flip_labels import flip_map
from tsi_keras.data.records import parse_record
from tsi_keras.utils.errors import check_positive

# The first is what the others are compared with.
VARIANTS = {
    "multi-scale crop": ClipOptions(),
    "random resized crop": ClipOptions(augmentation=Augmentation("random_resized")),
    "flip": ClipOptions(flip="all"),
    "colour jitter": ClipOptions(
        augmentation=Augmentation(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    ),
    "RandAugment, 2 operations": ClipOptions(augmentation=Augmentation(rand_augment=2)),
    "random erasing of every clip": ClipOptions(augmentation=Augmentation(erasing=1.0)),
    "MixUp of every clip": ClipOptions(augmentation=Augmentation(mixup=0.8)),
    "CutMix of every clip": ClipOptions(augmentation=Augmentation(cutmix=1.0)),
}

_BATCH = 8


def benchmark_augmentation(
    rounds: int = 15, records: BenchmarkRecords | None = None
) -> list[dict[str, Any]]:
    """Measure every augmentation on clips of 8 frames of 224x224, with one thread.

    Each is measured with what comes before it: parsing, decoding the crop of stored
    340x256 JPEG frames, resizing. Rounds go through all of them in turn, so that a
    change of the machine's speed meets all alike; the ratio is the median of the
    rounds' ratios to the plain multi-scale crop.

    Args:
        rounds: batches of 8 clips per augmentation.
        records: stored videos to measure with; 16 of the published size by default.

    Returns:
        One row per augmentation: `augmentation`, `ms_per_clip` (median of the
        processor's time, milliseconds), `ratio` (to the first row) and `clips` (how
        many were measured).

    Raises:
        InputError: `rounds` is below 1, or tf-models-official is not installed.

    Example:
        ```python
        for row in benchmark_augmentation(rounds=3):
            print(row["augmentation"], row["ratio"])
        ```
    """
    check_positive("rounds", rounds)
    with tempfile.TemporaryDirectory() as folder:
        write_benchmark_records(folder, records or BenchmarkRecords(16, num_shards=1))
        info = load_dataset_info(folder)
        batches = {name: _batches(info, options) for name, options in VARIANTS.items()}
        for each in batches.values():  # tracing, and the first touch of memory
            _seconds_of_next(each)
        seconds = {name: [] for name in batches}
        for _ in range(rounds):
            for name, each in batches.items():
                seconds[name].append(_seconds_of_next(each))
    return [
        _row(name, seconds[name], seconds[next(iter(VARIANTS))]) for name in seconds
    ]


def _batches(info: DatasetInfo, options: ClipOptions) -> Iterator[Element]:
    """Endless training batches, made one after the other in one thread."""
    to_clip = training_clip(options, flip_map(info.class_names, options.flip))

    def augment(number: tf.Tensor, serialized: tf.Tensor) -> Element:
        record = parse_record(serialized)
        seed = clip_seed(number, record["id"])
        return to_clip(choose_frames(record, options, seed))

    # In memory: reading is not what is measured.
    records = list(tf.data.TFRecordDataset(info.shard_paths("train")))
    videos = tf.data.Dataset.from_tensor_slices(records).repeat().enumerate()
    batches = videos.map(augment).batch(_BATCH, drop_remainder=True)
    mix = mixed_batch(options, info.num_classes)
    if mix is not None:
        batches = batches.map(mix)
    alone = tf.data.Options()
    alone.threading.private_threadpool_size = 1
    alone.threading.max_intra_op_parallelism = 1
    alone.autotune.enabled = False
    # Its defaults would make batches ahead, while the others are measured.
    alone.experimental_optimization.apply_default_optimizations = False
    return iter(batches.with_options(alone))


def _seconds_of_next(batches: Iterator[Element]) -> float:
    """Processor seconds that the next batch takes."""
    # Not by the clock: other programs on the machine would be measured too.
    start = time.process_time()
    next(batches)
    return time.process_time() - start


def _row(name: str, seconds: list[float], plain: list[float]) -> dict[str, Any]:
    """The figures of one augmentation."""
    ratios = [own / other for own, other in zip(seconds, plain, strict=True)]
    return {
        "augmentation": name,
        "ms_per_clip": round(1000 * statistics.median(seconds) / _BATCH, 2),
        "ratio": round(statistics.median(ratios), 2),
        "clips": len(seconds) * _BATCH,
    }
