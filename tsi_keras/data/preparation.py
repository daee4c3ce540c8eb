"""From labelled videos to a data set of TFRecords with a report."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tsi_keras
from tsi_keras.data.annotations import Annotations
from tsi_keras.data.annotations import scan
from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.preparation_report import Failure
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_report import write_report
from tsi_keras.data.preparation_state import build_manifest
from tsi_keras.data.preparation_state import locked
from tsi_keras.data.preparation_state import open_output
from tsi_keras.data.preparation_state import remove_leftovers
from tsi_keras.data.shard_pool import write_shards
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.shards import RecordOptions
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import finished_shard
from tsi_keras.data.shards import plan_shards
from tsi_keras.data.splitting import assign_splits
from tsi_keras.data.splitting import parse_ratios
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError


def prepare(
    source: str | Path,
    output: str | Path,
    *,
    split: str = "0.8/0.1/0.1",
    seed: int = 0,
    fps: float | None = 12.0,
    short_side: int | None = 256,
    quality: int = 90,
    min_frames: int = 2,
    videos_per_shard: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> PreparationReport:
    """Turn labelled videos into TFRecords for training.

    Writes `SPLIT-00000-of-0000N.tfrecord` shards, `report.json`, `report.html` and,
    last of all, `dataset.json`: where it exists, the data set is complete. Videos
    that cannot be used are left out and listed, each with its reason. The shards
    depend on the videos and options only, not on `workers` or interruptions. A
    hidden folder `.prepare` keeps what `resume` needs.

    Args:
        source: folder `class_name/video.mp4`, or a CSV, see `read_annotations`.
        output: folder of the data set, new or empty.
        split: shares of train/val/test; not used where a CSV gives the splits.
        seed: decides split and order.
        fps: frames per second to store; `None` stores every frame.
        short_side: shorter side of the stored frames in pixels; `None` keeps the
            size of each file.
        quality: JPEG quality, 1 to 100.
        min_frames: fewest frames a usable video has.
        videos_per_shard: most videos in one file; `None` chooses 16 to 128.
        workers: processes; `None` takes one per CPU. More than one needs the usual
            `if __name__ == "__main__":` in a script that calls this.
        overwrite: replace the data set in `output`.
        resume: finish the interrupted preparation in `output`.

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
    record = _check_options(fps, short_side, quality, min_frames)
    workers = _positive("workers", workers, os.cpu_count() or 1)
    _positive("videos_per_shard", videos_per_shard, 1)
    ratios = parse_ratios(split)
    annotations = scan(source)
    _check_apart(source, output, annotations)
    splits, notes = assign_splits(annotations.entries, ratios, seed)
    options = {
        "split": _split_option(annotations, split),
        "seed": seed,
        "fps": fps,
        "short_side": short_side,
        "quality": quality,
        "min_frames": min_frames,
        "videos_per_shard": videos_per_shard,
    }
    manifest = build_manifest(options, annotations.entries, splits)
    folder = open_output(output, manifest, overwrite=overwrite, resume=resume)
    tasks = plan_shards(
        annotations.entries,
        splits,
        annotations.class_names,
        videos_per_shard=videos_per_shard,
        seed=seed,
    )
    with locked(folder):
        sidecars = _write_all(tasks, folder, record, workers)
        return _finish(folder, annotations, options, notes, sidecars)


def _check_options(
    fps: float | None, short_side: int | None, quality: int, min_frames: int
) -> RecordOptions:
    """Refuse values that cannot work before anything is read."""
    _positive("short_side", short_side, 1)
    _positive("min_frames", min_frames, 1)
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"`fps` must be above 0 and at most 1000. Received: {fps}")
    if not 1 <= quality <= 100:
        raise InputError(f"`quality` must be from 1 to 100. Received: {quality}")
    return RecordOptions(fps, short_side, quality, min_frames)


def _positive(name: str, value: int | None, default: int) -> int:
    """`value`, or `default` for `None`."""
    if value is None:
        return default
    if value < 1:
        raise InputError(f"`{name}` must be at least 1. Received: {value}")
    return value


def _split_option(annotations: Annotations, split: str) -> str:
    """What decided the splits, for the record."""
    given = all(entry.split is not None for entry in annotations.entries)
    return "as given in the input" if given else split


def _check_apart(
    source: str | Path, output: str | Path, annotations: Annotations
) -> None:
    """Keep the output away from the videos: `--overwrite` deletes a folder."""
    source = Path(source).expanduser().resolve()
    output = Path(output).expanduser().resolve()
    if source.is_dir() and output.is_relative_to(source):
        raise InputError(
            f"`--output` {output} lies inside `--input` {source}; choose another "
            "folder."
        )
    inputs = [source, *(entry.path.absolute() for entry in annotations.entries)]
    if any(path.is_relative_to(output) for path in inputs):
        raise InputError(
            f"`--output` {output} contains the input videos; choose another folder."
        )


def _write_all(
    tasks: Sequence[ShardTask], folder: Path, options: RecordOptions, workers: int
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
        written = write_shards(
            missing,
            folder,
            options,
            workers=workers,
            on_progress=lambda done: bar.update(row, completed=kept + done),
        )
    sidecars.update((sidecar["name"], sidecar) for sidecar in written)
    remove_leftovers(folder)
    return [sidecars[task.name] for task in tasks]


def _finish(
    folder: Path,
    annotations: Annotations,
    options: Mapping[str, Any],
    notes: list[str],
    sidecars: Sequence[Mapping[str, Any]],
) -> PreparationReport:
    """Write the reports and, if there is anything to train on, `dataset.json`."""
    info = _describe(folder, annotations.class_names, options, sidecars)
    failures = [Failure(**row) for sidecar in sidecars for row in sidecar["failures"]]
    report = PreparationReport(
        info=info,
        videos=[row for sidecar in sidecars for row in sidecar["videos"]],
        failures=sorted(failures, key=lambda failure: failure.id),
        skipped=annotations.skipped,
        notes=notes,
    )
    report.notes.extend(_notes_on_losses(report))
    write_report(report)
    if not report.num_prepared:
        first = report.failures[0]
        raise PreparationError(
            f"none of {report.num_videos} videos could be prepared, so there is no "
            f"{FILE_NAME}; see {report.html_path}. First: {first.id}: {first.reason}."
        )
    write_dataset_info(info)
    return report


def _describe(
    folder: Path,
    class_names: list[str],
    options: Mapping[str, Any],
    sidecars: Sequence[Mapping[str, Any]],
) -> DatasetInfo:
    """Contents of `dataset.json`."""
    splits = {}
    for name in SPLITS:
        shards = [sidecar for sidecar in sidecars if sidecar["split"] == name]
        if shards:
            splits[name] = _describe_split(shards, class_names)
    return DatasetInfo(
        class_names=class_names,
        splits=splits,
        options=dict(options),
        tool_version=tsi_keras.__version__,
        folder=folder,
    )


def _describe_split(
    sidecars: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> SplitInfo:
    """Counts and shards of one split."""
    counts = dict.fromkeys(class_names, 0)
    for sidecar in sidecars:
        for row in sidecar["videos"]:
            counts[row["label"]] += 1
    shards = [
        ShardInfo(sidecar["name"], sidecar["num_videos"], sidecar["sha256"])
        for sidecar in sidecars
    ]
    return SplitInfo(sum(counts.values()), counts, shards)


def _notes_on_losses(report: PreparationReport) -> list[str]:
    """Say where failures took everything: a whole split, a whole class of one."""
    notes = []
    for split, info in report.info.splits.items():
        lost = sorted({f.label for f in report.failures if f.split == split})
        if not info.num_videos:
            notes.append(f"every video of split {split!r} failed")
            continue
        for label in lost:
            if not info.counts[label]:
                notes.append(f"every video of class {label!r} in {split!r} failed")
    return notes
