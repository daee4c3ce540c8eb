"""A data set written to remote storage: made shard by shard here, published whole.

A shard is uploaded, read back, and only then gets its sidecar at the destination;
`dataset.json` comes last. So what carries a sidecar is whole wherever a job is killed,
and a resumed job redoes nothing else. Locally lies only what is being written.
"""

import contextlib
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import FILE_NAME
from tsi_keras.data.preparation_state import MANIFEST
from tsi_keras.data.preparation_state import REPORT_HTML
from tsi_keras.data.preparation_state import REPORT_JSON
from tsi_keras.data.remote import RemoteError
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import check_writable
from tsi_keras.data.remote import download
from tsi_keras.data.remote import in_parallel
from tsi_keras.data.remote import list_names
from tsi_keras.data.remote import remove
from tsi_keras.data.remote import size_of
from tsi_keras.data.remote import to_path
from tsi_keras.data.remote import upload
from tsi_keras.data.shards import PUBLISHED
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import write_shard
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.urls import is_remote

_OWN = (FILE_NAME, REPORT_JSON, REPORT_HTML, "verification.json")


@dataclass(frozen=True)
class Place:
    """Where a preparation writes.

    Attributes:
        folder: the local folder it works in.
        modes: `overwrite`, `resume` and `retry_failed`, as far as they concern `folder`.
        destination: the remote folder, if `folder` is only the staging area.
    """

    folder: Path
    modes: dict[str, bool]
    destination: RemotePath | None = None

    @property
    def write(self) -> Callable[..., dict[str, Any]]:
        """What writes a shard: `write_shard`, or one that publishes it too."""
        if self.destination is None:
            return write_shard
        return partial(write_and_publish, destination=self.destination)

    def begin(self) -> None:
        """Publish what resuming needs, and take `dataset.json` away until the end."""
        if self.destination is None:
            return
        remove(self.destination / FILE_NAME)
        state = self.folder / STATE_FOLDER
        upload(state / MANIFEST, self.destination / STATE_FOLDER / MANIFEST)

    def end(self) -> None:
        """Publish the reports and, if it was written, `dataset.json` last of all."""
        if self.destination is None:
            return
        for name in (REPORT_JSON, REPORT_HTML, FILE_NAME):
            if (self.folder / name).is_file():
                upload(self.folder / name, self.destination / name)


@contextlib.contextmanager
def opened(output: str | Path, modes: dict[str, bool]) -> Iterator[Place]:
    """The place a preparation writes to; a staging folder for a remote `output`.

    Args:
        output: local or remote folder of the data set.
        modes: `overwrite`, `resume` and `retry_failed`.

    Yields:
        The place. Errors that name the staging folder name the destination outside.

    Raises:
        InputError: the destination may not be used.
    """
    if not is_remote(output):
        yield Place(Path(output), modes)
        return
    destination = to_path(str(output))
    check_writable(destination)
    with tempfile.TemporaryDirectory(prefix="tsi_keras-") as stage:
        folder = Path(stage).resolve() / "data"
        try:
            yield _claim(destination, folder, dict(modes))
        except (InputError, PreparationError) as error:
            text = str(error).replace(str(folder), str(destination))
            raise type(error)(text) from None


def write_and_publish(
    task: ShardTask, folder: Path, options: Any, on_video: Any, destination: RemotePath
) -> dict[str, Any]:
    """`write_shard`, then upload the shard and its sidecar and delete the local shard.

    Args:
        task: see `write_shard`, likewise the next three.
        folder: local folder to work in.
        options: how to decode and encode.
        on_video: called before and after each video.
        destination: remote folder of the data set.

    Returns:
        The sidecar.

    Raises:
        PreparationError: the shard cannot be written or uploaded.
    """
    sidecar = write_shard(task, folder, options, on_video)
    name = f"{task.name}.json"
    try:
        upload(folder / task.name, destination / task.name, sidecar["sha256"])
        upload(folder / STATE_FOLDER / name, destination / STATE_FOLDER / name)
    except RemoteError as error:
        raise PreparationError(
            f"{error} Shards that are whole at {destination} are kept: go on with "
            "--resume."
        ) from None
    finally:
        (folder / task.name).unlink(missing_ok=True)
    return sidecar


def fetch_sidecars(destination: RemotePath, folder: Path, names: list[str]) -> None:
    """Copy the sidecars of published shards into the staging folder.

    Args:
        destination: remote folder of the data set.
        folder: the staging folder.
        names: names of shards that lie at the destination.
    """
    in_parallel(partial(_fetch_sidecar, destination, folder), names)


def _claim(destination: RemotePath, folder: Path, modes: dict[str, bool]) -> Place:
    """Look at the destination and stage what its earlier run left."""
    names = list_names(destination)
    ours = {STATE_FOLDER, FILE_NAME, REPORT_JSON} & set(names)
    if names and not ours and any(modes.values()):
        raise InputError(
            f"`--output` {destination} is not empty and holds no data set of this "
            "tool; it was not touched. Choose another folder."
        )
    if names and not any(modes.values()):
        raise InputError(
            f"`--output` {destination} is not empty; nothing was written. Choose "
            "another folder, or add --resume to go on or --overwrite to start anew."
        )
    if modes["overwrite"] and modes["resume"]:
        raise InputError("`--overwrite` and `--resume` exclude each other; give one.")
    folder.mkdir()
    if modes.pop("overwrite"):
        _clear(destination, names)
    elif names:
        _stage(destination, folder, names)
    return Place(folder, modes | {"overwrite": False}, destination)


def _clear(destination: RemotePath, names: list[str]) -> None:
    """Delete an earlier data set, `dataset.json` first, and nothing else."""
    state = destination / STATE_FOLDER
    remove(destination / FILE_NAME)
    in_parallel(remove, [state / name for name in list_names(state)])
    own = [name for name in names if name in _OWN or name.endswith(".tfrecord")]
    in_parallel(remove, [destination / name for name in own])


def _stage(destination: RemotePath, folder: Path, names: list[str]) -> None:
    """Fetch the manifest and the sidecars of the shards that are there."""
    state = folder / STATE_FOLDER
    state.mkdir()
    there = list_names(destination / STATE_FOLDER)
    if MANIFEST in there:
        download(destination / STATE_FOLDER / MANIFEST, state / MANIFEST)
    shards = [name for name in names if f"{name}.json" in set(there)]
    fetch_sidecars(destination, folder, shards)


def _fetch_sidecar(destination: RemotePath, folder: Path, name: str) -> None:
    """One sidecar, marked so that `finished_shard` takes the shard for there."""
    path = folder / STATE_FOLDER / f"{name}.json"
    download(destination / STATE_FOLDER / path.name, path)
    sidecar = read_json(path)
    if size_of(destination / name) == sidecar["bytes"]:
        write_json(path, sidecar | {PUBLISHED: str(destination)})
    else:
        path.unlink()
