"""Processes that work for this one: how many, how they start, follow it and end."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION
from concurrent.futures import Future
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import ModuleType
from typing import Any
from typing import TypeVar

from tsi_keras.data.shards import PreparationError
from tsi_keras.data.worker_environment import adopt
from tsi_keras.utils.cores import available_cores
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.following import end_after

_POLL_SECONDS = 0.2
_SERVED = "forkserver" in multiprocessing.get_all_start_methods()
_METHOD = multiprocessing.get_context("forkserver" if _SERVED else "spawn")
# Held while another module stands in for the script: a second thread would take that
# for the script and put it back for good.
_script_replaced = threading.Lock()
T = TypeVar("T")


class _Process(_METHOD.Process):
    """A process that leaves the calling script alone and has our environment.

    It would run the script again to find functions defined there, and a script
    without `if __name__ == "__main__":` would then start preparing once more.
    """

    def start(self) -> None:
        # A server that forks knows only the environment of its own start.
        self._environment = dict(os.environ)
        with _script_replaced:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = script

    def run(self) -> None:
        adopt(self._environment)
        super().run()


class _Context(type(_METHOD)):
    Process = _Process


def process_context() -> multiprocessing.context.BaseContext:
    """Processes that share nothing with this one; TensorFlow is loaded only once.

    What they run must be importable by name, from a module other than `__main__`.
    Each has the environment variables this process has when it is started, except for
    those of `worker_environment.SETTLED`.
    """
    context = _Context()
    if _SERVED:
        context.set_forkserver_preload(["tsi_keras.data.worker_preload"])
    return context


def chosen_workers(workers: int | None) -> int:
    """Check a number of processes.

    Args:
        workers: what was asked for; `None` stands for one per usable core.

    Returns:
        The number.

    Raises:
        InputError: it is no integer of at least 1.
    """
    if workers is None:
        return available_cores()
    check_positive("workers", workers)
    return workers


def follow_parent() -> None:
    """Leave Ctrl-C to the parent, which reaches the whole group, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent must not leave workers that go on writing.
    sentinel = multiprocessing.parent_process().sentinel
    end_after(lambda: connection.wait([sentinel]))


def await_all(futures: Sequence[Future], report: Callable[[], None]) -> None:
    """Wait for all; stop waiting at the first exception, which is raised.

    Args:
        futures: what runs.
        report: called now and then while it runs.
    """
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
        report()
        for future in finished:
            future.result()


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
        workers, mp_context=process_context(), initializer=follow_parent
    )
    try:
        futures = [pool.submit(function, item) for item in items]
        await_all(futures, lambda: on_done(sum(future.done() for future in futures)))
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise PreparationError(
            "a worker process died (killed, out of memory or crashed); run again, "
            "perhaps with fewer --workers."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
