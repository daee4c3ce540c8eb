"""One shard of the preparation: its videos, decoded, encoded and written at once.

A shard is the unit of work and of resuming. It is written under a temporary name,
renamed, and only then gets its sidecar (what became of each video), so a shard with
a sidecar is whole whenever the process may be killed.
"""

import json
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.dataset_info import SPLITS
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.remote import RemoteError
from tsi_keras.data.splitting import stable_order
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.stored_video import store_video
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.files import write_text

STATE_FOLDER = ".prepare"
PUBLISHED = "published"  # in a staged sidecar: its shard was seen on remote storage
_MANY_SHARDS = 32  # enough for tf.data to interleave and for workers to share


class PreparationError(RuntimeError):
    """The preparation could not go on, for a reason outside the videos."""


@dataclass(frozen=True)
class ShardTask:
    """One TFRecord file to write.

    Attributes:
        name: of the file.
        split: of its videos.
        videos: `(video, label)` in order.
        unusable: `(id, reason)` of those of them that must not be decoded.
    """

    name: str
    split: str
    videos: tuple[tuple[VideoEntry, int], ...]
    unusable: tuple[tuple[str, str], ...] = ()


def plan_shards(
    entries: Iterable[VideoEntry],
    splits: Mapping[str, str],
    class_names: Sequence[str],
    *,
    videos_per_shard: int | None,
    seed: int,
    suffix: str = "",
) -> list[ShardTask]:
    """Deal the videos of each split, shuffled, out to shards.

    Args:
        entries: all videos.
        splits: split by video id.
        class_names: in the order of the labels.
        videos_per_shard: most videos in one shard; `None` chooses 16 to 128 so that
            a split has about 32 shards.
        seed: which shuffle.
        suffix: what follows the split in the names of the shards.

    Returns:
        The shards; they depend on nothing but the arguments.
    """
    labels = {name: index for index, name in enumerate(class_names)}
    tasks = []
    for split in SPLITS:
        members = {entry.id: entry for entry in entries if splits[entry.id] == split}
        order = stable_order(members, seed)
        size = videos_per_shard or min(128, max(16, -(-len(order) // _MANY_SHARDS)))
        count = -(-len(order) // size)
        for index in range(count):
            ids = order[index * len(order) // count : (index + 1) * len(order) // count]
            videos = tuple((members[name], labels[members[name].label]) for name in ids)
            name = f"{split}{suffix}-{index:05d}-of-{count:05d}.tfrecord"
            tasks.append(ShardTask(name, split, videos))
    return tasks


def write_shard(
    task: ShardTask,
    folder: Path,
    options: RecordOptions,
    on_video: Callable[[str | None], None],
) -> dict[str, Any]:
    """Write one shard and its sidecar.

    Args:
        task: the shard.
        folder: folder of the data set.
        options: how to decode and encode.
        on_video: called with the id of each video before it and with `None` after
            it; an exception from it ends the work and leaves no shard.

    Returns:
        The sidecar: `name`, `split`, `num_videos`, `sha256`, `bytes`, `videos` and
        `failures` (one dictionary per video).

    Raises:
        PreparationError: the shard cannot be written.
    """
    # Here and not above: listing videos and refusing bad input must not wait for it.
    import tensorflow as tf

    state = folder / STATE_FOLDER
    temporary = state / f"{task.name}.{os.getpid()}.tmp"
    try:
        rows, failures = [], []
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for entry, label in task.videos:
                on_video(entry.id)
                record, row = encode_video(entry, label, task, options)
                (rows if record else failures).append(row)
                if record:
                    writer.write(record)
                on_video(None)
        return _publish(task, folder, temporary, rows, failures)
    except RemoteError as error:
        raise PreparationError(f"{error} Go on with --resume.") from None
    except (OSError, tf.errors.OpError) as error:
        message = f"{folder / task.name} cannot be written: {error}"
        raise PreparationError(message) from None
    finally:
        temporary.unlink(missing_ok=True)


def finished_shard(task: ShardTask, folder: Path) -> dict[str, Any] | None:
    """Return the sidecar of a shard that an earlier run finished, else `None`.

    Args:
        task: the shard.
        folder: folder of the data set.

    Returns:
        The sidecar, if the shard still has the size and time it states, else if it
        has the SHA-256: reading a terabyte again would take hours.
    """
    path = folder / task.name
    try:
        sidecar = json.loads(_sidecar_path(task, folder).read_text(encoding="utf-8"))
        if PUBLISHED in sidecar:
            return sidecar
        status = path.stat()
        unchanged = (status.st_size, status.st_mtime_ns) == tuple(sidecar["stamp"])
        unchanged = unchanged or file_sha256(path) == sidecar["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    return sidecar if unchanged else None


def _publish(
    task: ShardTask,
    folder: Path,
    temporary: Path,
    rows: list[dict[str, Any]],
    failures: list[dict[str, Any]],
) -> dict[str, Any]:
    """Give a written shard its name, then its sidecar."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    status = temporary.stat()
    sidecar = {
        "name": task.name,
        "split": task.split,
        "num_videos": len(rows),
        "sha256": file_sha256(temporary),
        "bytes": status.st_size,
        "stamp": [status.st_size, status.st_mtime_ns],
        "videos": rows,
        "failures": failures,
    }
    os.replace(temporary, folder / task.name)
    write_text(_sidecar_path(task, folder), json.dumps(sidecar, ensure_ascii=False))
    return sidecar


def _sidecar_path(task: ShardTask, folder: Path) -> Path:
    return folder / STATE_FOLDER / f"{task.name}.json"


def encode_video(
    entry: VideoEntry, label: int, task: ShardTask, options: RecordOptions
) -> tuple[bytes | None, dict[str, Any]]:
    """Make the record of a video.

    Args:
        entry: the video.
        label: its class index.
        task: the shard it belongs to.
        options: how to decode and encode.

    Returns:
        The record and its row of the report; where the video cannot be used, `None`
        and a row with the `reason`.
    """
    row = {
        "id": entry.id,
        "path": str(entry.path),
        "label": entry.label,
        "split": task.split,
    }
    if reason := dict(task.unusable).get(entry.id):
        return None, row | {"reason": reason}
    try:
        record, details = _decode_to_record(entry, label, options)
    except VideoError as error:
        return None, row | {"reason": error.reason}
    except RemoteError:
        raise  # says nothing about the video, and would be the same for all others
    except Exception as error:
        # One odd file must not stop thousands of good ones; it is in the report.
        message = " ".join(str(error).split())
        return None, row | {"reason": f"unexpected {type(error).__name__}: {message}"}
    return record, row | details | {"shard": task.name}


def _decode_to_record(
    entry: VideoEntry, label: int, options: RecordOptions
) -> tuple[bytes, dict[str, Any]]:
    """The record of a video, and what its row says of it."""
    stored = store_video(entry, options)
    record = stored.record(entry.id, label, entry.label)
    return record, {
        "num_frames": len(stored.jpegs),
        "fps": stored.fps,
        "height": stored.height,
        "width": stored.width,
        "source_num_frames": stored.source_num_frames,
        "source_fps": stored.source_fps,
        "bytes": len(record),
    }
