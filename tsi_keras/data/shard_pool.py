"""Processes that write shards, and what happens when one of them dies."""

import ctypes
import os
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tsi_keras.data.deadly_videos import WORKING
from tsi_keras.data.deadly_videos import Suspects
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import encode_video
from tsi_keras.data.shards import write_shard
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.worker_processes import await_all
from tsi_keras.data.worker_processes import follow_parent
from tsi_keras.data.worker_processes import process_context

_worker: "_Worker | None" = None  # set in worker processes only


class _Stopped(Exception):
    """The run was given up while this worker had videos left."""


def write_shards(
    tasks: Sequence[ShardTask],
    folder: Path,
    options: RecordOptions,
    *,
    workers: int,
    on_progress: Callable[[int], None],
    write: Callable[..., dict[str, Any]] = write_shard,
    encode: Callable[..., Any] = encode_video,
) -> list[dict[str, Any]]:
    """Write shards in `workers` other processes: a video may kill its decoder.

    Args:
        tasks: the shards.
        folder: folder of the data set.
        options: how to decode and encode.
        workers: number of processes.
        on_progress: called now and then with the number of videos done.
        write: `write_shard` or a function like it, importable by name.
        encode: how `write` makes a record; `encode_video` or a function like it. A
            video at which a worker died is tried with it alone.

    Returns:
        The sidecars in the order of `tasks`. A video that kills the process which
        decodes it is among the failures.

    Raises:
        PreparationError: a shard cannot be written, or worker processes die for
            another reason than a video; finished shards stay.
    """
    suspects = Suspects(folder, options, encode)
    sidecars: dict[str, dict[str, Any]] = {}
    while missing := [task for task in tasks if task.name not in sidecars]:
        kept = sum(len(task.videos) for task in tasks if task.name in sidecars)
        written, broken = _write_in_pool(
            [suspects.without_culprits(task) for task in missing],
            (folder, options, write),
            min(workers, len(missing)),
            lambda done, kept=kept: on_progress(kept + done),
        )
        sidecars |= written
        if broken:
            suspects.examine([task for task in missing if task.name not in written])
    return [sidecars[task.name] for task in tasks]


def _write_in_pool(
    tasks: Sequence[ShardTask],
    arguments: tuple[Path, RecordOptions, Callable[..., dict[str, Any]]],
    workers: int,
    on_progress: Callable[[int], None],
) -> tuple[dict[str, dict[str, Any]], bool]:
    """Sidecars by name, and whether a worker died before all were there."""
    folder, options, write = arguments
    context = process_context()
    done = context.Value(ctypes.c_longlong, 0)
    stop = context.Value(ctypes.c_bool, False)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(folder, options, done, stop, write),
    )
    futures, broken = [], False
    try:
        futures += [pool.submit(_work, task) for task in tasks]
        # Read without the lock: a worker killed while it holds it must not block us.
        await_all(futures, lambda: on_progress(done.get_obj().value))
    except BrokenProcessPool:
        broken = True
    finally:
        stop.get_obj().value = True
        pool.shutdown(wait=True, cancel_futures=True)
    whole = [
        future.result()
        for future in futures
        if future.done() and not future.cancelled() and future.exception() is None
    ]
    return {sidecar["name"]: sidecar for sidecar in whole}, broken


class _Worker:
    """State of a worker process."""

    def __init__(
        self, folder: Path, options: RecordOptions, done: Any, stop: Any, write: Any
    ):
        self.folder = folder
        self.options = options
        self.write = write
        self._done = done
        self._stop = stop
        self._note = folder / STATE_FOLDER / f"{WORKING}{os.getpid()}"

    def on_video(self, identifier: str | None) -> None:
        """Note what is being decoded, in case it kills this process; count it."""
        if identifier is None:
            with self._done.get_lock():
                self._done.value += 1
            self._note.unlink(missing_ok=True)
        elif self._stop.get_obj().value:
            raise _Stopped
        else:
            self._note.write_text(identifier, encoding="utf-8")


def _start_worker(
    folder: Path, options: RecordOptions, done: Any, stop: Any, write: Any
) -> None:
    """Prepare a worker process."""
    global _worker
    follow_parent()
    _worker = _Worker(folder, options, done, stop, write)


def _work(task: ShardTask) -> dict[str, Any]:
    return _worker.write(task, _worker.folder, _worker.options, _worker.on_video)
