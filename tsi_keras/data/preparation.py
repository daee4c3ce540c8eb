"""From labelled videos to a data set of TFRecords with a report."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.preparation_job import positive
from tsi_keras.data.preparation_job import read_job
from tsi_keras.data.preparation_outcome import finish
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_retry import claimed
from tsi_keras.data.preparation_state import remove_leftovers
from tsi_keras.data.remote_output import Place
from tsi_keras.data.remote_output import opened
from tsi_keras.data.shard_pool import write_shards
from tsi_keras.data.shards import RecordOptions
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import finished_shard
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError


def prepare(
    source: str | Path,
    output: str | Path,
    *,
    format: str = "auto",
    annotations: str | Path | Sequence[str | Path] | None = None,
    labels: str | Path | None = None,
    split_number: int | None = None,
    frame_files: FrameFiles | None = None,
    split: str = "0.8/0.1/0.1",
    seed: int = 0,
    fps: float | None = 12.0,
    frames: int | None = None,
    short_side: int | None = 256,
    quality: int = 90,
    min_frames: int = 2,
    videos_per_shard: int | None = None,
    workers: int | None = None,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    retry_failed: bool = False,
) -> PreparationReport:
    """Turn labelled videos into TFRecords for training.

    Writes `SPLIT-00000-of-0000N.tfrecord` shards, `report.json`, `report.html` and,
    last of all, `dataset.json`: where it exists, the data set is complete. Videos
    that cannot be used are left out and listed, each with its reason. The shards
    depend on the videos and options only, not on `workers` or interruptions. A
    hidden folder `.prepare` keeps what `resume` needs.

    Args:
        source: folder `class_name/video.mp4`, a CSV, or the folder of the videos of a
            published data set, see `scan`.
        output: folder of the data set, new or empty; may be an address such as
            `s3://bucket/data`. Each shard is then uploaded as soon as it is written.
        format: format of the annotations; see `scan` for this and the next four.
        annotations: annotation files, or their folder.
        labels: list of the classes in the order of the labels.
        split_number: which official split.
        frame_files: names and rate of raw frames.
        split: shares of train/val/test; not used where the input gives the splits.
        seed: decides split and order.
        fps: frames per second to store; `None` stores every frame.
        frames: number of frames to store of each video, spread evenly, in place of
            `fps`; shorter videos keep all theirs.
        short_side: shorter side of the stored frames in pixels; `None` keeps the
            size of each file.
        quality: JPEG quality, 1 to 100.
        min_frames: fewest frames a usable video has.
        videos_per_shard: most videos in one file; `None` chooses 16 to 128.
        workers: processes; `None` takes one per CPU. More than one needs the usual
            `if __name__ == "__main__":` in a script that calls this.
        runner: an Apache Beam runner that writes the shards, such as `DirectRunner`
            or `DataflowRunner`, in place of `workers`. The shards are the same.
        runner_options: options of the Beam pipeline, such as `["--region=..."]`.
        overwrite: replace the data set in `output`.
        resume: finish the interrupted preparation in `output`.
        retry_failed: try the videos that failed in `output` again, for example after
            they were replaced. Those that work get shards of their own
            (`train.retry1-00000-of-00001.tfrecord`); finished shards stay untouched.

    Returns:
        The report, also written to `output`.

    Raises:
        InputError: an argument or the input is not usable; nothing was written.
        PreparationError: no video could be used, a file cannot be written, or a
            worker process died.

    Example:
        ```python
        report = prepare("my_videos", "data/mine", short_side=128)
        print(report.num_prepared, [failure.reason for failure in report.failures])
        ```
    """
    workers = positive("workers", workers, os.cpu_count() or 1)
    _check_runner(runner, runner_options)
    job = read_job(
        source,
        output,
        format=format,
        annotations=annotations,
        labels=labels,
        split_number=split_number,
        frame_files=frame_files,
        split=split,
        seed=seed,
        fps=fps,
        frames=frames,
        short_side=short_side,
        quality=quality,
        min_frames=min_frames,
        videos_per_shard=videos_per_shard,
    )
    modes = {"overwrite": overwrite, "resume": resume, "retry_failed": retry_failed}
    with (
        opened(output, modes) as place,
        claimed(job, place.folder, **place.modes) as (job, folder, retries),
    ):
        place.begin()
        write = _writer(place, workers, runner, runner_options)
        sidecars = _write_all(job.tasks(retries), folder, job.record, write)
        try:
            report = finish(folder, job, sidecars, place.destination)
        finally:
            place.end()
        report.info = replace(report.info, folder=place.destination or folder)
        return report


def _check_runner(runner: str | None, runner_options: Sequence[str]) -> None:
    """Refuse what Beam would refuse later, before anything is read."""
    if runner is not None:
        from tsi_keras.data.beam_preparation import pipeline_options

        pipeline_options(runner, runner_options)
    elif runner_options:
        raise InputError(
            f"unknown argument {runner_options[0]}; options of Beam need --runner."
        )


def _writer(
    place: Place, workers: int, runner: str | None, runner_options: Sequence[str]
) -> Callable[..., list[dict[str, Any]]]:
    """What writes shards: processes of this machine, or a Beam pipeline."""
    if runner is None:
        return partial(write_shards, workers=workers, write=place.write)
    from tsi_keras.data.beam_preparation import write_shards_on

    return partial(
        write_shards_on, place=place, runner=runner, runner_options=runner_options
    )


def _write_all(
    tasks: Sequence[ShardTask],
    folder: Path,
    options: RecordOptions,
    write: Callable[..., list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Write the shards that are not there yet; give the sidecars of all, in order."""
    remove_leftovers(folder)
    sidecars = {task.name: finished_shard(task, folder) for task in tasks}
    missing = [task for task in tasks if sidecars[task.name] is None]
    if missing:
        (folder / FILE_NAME).unlink(missing_ok=True)
    total = sum(len(task.videos) for task in tasks)
    kept = total - sum(len(task.videos) for task in missing)
    with progress("videos") as bar:
        row = bar.add_task("preparing", total=total, completed=kept)
        written = write(
            missing,
            folder,
            options,
            on_progress=lambda done: bar.update(row, completed=kept + done),
        )
    sidecars.update((sidecar["name"], sidecar) for sidecar in written)
    remove_leftovers(folder)
    return [sidecars[task.name] for task in tasks]
