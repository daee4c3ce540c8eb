"""A check-up of a finished data set: is it whole, and is it what it says?

Errors are what spoils a training or a figure: damaged shards, counts that disagree,
one video in two splits. Warnings are what a person should look at.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import tsi_keras
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.duplicates import equal_groups
from tsi_keras.data.duplicates import near_pairs
from tsi_keras.data.duplicates import spread
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import check_writable
from tsi_keras.data.remote import list_names
from tsi_keras.data.remote import to_path
from tsi_keras.data.remote import upload
from tsi_keras.data.shard_reading import RecordFacts
from tsi_keras.data.shard_reading import ShardFacts
from tsi_keras.data.shard_reading import read_shard
from tsi_keras.data.worker_processes import chosen_workers
from tsi_keras.data.worker_processes import run_in_processes
from tsi_keras.utils.console import progress
from tsi_keras.utils.files import write_json
from tsi_keras.utils.urls import is_remote

VERIFICATION_JSON = "verification.json"
ERROR, WARNING = "error", "warning"
_LISTED = 1000  # findings of one kind that are kept; the rest is counted
_SHORT_CLIP = 8  # frames a usual clip takes
_DURATION_TOLERANCE = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, which check, where, what."""

    severity: str
    check: str
    where: str
    message: str


@dataclass
class Verification:
    """What came of a check-up.

    Attributes:
        folder: folder of the data set, a `Path` or a `RemotePath`.
        num_shards: shards read.
        num_videos: records read.
        counts: videos by split and class, as found.
        frame_histogram: number of videos by their number of stored frames.
        findings: at most 1000 of each check and severity, errors first.
        found: number of findings by `(severity, check)`, all counted.
    """

    folder: Path | RemotePath
    num_shards: int
    num_videos: int
    counts: dict[str, dict[str, int]]
    frame_histogram: dict[int, int]
    findings: list[Finding]
    found: dict[tuple[str, str], int]

    def number(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(n for (kind, _), n in self.found.items() if kind == severity)

    @property
    def is_sound(self) -> bool:
        """Whether there is no error."""
        return not self.number(ERROR)

    def to_json(self) -> dict[str, Any]:
        """Contents of `verification.json`."""
        return {
            "tool_version": tsi_keras.__version__,
            "sound": self.is_sound,
            "errors": self.number(ERROR),
            "warnings": self.number(WARNING),
            "shards": self.num_shards,
            "videos": self.num_videos,
            "found": [
                {"severity": severity, "check": check, "number": number}
                for (severity, check), number in self.found.items()
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "counts": self.counts,
            "frame_histogram": self.frame_histogram,
        }


def verify(data_dir: str | Path, *, workers: int | None = None) -> Verification:
    """Read a whole data set, decode every frame, and compare with `dataset.json`.

    Writes `verification.json` into the folder and nothing else.

    Args:
        data_dir: a finished data set; on remote storage, each shard is copied here
            while it is read.
        workers: processes; `None` takes one per CPU.

    Returns:
        What was found; `is_sound` where there is no error.

    Raises:
        InputError: there is no finished data set, `workers` is below 1, or the
            storage does not answer or can only be read.
        PreparationError: a worker process died.

    Example:
        ```python
        for finding in verify("data/mine").findings:
            print(finding.severity, finding.where, finding.message)
        ```
    """
    workers = chosen_workers(workers)
    if is_remote(data_dir):
        check_writable(to_path(data_dir), "--verify")
    info = load_dataset_info(data_dir)
    shards = _read_all(info, workers)
    verification = check(info, shards)
    _write(verification)
    return verification


def _write(verification: Verification) -> None:
    """Put `verification.json` into the folder."""
    path = verification.folder / VERIFICATION_JSON
    if not is_remote(path):
        write_json(path, verification.to_json())
        return
    with tempfile.TemporaryDirectory() as folder:
        upload(write_json(Path(folder) / path.name, verification.to_json()), path)


def _read_all(info: DatasetInfo, workers: int) -> dict[str, list[ShardFacts]]:
    """Facts of all shards by split, in order."""
    names = [shard.name for split in info.splits.values() for shard in split.shards]
    with progress("shards") as bar:
        row = bar.add_task("verifying", total=len(names))
        facts = run_in_processes(
            partial(read_shard, info.folder),
            names,
            workers=workers,
            on_done=lambda done: bar.update(row, completed=done),
        )
    found = iter(facts)
    return {
        name: [next(found) for _ in split.shards] for name, split in info.splits.items()
    }


def check(info: DatasetInfo, shards: dict[str, list[ShardFacts]]) -> Verification:
    """Compare what was read with what `dataset.json` says.

    Args:
        info: the description.
        shards: facts by split, in the order of `info`.

    Returns:
        The findings.
    """
    read = _Read(info, shards)
    found, listed = Counter(), []
    checks = (_check_shards, _check_counts, _check_records, _check_copies)
    for finding in chain.from_iterable(one(read) for one in checks):
        kind = finding.severity, finding.check
        found[kind] += 1
        if found[kind] <= _LISTED:
            listed.append(finding)
    listed.sort(key=lambda finding: finding.severity)  # "error" before "warning"
    histogram = Counter(record.num_frames for _, record in read.videos)
    return Verification(
        folder=info.folder,
        num_shards=sum(map(len, shards.values())),
        num_videos=len(read.videos),
        counts=read.counts,
        frame_histogram=dict(sorted(histogram.items())),
        findings=listed,
        found=dict(sorted(found.items())),
    )


class _Read:
    """What was read, arranged for the checks."""

    def __init__(self, info: DatasetInfo, shards: dict[str, list[ShardFacts]]):
        self.info = info
        self.shards = shards
        self.counts = {name: _count(info, facts) for name, facts in shards.items()}
        self.videos = [
            (split, record)
            for split, facts in shards.items()
            for shard in facts
            for record in shard.records
        ]


def _count(info: DatasetInfo, facts: list[ShardFacts]) -> dict[str, int]:
    """Videos by class as the records name them; zeros included."""
    counts = dict.fromkeys(info.class_names, 0)
    for shard in facts:
        for record in shard.records:
            counts[record.class_name] = counts.get(record.class_name, 0) + 1
    return counts


def _check_shards(read: _Read) -> Iterator[Finding]:
    """Are the files the ones that were written, and nothing beside them?"""
    info = read.info
    for split, facts in read.shards.items():
        for shard, found in zip(info.splits[split].shards, facts, strict=True):
            if found.problem:
                yield Finding(ERROR, "shard unreadable", shard.name, found.problem)
            elif found.sha256 != shard.sha256:
                message = "its SHA-256 is not the one in dataset.json"
                yield Finding(ERROR, "shard changed", shard.name, message)
            if len(found.records) != shard.num_videos:
                message = (
                    f"{len(found.records)} of {shard.num_videos} records are there"
                )
                yield Finding(ERROR, "shard count", shard.name, message)
    listed = {shard.name for split in info.splits.values() for shard in split.shards}
    for name in _files(info.folder):
        if name.endswith(".tfrecord") and name not in listed:
            message = "dataset.json does not list it; nothing reads it"
            yield Finding(WARNING, "shard not listed", name, message)


def _files(folder: Path | RemotePath) -> list[str]:
    """Names in the folder of a data set, sorted."""
    if is_remote(folder):
        return list_names(folder)
    return sorted(path.name for path in folder.iterdir())


def _check_counts(read: _Read) -> Iterator[Finding]:
    """Do splits and classes hold what dataset.json says?"""
    for split, found in read.counts.items():
        stated = read.info.splits[split]
        if sum(found.values()) != stated.num_videos:
            message = f"{sum(found.values())} of {stated.num_videos} videos are there"
            yield Finding(ERROR, "split count", split, message)
        for name in sorted({*found, *stated.counts}):
            here, there = found.get(name, 0), stated.counts.get(name, 0)
            if here != there:
                message = f"{here} videos, dataset.json says {there}"
                yield Finding(ERROR, "class count", f"{split}: {name}", message)
        if split == "train":
            for name in (name for name, n in found.items() if not n):
                message = "no video of this class to learn from"
                yield Finding(WARNING, "empty class", f"{split}: {name}", message)


def _check_records(read: _Read) -> Iterator[Finding]:
    """Is each record whole, labelled right, long enough and of the right length?"""
    fewest = read.info.options.get("min_frames") or 1
    enough = min(_SHORT_CLIP, read.info.options.get("frames") or _SHORT_CLIP)
    for split, record in read.videos:
        where = f"{split}: {record.id or 'a record without id'}"
        for problem in record.problems:
            yield Finding(ERROR, "record damaged", where, problem)
        if not record.id:
            continue
        if _label_is_wrong(read.info, record):
            message = f"label {record.label} is not that of {record.class_name!r}"
            yield Finding(ERROR, "wrong label", where, message)
        if record.num_frames < fewest:
            message = f"{record.num_frames} frames; at least {fewest} were asked for"
            yield Finding(ERROR, "too short", where, message)
        elif record.num_frames < enough:
            message = (
                f"{record.num_frames} frames: a clip of {_SHORT_CLIP} repeats some"
            )
            yield Finding(WARNING, "short", where, message)
        yield from _check_duration(record, where)


def _label_is_wrong(info: DatasetInfo, record: RecordFacts) -> bool:
    """Whether the number and the name of the class disagree."""
    inside = 0 <= record.label < info.num_classes
    return not inside or info.class_names[record.label] != record.class_name


def _check_duration(record: RecordFacts, where: str) -> Iterator[Finding]:
    """Do the stored frames last as long as the video did?"""
    if not record.fps > 0:
        yield Finding(ERROR, "wrong rate", where, f"{record.fps} frames per second")
        return
    stored = record.num_frames / record.fps
    # One frame more or less at either end is a matter of rounding.
    tolerance = 2 / record.fps + _DURATION_TOLERANCE * record.source_seconds
    if record.source_seconds and abs(stored - record.source_seconds) > tolerance:
        message = (
            f"{record.num_frames} frames at {record.fps:.3g} per second last "
            f"{stored:.2f} s, the video lasts {record.source_seconds:.2f} s"
        )
        yield Finding(WARNING, "wrong duration", where, message)


def _check_copies(read: _Read) -> Iterator[Finding]:
    """Is a video there twice: by id, by content, nearly; in two splits or classes?"""
    splits = [split for split, _ in read.videos]
    labels = [record.class_name for _, record in read.videos]
    names = [f"{split}: {record.id}" for split, record in read.videos]
    for group in equal_groups([record.id for _, record in read.videos]):
        message = ", ".join(names[i] for i in group)
        yield Finding(ERROR, "id twice", names[group[0]], message)
    contents = [
        record.content if record.num_frames else "" for _, record in read.videos
    ]
    groups = equal_groups(contents)
    leaks = {group[0] for group in spread(groups, splits)}
    for group in groups:
        yield _copies("same content", group, group[0] in leaks, names, labels)
    pairs, skipped = near_pairs([record.signature for _, record in read.videos])
    for a, b in pairs:
        if contents[a] != contents[b]:
            leak = splits[a] != splits[b]
            yield _nearly("nearly the same", (a, b), leak, names, labels)
    if skipped:
        message = f"{skipped} videos look like more than 400 others; not compared"
        yield Finding(WARNING, "not compared", "all splits", message)


def _copies(check, group, leak, names, labels) -> Finding:
    """One finding for videos of equal content."""
    message = " = ".join(names[i] for i in group)
    if len({labels[i] for i in group}) > 1:
        message += " (under different classes)"
    if leak:
        return Finding(ERROR, f"{check} in two splits", names[group[0]], message)
    return Finding(WARNING, check, names[group[0]], message)


def _nearly(check, pair, leak, names, labels) -> Finding:
    """One finding for two videos that look alike: for a person to decide."""
    where, other = names[pair[0]], names[pair[1]]
    message = f"looks like {other}"
    if labels[pair[0]] != labels[pair[1]]:
        message += " (of another class)"
    check += " in two splits" if leak else ""
    return Finding(WARNING, check, where, message)
