"""Several processes that write shards, and what happens when one of them dies."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Any
from typing import TypeVar

from tsi_keras.data.deadly_videos import WORKING
from tsi_keras.data.deadly_videos import Suspects
from tsi_keras.data.shards import STATE_FOLDER
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.shards import RecordOptions
from tsi_keras.data.shards import ShardTask
from tsi_keras.data.shards import encode_video
from tsi_keras.data.shards import write_shard
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.following import end_after

_POLL_SECONDS = 0.2
T = TypeVar("T")
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
    """Write shards in `workers` processes; with one, in this process.

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
        The sidecars in the order of `tasks`. With several workers, a video that kills
        the process which decodes it is among the failures.

    Raises:
        PreparationError: a shard cannot be written, or worker processes die for
            another reason than a video; finished shards stay.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        return _write_here(tasks, folder, options, on_progress, write)
    suspects = Suspects(folder, options, process_context(), encode, _follow_parent)
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
        _await(futures, lambda: on_progress(done.get_obj().value))
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


def chosen_workers(workers: int | None) -> int:
    """Check a number of processes.

    Args:
        workers: what was asked for; `None` stands for one per CPU.

    Returns:
        The number.

    Raises:
        InputError: it is no integer of at least 1.
    """
    if workers is None:
        return os.cpu_count() or 1
    check_positive("workers", workers)
    return workers


def run_in_processes(
    function: Callable[[Any], T],
    items: Sequence[Any],
    *,
    workers: int,
    on_done: Callable[[int], None],
) -> list[T]:
    """Apply a function to all items in `workers` processes; with one, here.

    Args:
        function: a function of one item, known by name to other processes.
        items: what to apply it to.
        workers: number of processes.
        on_done: called now and then with the number of items done.

    Returns:
        The results in the order of `items`.

    Raises:
        PreparationError: a worker process died.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        results = []
        for item in items:
            results.append(function(item))
            on_done(len(results))
        return results
    pool = ProcessPoolExecutor(
        workers, mp_context=process_context(), initializer=_follow_parent
    )
    try:
        futures = [pool.submit(function, item) for item in items]
        _await(futures, lambda: on_done(sum(future.done() for future in futures)))
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise PreparationError(
            "a worker process died (killed, out of memory or crashed); run again, "
            "perhaps with fewer --workers."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def process_context() -> multiprocessing.context.BaseContext:
    """Processes that share nothing with this one; TensorFlow is loaded only once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsi_keras.data.worker_preload"])
    return context


def _write_here(
    tasks: Sequence[ShardTask],
    folder: Path,
    options: RecordOptions,
    on_progress: Callable[[int], None],
    write: Callable[..., dict[str, Any]],
) -> list[dict[str, Any]]:
    """Write all shards in this process."""
    done = 0

    def on_video(identifier: str | None) -> None:
        nonlocal done
        if identifier is None:
            done += 1
            on_progress(done)

    return [write(task, folder, options, on_video) for task in tasks]


def _await(futures: Sequence[Future], report: Callable[[], None]) -> None:
    """Wait for all; stop waiting at the first exception."""
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=_POLL_SECONDS)
        report()
        for future in finished:
            future.result()


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
    _follow_parent()
    _worker = _Worker(folder, options, done, stop, write)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, which reaches the whole group, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent must not leave workers that go on writing.
    sentinel = multiprocessing.parent_process().sentinel
    end_after(lambda: connection.wait([sentinel]))


def _work(task: ShardTask) -> dict[str, Any]:
    return _worker.write(task, _worker.folder, _worker.options, _worker.on_video)
