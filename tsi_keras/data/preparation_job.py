"""What a preparation has to do: its videos, splits and options, read and checked."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import Annotations
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.annotations import scan
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import to_path
from tsi_keras.data.shards import RecordOptions
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import plan_shards
from tsi_keras.data.splitting import assign_splits
from tsi_keras.data.splitting import parse_ratios
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.urls import is_remote

RETRY_MARK = ".retry"  # train.retry1-00000-of-00001.tfrecord


@dataclass(frozen=True)
class Job:
    """A preparation that can be done.

    Attributes:
        found: what the input holds.
        splits: split by video id.
        notes: what the reader of the report should know.
        options: all that shapes the records, for `dataset.json`.
        record: how to decode and encode.
    """

    found: Annotations
    splits: Mapping[str, str]
    notes: list[str]
    options: dict[str, Any]
    record: RecordOptions

    def tasks(self, retries: Sequence[Sequence[str]] = ()) -> list[ShardTask]:
        """The shards to write.

        Args:
            retries: ids of the videos of each later attempt at failed ones; they get
                shards of their own, so that those written before stay as they are.

        Returns:
            The shards of the first attempt, then those of the others.
        """
        entries = {entry.id: entry for entry in self.found.entries}
        tasks = self._plan(self.found.entries, "")
        for number, ids in enumerate(retries, 1):
            tasks += self._plan(
                [entries[name] for name in ids], f"{RETRY_MARK}{number}"
            )
        return tasks

    def _plan(self, entries: Sequence[VideoEntry], suffix: str) -> list[ShardTask]:
        return plan_shards(
            entries,
            self.splits,
            self.found.class_names,
            videos_per_shard=self.options["videos_per_shard"],
            seed=self.options["seed"],
            suffix=suffix,
        )


def read_job(
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
) -> Job:
    """Read the list of videos and check the options; write nothing.

    Args: those of `prepare`.

    Returns:
        The job.

    Raises:
        InputError: an argument or the input is not usable.
    """
    fps = fps if frames is None else None
    record = _check_options(fps, frames, short_side, quality, min_frames)
    positive("videos_per_shard", videos_per_shard, 1)
    ratios = parse_ratios(split)
    found = scan(
        source,
        format=format,
        annotations=annotations,
        labels=labels,
        split_number=split_number,
        frame_files=frame_files,
    )
    _check_apart(source, output, found)
    splits, notes = assign_splits(found.entries, ratios, seed)
    options = {
        "format": found.format,
        "classes": found.class_digest,
        "split": _split_option(found, split),
        "seed": seed,
        "fps": fps,
        "frames": frames,
        "short_side": short_side,
        "quality": quality,
        "min_frames": min_frames,
        "videos_per_shard": videos_per_shard,
    }
    return Job(found, splits, found.notes + notes, options, record)


def positive(name: str, value: int | None, default: int) -> int:
    """Check a number that must be at least 1.

    Args:
        name: of the argument.
        value: what was given.
        default: what `None` stands for.

    Returns:
        `value`, or `default` for `None`.

    Raises:
        InputError: it is no integer of at least 1.
    """
    if value is None:
        return default
    check_positive(name, value)
    return value


def _check_options(
    fps: float | None,
    frames: int | None,
    short_side: int | None,
    quality: int,
    min_frames: int,
) -> RecordOptions:
    """Refuse values that cannot work before anything is read."""
    positive("short_side", short_side, 1)
    positive("min_frames", min_frames, 1)
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"`fps` must be above 0 and at most 1000. Received: {fps}")
    if not 1 <= quality <= 100:
        raise InputError(f"`quality` must be from 1 to 100. Received: {quality}")
    if frames is not None and frames < min_frames:
        raise InputError(
            f"`frames` must be at least `min_frames`, {min_frames}. Received: {frames}"
        )
    return RecordOptions(fps, short_side, quality, min_frames, frames)


def _split_option(annotations: Annotations, split: str) -> str:
    """What decided the splits, for the record."""
    given = all(entry.split is not None for entry in annotations.entries)
    return "as given in the input" if given else split


def _check_apart(
    source: str | Path, output: str | Path, annotations: Annotations
) -> None:
    """Keep the output away from the videos: `--overwrite` deletes a folder."""
    source, output = _resolved(source), _resolved(output)
    is_folder = is_remote(source) or source.is_dir()
    if is_folder and _lies_in(output, source):
        raise InputError(
            f"`--output` {output} lies inside `--input` {source}; choose another "
            "folder."
        )
    inputs = [source, *annotations.files]
    inputs += [entry.path.absolute() for entry in annotations.entries]
    if any(_lies_in(path, output) for path in inputs):
        raise InputError(
            f"`--output` {output} contains the input videos; choose another folder."
        )


def _resolved(path: str | Path) -> Path | RemotePath:
    path = to_path(path)
    return path if is_remote(path) else path.resolve()


def _lies_in(path: Path | RemotePath, folder: Path | RemotePath) -> bool:
    return is_remote(path) == is_remote(folder) and path.is_relative_to(folder)
