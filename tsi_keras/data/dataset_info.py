"""`dataset.json`: what a prepared data set holds, and the way to its shards."""

import hashlib
import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from tsi_keras.data.remote import RemoteNotFound
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import can_list
from tsi_keras.data.remote import list_names
from tsi_keras.data.remote import read_bytes
from tsi_keras.data.remote import to_path
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json

FILE_NAME = "dataset.json"
SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ShardInfo:
    """One TFRecord file: its name in the data folder, its videos, its SHA-256."""

    name: str
    num_videos: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split.

    Attributes:
        num_videos: stored videos.
        counts: stored videos by class name, zeros included.
        shards: the TFRecord files in reading order.
    """

    num_videos: int
    counts: dict[str, int]
    shards: list[ShardInfo]


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of `dataset.json`.

    Attributes:
        class_names: in the order of the labels (the official one, else sorted).
        splits: by name ("train", "val", "test"); a split that no video was meant
            for is absent.
        options: the options of the preparation that shaped the records.
        tool_version: version of tsi_keras that wrote the data set.
        schema_version: version of this file's own layout.
        folder: where the data set lies, a `Path` or, on remote storage, a
            `RemotePath`; not stored and not compared.
    """

    class_names: list[str]
    splits: dict[str, SplitInfo]
    options: dict[str, Any]
    tool_version: str
    schema_version: int = SCHEMA_VERSION
    folder: Path | RemotePath = field(default=Path("."), compare=False)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what a model would see: class names and shard contents."""
        content = {
            "class_names": self.class_names,
            "shards": {
                name: [shard.sha256 for shard in split.shards]
                for name, split in sorted(self.splits.items())
            },
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def split(self, name: str) -> SplitInfo:
        """Return one split.

        Raises:
            InputError: the data set has no split of that name, or it is empty.
        """
        if name not in self.splits:
            raise InputError(
                f"`--split` must be one of {sorted(self.splits)}, the splits of "
                f"{self.folder}. Received: {name!r}"
            )
        if not self.splits[name].num_videos:
            raise InputError(f"split {name!r} of {self.folder} holds no videos.")
        return self.splits[name]

    def shard_paths(self, split: str) -> list[str]:
        """Return the paths of a split's TFRecord files in reading order.

        Raises:
            InputError: the split is unknown or one of its files is missing.
        """
        names = [shard.name for shard in self.split(split).shards]
        for name in _missing(self.folder, names):
            raise InputError(
                f"{self.folder / name}, listed in {FILE_NAME}, is missing; prepare "
                "the data set again with --overwrite."
            )
        return [str(self.folder / name) for name in names]


def write_dataset_info(info: DatasetInfo) -> Path:
    """Write `info` to `dataset.json` in its folder, atomically."""
    content = asdict(info)
    del content["folder"]
    return write_json(info.folder / FILE_NAME, content)


def load_dataset_info(data_dir: str | Path) -> DatasetInfo:
    """Read the `dataset.json` of a prepared data set.

    Args:
        data_dir: the `--output` folder of `pipelines.prepare`, local or an address
            such as `s3://bucket/data`.

    Returns:
        The description with `folder` set to `data_dir`.

    Raises:
        InputError: the folder is missing or is no finished data set, or the file
            is unreadable or written by a newer version.
        RemoteError: the bucket is missing, or the storage refuses or does not answer.

    Example:
        ```python
        info = load_dataset_info("data/mine")
        print(info.class_names, info.splits["train"].num_videos)
        ```
    """
    folder = to_path(data_dir)
    content = _read_content(folder)
    _check_version(content, folder / FILE_NAME)
    try:
        return _from_json(content, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / FILE_NAME} is damaged ({type(error).__name__}: {error}); "
            "prepare the data set again with --overwrite."
        ) from error


def _read_content(folder: Path | RemotePath) -> Any:
    """The parsed file."""
    missing = InputError(
        f"{folder} holds no {FILE_NAME}, so it is not a finished data set; make "
        "one with `python -m pipelines.prepare --input VIDEOS --output DATA`."
    )
    if isinstance(folder, RemotePath):
        try:
            return json.loads(read_bytes(folder / FILE_NAME))
        except RemoteNotFound:
            raise missing from None
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{folder / FILE_NAME} is not readable JSON: {error}"
            ) from error
    if not folder.is_dir():
        raise InputError(
            f"`--data` {folder} is not a folder; give the --output of pipelines.prepare."
        )
    if not (folder / FILE_NAME).is_file():
        raise missing
    return read_json(folder / FILE_NAME)


def _missing(folder: Path | RemotePath, names: list[str]) -> list[str]:
    """Which files are not there; of remote ones by one listing, where there is such."""
    if not isinstance(folder, RemotePath):
        return [name for name in names if not (folder / name).is_file()]
    if not can_list(folder):
        return []  # the first read will tell
    there = set(list_names(folder))
    return [name for name in names if name not in there]


def _check_version(content: Any, path: Path) -> None:
    """Refuse what this version cannot read."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{path} is not a tsi_keras data set: no `schema_version`.")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {version}, this tsi_keras reads up to "
            f"{SCHEMA_VERSION}; update tsi_keras."
        )


def _from_json(content: dict[str, Any], folder: Path) -> DatasetInfo:
    """Build the dataclasses from the parsed file."""
    splits = {
        name: SplitInfo(
            num_videos=split["num_videos"],
            counts=dict(split["counts"]),
            shards=[ShardInfo(**shard) for shard in split["shards"]],
        )
        for name, split in content["splits"].items()
    }
    return DatasetInfo(
        class_names=list(content["class_names"]),
        splits=splits,
        options=dict(content["options"]),
        tool_version=content["tool_version"],
        schema_version=content["schema_version"],
        folder=folder,
    )
