"""Copies of a data set's shards nearer to the training: on a local disk, or in memory.

What is kept are whole records: all frames of every video as JPEG bytes. The order of the
videos and all draws stay those of a training without the copies, and every epoch has new
ones. (`Dataset.cache` and `Dataset.snapshot` would freeze the order of the first epoch,
or the draws, and a killed writer leaves files which the next run trips over.)
"""

import hashlib
import os
import shutil
import uuid
from pathlib import Path

import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import ShardInfo
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json

# TensorFlow's file system in this process's memory.
_MEMORY = "ram://tsi_keras"
_MARK = "cache.json"
_BLOCK = 1 << 22


def cached_shard_paths(info: DatasetInfo, split: str, cache: str | Path) -> list[str]:
    """Return the files to read a split from, and copy them first where that is asked for.

    Each shard is copied to a temporary name, compared with the SHA-256 in
    `dataset.json`, and only then renamed: what has its final name is whole. After a kill
    the next call goes on with the shards that are missing. Several processes may fill
    the same folder.

    Args:
        info: the data set.
        split: name of the split.
        cache: `"none"`: the data set's own files; `"memory"`: copies that live as long
            as this process and are shared by its datasets; else a local folder.

    Returns:
        Paths or `ram://` names, in reading order.

    Raises:
        InputError: the folder holds something else, such as copies of another data set
            or of this one before it was prepared again; it cannot be written or has no
            room; or a shard is not what `dataset.json` says.

    Example:
        ```python
        paths = cached_shard_paths(load_dataset_info("/nfs/kinetics"), "train", "/ssd")
        ```
    """
    sources = info.shard_paths(split)
    if str(cache) == "none":
        return sources
    shards = info.split(split).shards
    if str(cache) == "memory":
        folder = f"{_MEMORY}/{info.fingerprint}"
        tf.io.gfile.makedirs(folder)
    else:
        folder = str(_claimed(Path(cache).expanduser().absolute(), info))
    targets = [f"{folder}/{shard.name}" for shard in shards]
    missing = [
        job
        for job in zip(sources, targets, shards, strict=True)
        if not tf.io.gfile.exists(job[1])
    ]
    if missing:
        _check_room(folder, [source for source, _, _ in missing])
        with progress("shards") as bar:
            for job in bar.track(missing, description="caching"):
                _copy(*job)
    return targets


def forget_memory(info: DatasetInfo) -> None:
    """Free the copies of a data set that `"memory"` made in this process."""
    folder = f"{_MEMORY}/{info.fingerprint}"
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)


def _claimed(folder: Path, info: DatasetInfo) -> Path:
    """The folder, if it is empty or holds copies of just this data set."""
    if folder.resolve() == info.folder.resolve():
        raise InputError(
            f"`cache` {folder} is the data set itself; name another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _MARK).is_file():
            _check_empty(folder)
            write_json(folder / _MARK, {"fingerprint": info.fingerprint})
    except OSError as error:
        raise InputError(
            f"`cache` {folder} cannot be written: {error.strerror}."
        ) from error
    if read_json(folder / _MARK) != {"fingerprint": info.fingerprint}:
        raise InputError(
            f"`cache` {folder} holds copies of another data set, or of {info.folder} "
            "before it was prepared again; remove the folder or name another one."
        )
    return folder


def _check_empty(folder: Path) -> None:
    """Refuse to mix copies with anybody's files."""
    # What `write_json` was killed on begins with a dot.
    if any(not path.name.startswith(f".{_MARK}.") for path in folder.iterdir()):
        raise InputError(
            f"`cache` {folder} holds files that are no cache of ours; name another "
            "folder, or an empty one."
        )


def _check_room(folder: str, sources: list[str]) -> None:
    """Refuse to begin what would fill the disk."""
    if folder.startswith(_MEMORY):
        return
    needed = sum(tf.io.gfile.stat(source).length for source in sources)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"`cache` {folder} needs {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB "
            "are free there; name a folder on another disk, or take cache: none."
        )


def _copy(source: str, target: str, shard: ShardInfo) -> None:
    """Copy one shard; the target is whole or absent."""
    temporary = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        digest = _copy_bytes(source, temporary)
        if digest != shard.sha256:
            raise InputError(
                f"{source} is not the file that dataset.json describes (its SHA-256 "
                "differs); prepare the data set again with --overwrite."
            )
        tf.io.gfile.rename(temporary, target, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or error
        raise InputError(f"`cache`: {source} cannot be copied: {reason}") from error
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)


def _copy_bytes(source: str, target: str) -> str:
    """Copy a file and return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(source, "rb") as reader:
        with tf.io.gfile.GFile(target, "wb") as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                writer.write(block)
    if not target.startswith(_MEMORY):
        # Or a crash of the machine could leave the final name without the contents.
        with open(target, "rb") as file:
            os.fsync(file.fileno())
    return digest.hexdigest()
