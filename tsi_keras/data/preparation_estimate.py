"""What a preparation will cost, from a few of its videos; writes nothing."""

import math
import shutil
import statistics
import time
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsi_keras.data.preparation_job import read_job
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.preparation_report import Failure
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import encode_video
from tsi_keras.data.splitting import stable_order
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.worker_processes import chosen_workers
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.urls import is_remote

SAMPLE = 32  # videos to try unless another number is asked for
_TWO_SIDED_95 = 1.96  # standard errors to either side
_TIMES = {"s": 1.0, "min": 60.0, "h": 3600.0}
_SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@dataclass(frozen=True)
class Range:
    """An estimate and the interval that holds the truth 19 times of 20."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a preparation will probably cost.

    Attributes:
        num_videos: videos in the input.
        num_classes: their classes.
        num_shards: files that would be written.
        num_tried: videos that were decoded and encoded for this.
        unreadable: those of them that cannot be used.
        workers: processes the time is for.
        seconds: time, if the processes do not hinder each other.
        bytes: size of the shards.
        free_bytes: what is free where the output would lie; `None`: not known.
        notes: what the reader should know.
    """

    num_videos: int
    num_classes: int
    num_shards: int
    num_tried: int
    unreadable: list[Failure]
    workers: int
    seconds: Range
    bytes: Range
    free_bytes: int | None
    notes: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """The numbers in words, one a row."""
        free = []
        if self.free_bytes is not None:
            size = _in_words(Range(*[self.free_bytes] * 3), _SIZES)
            free = [("free on the disk", size)]
        return [
            ("videos", f"{self.num_videos:,}"),
            ("classes", f"{self.num_classes:,}"),
            ("shards", f"{self.num_shards:,}"),
            ("videos tried", f"{self.num_tried:,}"),
            ("of them not usable", f"{len(self.unreadable):,}"),
            (f"time with {self.workers} processes", _in_words(self.seconds, _TIMES)),
            ("size of the shards", _in_words(self.bytes, _SIZES)),
            *free,
        ]


def estimate(
    source: str | Path,
    output: str | Path,
    *,
    sample: int = SAMPLE,
    workers: int | None = None,
    **options,
) -> Estimate:
    """Prepare a few videos in memory and reckon what all of them will take.

    Args:
        source: see `prepare`.
        output: see `prepare`; it is not touched.
        sample: videos to try, drawn with the job's `seed`.
        workers: processes the preparation will have; `None` for one per usable core.
        **options: the other options of `prepare`, but for those on existing output.

    Returns:
        The estimate.

    Raises:
        InputError: an argument or the input is not usable.

    Example:
        ```python
        cost = estimate("kinetics.csv", "data/kinetics", short_side=256)
        print(cost.seconds.middle / 3600, "hours", cost.bytes.middle / 1e9, "GB")
        ```
    """
    check_positive("sample", sample)
    workers = chosen_workers(workers)
    job = read_job(source, output, PreparationOptions(**options))
    tasks = job.tasks()
    drawn = set(stable_order(job.splits, job.options["seed"])[:sample])
    seconds, sizes, unreadable = _try(tasks, drawn, job.record)
    total = len(job.splits)
    workers_used = min(workers, len(tasks))
    return Estimate(
        num_videos=total,
        num_classes=len(job.found.class_names),
        num_shards=len(tasks),
        num_tried=len(seconds),
        unreadable=unreadable,
        workers=workers_used,
        seconds=_extrapolate(seconds, total, 1 / workers_used),
        bytes=_extrapolate(sizes, total),
        free_bytes=_free_bytes(output),
        notes=job.notes,
    )


def _try(
    tasks: Sequence[ShardTask], drawn: set[str], options: RecordOptions
) -> tuple[list[float], list[int], list[Failure]]:
    """Seconds and bytes of each drawn video, and those that cannot be used."""
    import tsi_keras.data.records  # noqa: F401  loading it is no part of the work

    seconds, sizes, failures = [], [], []
    chosen = [(task, *v) for task in tasks for v in task.videos if v[0].id in drawn]
    with progress("videos") as bar:
        for task, entry, label in bar.track(chosen, description="trying"):
            start = time.perf_counter()
            record, row = encode_video(entry, label, task, options)
            seconds.append(time.perf_counter() - start)
            sizes.append(len(record or b""))
            if record is None:
                failures.append(Failure(**row))
    return seconds, sizes, failures


def _extrapolate(sample: Sequence[float], total: int, factor: float = 1.0) -> Range:
    """The sum over all videos from some of them, without replacement."""
    mean = statistics.fmean(sample)
    spread = statistics.stdev(sample) if len(sample) > 1 else mean
    left_out = math.sqrt(1 - len(sample) / total)
    error = _TWO_SIDED_95 * spread / math.sqrt(len(sample)) * left_out
    scale = total * factor
    return Range(max(0.0, mean - error) * scale, mean * scale, (mean + error) * scale)


def _in_words(value: Range, units: Mapping[str, float]) -> str:
    """Such as "2.5 h (2.1 to 2.9)"."""
    fitting = [item for item in units.items() if value.middle >= item[1]]
    name, unit = fitting[-1] if fitting else next(iter(units.items()))
    low, middle, high = (x / unit for x in (value.low, value.middle, value.high))
    interval = f" ({low:.3g} to {high:.3g})" if low < high else ""
    return f"{middle:.3g} {name}{interval}"


def _free_bytes(output: str | Path) -> int | None:
    """Free space where the output would lie; remote storage does not tell."""
    if is_remote(output):
        return None
    return shutil.disk_usage(_existing_parent(Path(output))).free


def _existing_parent(path: Path) -> Path:
    """The nearest folder that exists."""
    path = path.expanduser().absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
