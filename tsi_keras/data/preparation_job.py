"""What a preparation has to do: its videos, splits and options, read and checked."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import Annotations
from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import to_path
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import plan_shards
from tsi_keras.data.splitting import assign_splits
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.utils.errors import InputError
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
    source: str | Path, output: str | Path, options: PreparationOptions
) -> Job:
    """Read the list of videos and deal them out to splits; write nothing.

    Args:
        source: see `prepare`.
        output: see `prepare`.
        options: which videos to read, how to split and how to store them.

    Returns:
        The job.

    Raises:
        InputError: the input is not usable, or `output` would mix with it.
    """
    found = options.scan(source)
    _check_apart(source, output, found)
    splits, notes = assign_splits(found.entries, options.ratios, options.seed)
    record = options.record
    described = {
        "format": found.format,
        "classes": found.class_digest,
        "split": _split_option(found, options.split),
        "seed": options.seed,
        "fps": record.fps,
        "frames": record.frames,
        "short_side": record.short_side,
        "quality": record.quality,
        "min_frames": record.min_frames,
        "videos_per_shard": options.videos_per_shard,
    }
    return Job(found, splits, found.notes + notes, described, record)


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
