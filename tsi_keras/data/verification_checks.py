"""What the check-up of a data set looks for.

Errors are what spoils a training or a figure: damaged shards, counts that disagree,
one video in two splits. Warnings are what a person should look at.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.duplicates import equal_groups
from tsi_keras.data.duplicates import near_pairs
from tsi_keras.data.duplicates import spread
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import list_names
from tsi_keras.data.shard_reading import RecordFacts
from tsi_keras.data.shard_reading import ShardFacts
from tsi_keras.utils.urls import is_remote

ERROR, WARNING = "error", "warning"
_SHORT_CLIP = 8  # frames a usual clip takes
_DURATION_TOLERANCE = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, which check, where, what."""

    severity: str
    check: str
    where: str
    message: str


class ReadData:
    """What was read, arranged for the checks.

    Attributes:
        info: what `dataset.json` says.
        shards: facts by split, in the order of `info`.
        counts: videos by split and class, as found.
        videos: `(split, record)` of all.
    """

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


def findings(read: ReadData) -> Iterator[Finding]:
    """Everything that is wrong, in the order of the checks.

    Args:
        read: what was read.

    Yields:
        The findings.
    """
    for check in (_check_shards, _check_counts, _check_records, _check_copies):
        yield from check(read)


def _count(info: DatasetInfo, facts: list[ShardFacts]) -> dict[str, int]:
    """Videos by class as the records name them; zeros included."""
    counts = dict.fromkeys(info.class_names, 0)
    for shard in facts:
        for record in shard.records:
            counts[record.class_name] = counts.get(record.class_name, 0) + 1
    return counts


def _check_shards(read: ReadData) -> Iterator[Finding]:
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


def _check_counts(read: ReadData) -> Iterator[Finding]:
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


def _check_records(read: ReadData) -> Iterator[Finding]:
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


def _check_copies(read: ReadData) -> Iterator[Finding]:
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
