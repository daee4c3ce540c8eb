"""How fast videos are prepared, against a loop that decodes them and does nothing.

The bare loop is what anybody would write with PyAV, at its fastest: one thread for the
decoder and one for scaling (which PyAV's defaults are not), quick scaling, RGB arrays
of the stored size, thrown away; of all frames, of those that are stored, or of none.
Preparation decodes with one thread too, and checks, compresses, hashes and writes. Both run
in the same warm processes, in turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import VideoReformatter

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import write_shard
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_container import open_container
from tsi_keras.data.video_container import video_stream
from tsi_keras.data.worker_processes import process_context
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive

_DEFAULTS = PreparationOptions()

COLUMNS = (
    "stored",
    "bare_loop_converts",
    "processes",
    "videos",
    "repeats",
    "bare_seconds",
    "prepare_seconds",
    "ratio",
    "bare_cpu_seconds",
    "prepare_cpu_seconds",
    "cpu_ratio",
)


def benchmark_preparation(
    videos: Sequence[str | Path],
    *,
    workers: int = 2,
    copies: int = 8,
    repeats: int = 5,
    fps: float = _DEFAULTS.fps,
    short_side: int = _DEFAULTS.short_side,
    quality: int = _DEFAULTS.quality,
) -> list[dict[str, Any]]:
    """Compare the preparation of videos with a bare decode loop over them.

    Args:
        videos: files that can be decoded.
        workers: processes, for both alike.
        copies: how often each process takes each video in one measurement.
        repeats: measurements of each kind, in turns; medians count.
        fps: frames per second that are stored.
        short_side: shorter side of the stored frames in pixels.
        quality: JPEG quality.

    Returns:
        Rows under `COLUMNS`, seconds for all videos, by the clock and of all
        processors; a `ratio` is the speed of the preparation over that of the bare
        loop, above 1 where preparation is faster. On a machine with other work to do,
        the ratio of the processors' time is the steadier one.

    Raises:
        InputError: a file cannot be prepared, or a number makes no sense.

    Example:
        ```python
        for row in benchmark_preparation(["wave.mp4", "jump.mp4"]):
            print(row["stored"], row["bare_loop_converts"], row["ratio"])
        ```
    """
    check_measurable(videos, workers=workers, copies=copies, repeats=repeats)
    sizes = {"short_side": short_side, "quality": quality, "min_frames": 1}
    thin = PreparationOptions(fps=fps, **sizes).record
    every = PreparationOptions(fps=None, **sizes).record
    paths = [Path(path).absolute() for path in videos] * copies
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / STATE_FOLDER).mkdir()
        kinds = {  # the preparation first: it says what is wrong with a file
            "thin": partial(_prepare, paths, Path(folder), thin),
            "every": partial(_prepare, paths, Path(folder), every),
            "bare, every frame": partial(_bare, paths, None, short_side),
            "bare, kept frames": partial(_bare, paths, fps, short_side),
            "bare, no frame": partial(_bare, paths, 0.0, short_side),
        }
        seconds = _measure(kinds, workers, repeats)
    number = {"processes": workers, "videos": len(paths) * workers, "repeats": repeats}
    compared = (
        (f"{fps:g} frames/s", "every frame", "thin", "bare, every frame"),
        (f"{fps:g} frames/s", "the stored frames", "thin", "bare, kept frames"),
        (f"{fps:g} frames/s", "no frame", "thin", "bare, no frame"),
        ("every frame", "every frame", "every", "bare, every frame"),
    )
    return [
        {"stored": stored, "bare_loop_converts": converts}
        | number
        | _ratio(seconds[bare][0], seconds[ours][0], "")
        | _ratio(seconds[bare][1], seconds[ours][1], "cpu_")
        for stored, converts, ours, bare in compared
    ]


def check_measurable(videos: Sequence[str | Path], **numbers: int) -> None:
    """Refuse what `benchmark_preparation` cannot measure, without decoding anything.

    Args:
        videos: files.
        **numbers: counts by their names, each at least 1.

    Raises:
        InputError: a file is missing or no video, or a count is below 1.
    """
    for name, number in numbers.items():
        check_positive(name, number)
    for path in videos:
        try:
            with open_container(Path(path)) as container:
                video_stream(container)
        except VideoError as error:
            raise InputError(f"{path} cannot be used: {error.reason}") from None


def _ratio(bare: float, ours: float, prefix: str) -> dict[str, float]:
    """Two times and the ratio of the speeds."""
    return {
        f"bare_{prefix}seconds": round(bare, 3),
        f"prepare_{prefix}seconds": round(ours, 3),
        f"{prefix}ratio": round(bare / ours, 3),
    }


def _measure(
    kinds: dict[str, Callable[[int], None]], workers: int, repeats: int
) -> dict[str, tuple[float, float]]:
    """Median seconds of each kind of work by the clock and of all processors."""
    seconds = {name: [] for name in kinds}
    with ProcessPoolExecutor(workers, mp_context=process_context()) as pool:
        for turn in range(repeats + 1):
            for name, work in kinds.items():
                start = time.perf_counter()
                spent = sum(pool.map(partial(_processor_time, work), range(workers)))
                if turn:  # the first turn starts processes and reads files
                    seconds[name].append((time.perf_counter() - start, spent))
    return {
        name: tuple(statistics.median(column) for column in zip(*turns, strict=True))
        for name, turns in seconds.items()
    }


def _processor_time(work: Callable[[int], None], number: int) -> float:
    """Seconds of processors that some work takes, in all threads."""
    start = time.process_time()
    work(number)
    return time.process_time() - start


def _bare(
    paths: Sequence[Path], fps: float | None, short_side: int, number: int
) -> None:
    """Decode videos, to RGB arrays all frames, about `fps` a second, or with 0 none."""
    reformatter = VideoReformatter()
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            share = 1.0 if fps is None else min(1.0, fps / float(stream.guessed_rate))
            for index, frame in enumerate(container.decode(stream)):
                if int((index + 1) * share) > int(index * share):
                    scale = short_side / min(frame.width, frame.height)
                    reformatter.reformat(
                        frame,
                        width=round(frame.width * scale),
                        height=round(frame.height * scale),
                        format="rgb24",
                        threads=1,
                    ).to_ndarray()


def _prepare(
    paths: Sequence[Path], folder: Path, options: RecordOptions, number: int
) -> None:
    """Write one shard of the videos."""
    entries = [
        VideoEntry(f"{index}", path, "class", None, f"{index}")
        for index, path in enumerate(paths)
    ]
    name = f"train-{number:05d}-of-00001.tfrecord"
    task = ShardTask(name, "train", tuple((entry, 0) for entry in entries))
    sidecar = write_shard(task, folder, options, lambda identifier: None)
    for failure in sidecar["failures"]:
        raise InputError(f"{failure['path']} cannot be used: {failure['reason']}")
