"""The end of a preparation: counts, reports and, last of all, `dataset.json`."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tsi_keras
from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.data.dataset_info import SplitInfo
from tsi_keras.data.dataset_info import write_dataset_info
from tsi_keras.data.preparation_job import RETRY_MARK
from tsi_keras.data.preparation_job import Job
from tsi_keras.data.preparation_page import write_page
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_report import last_failures
from tsi_keras.data.preparation_report import write_report
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.thumbnails import sample_thumbnails


def finish(
    folder: Path,
    job: Job,
    sidecars: Sequence[Mapping[str, Any]],
    destination: RemotePath | None = None,
) -> PreparationReport:
    """Write the reports and, if there is anything to train on, `dataset.json`.

    Args:
        folder: folder of the data set, with all shards in it.
        job: what was to be done.
        sidecars: what `write_shard` gave for each of the job's tasks, in their order.
        destination: where the shards lie, if not in `folder`.

    Returns:
        The report.

    Raises:
        PreparationError: no video could be used.
    """
    info = _describe(folder, job.found.class_names, job.options, sidecars)
    report = PreparationReport(
        info=info,
        videos=[row for sidecar in sidecars for row in sidecar["videos"]],
        failures=last_failures(sidecars),
        skipped=job.found.skipped,
        notes=[*job.notes, *_notes_on_retries(sidecars)],
    )
    report.notes.extend(_notes_on_losses(report))
    write_report(report)
    write_page(report, sample_thumbnails(replace(info, folder=destination or folder)))
    if not report.num_prepared:
        first = report.failures[0]
        raise PreparationError(
            f"none of {report.num_videos} videos could be prepared, so there is no "
            f"{FILE_NAME}; see {report.html_path}. First: {first.id}: {first.reason}."
        )
    write_dataset_info(info)
    return report


def _notes_on_retries(sidecars: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what later attempts at failed videos added, and where it is."""
    later = [sidecar for sidecar in sidecars if RETRY_MARK in sidecar["name"]]
    if not later:
        return []
    number = sum(sidecar["num_videos"] for sidecar in later)
    return [
        f"{number} videos that had failed were added by --retry-failed, in the shards "
        f"with {RETRY_MARK!r} in their names"
    ]


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
