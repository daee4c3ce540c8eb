"""From labelled videos to a data set of TFRecords with a report."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.preparation_job import Job
from tsi_keras.data.preparation_job import read_job
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.preparation_outcome import finish
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_retry import claimed
from tsi_keras.data.preparation_state import remove_leftovers
from tsi_keras.data.remote_output import Place
from tsi_keras.data.remote_output import opened
from tsi_keras.data.shard_pool import write_shards
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import finished_shard
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.worker_processes import chosen_workers
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError

_DEFAULTS = PreparationOptions()


def prepare(
    source: str | Path,
    output: str | Path,
    *,
    format: str = _DEFAULTS.format,
    annotations: str | Path | Sequence[str | Path] | None = _DEFAULTS.annotations,
    labels: str | Path | None = _DEFAULTS.labels,
    split_number: int | None = _DEFAULTS.split_number,
    frame_files: FrameFiles | None = _DEFAULTS.frame_files,
    split: str = _DEFAULTS.split,
    seed: int = _DEFAULTS.seed,
    fps: float | None = _DEFAULTS.fps,
    frames: int | None = _DEFAULTS.frames,
    short_side: int | None = _DEFAULTS.short_side,
    quality: int = _DEFAULTS.quality,
    min_frames: int = _DEFAULTS.min_frames,
    videos_per_shard: int | None = _DEFAULTS.videos_per_shard,
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
    hidden folder `.prepare` keeps what `resume` needs. Defaults of what shapes the
    data set are those of `PreparationOptions`.

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
        workers: processes besides this one; `None` takes one per usable core.
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
    workers = chosen_workers(workers)
    _check_runner(runner, runner_options)
    options = PreparationOptions(
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
    job = read_job(source, output, options)
    modes = {"overwrite": overwrite, "resume": resume, "retry_failed": retry_failed}
    writer = partial(_writer, workers, runner, runner_options)
    return _carry_out(job, output, modes, writer)


def _carry_out(
    job: Job,
    output: str | Path,
    modes: dict[str, bool],
    writer: Callable[[Place], Callable[..., list[dict[str, Any]]]],
) -> PreparationReport:
    """Write the shards that are not there yet, the reports and `dataset.json`."""
    with (
        opened(output, modes) as place,
        claimed(job, place.folder, **place.modes) as (job, folder, retries),
    ):
        place.begin()
        tasks = job.tasks(retries)
        sidecars = _write_all(tasks, folder, job.record, writer(place))
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
    workers: int, runner: str | None, runner_options: Sequence[str], place: Place
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
