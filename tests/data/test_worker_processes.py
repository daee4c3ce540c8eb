"""Worker processes: what they know of the process that starts them, and do to it."""

import multiprocessing.process
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from unittest import mock

from tests.data.making_videos import make_class_folder
from tsi_keras.data import preparation
from tsi_keras.data import shard_pool
from tsi_keras.data import worker_environment
from tsi_keras.data.preparation import prepare
from tsi_keras.data.shards import write_shard
from tsi_keras.data.worker_processes import process_context
from tsi_keras.data.worker_processes import run_in_processes

NAME = "AWS_ENDPOINT_URL"


def seen(name: str) -> str | None:
    """A variable as the worker of a new pool has it."""
    with ProcessPoolExecutor(1, mp_context=process_context()) as pool:
        return pool.submit(os.getenv, name).result()


def test_workers_see_what_their_caller_changed(monkeypatch):
    for value in ("http://first", "http://second"):
        monkeypatch.setenv(NAME, value)
        assert seen(NAME) == value
        values = run_in_processes(
            os.getenv, [NAME, NAME], workers=2, on_done=lambda done: None
        )
        assert values == [value, value]
    monkeypatch.delenv(NAME)
    assert seen(NAME) is None


def test_variables_the_server_began_with_can_be_taken_away(monkeypatch):
    assert seen("PATH") == os.environ["PATH"]
    monkeypatch.delenv("PATH")
    assert seen("PATH") is None


def test_workers_take_no_accelerator_whatever_the_caller_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert seen("CUDA_VISIBLE_DEVICES") == "-1"
    assert seen("TF_CPP_MIN_LOG_LEVEL") == "3"


def test_what_libraries_set_when_they_are_imported_stays(monkeypatch):
    monkeypatch.setattr(worker_environment, "_INHERITED", frozenset({"ONCE", "NOW"}))
    environment = {"ONCE": "caller", "NOW": "caller", "LATER": "library"}
    with mock.patch.dict(os.environ, environment, clear=True):
        worker_environment.adopt({"NOW": "changed", "NEW": "caller"})
        assert dict(os.environ) == {
            "NOW": "changed",
            "NEW": "caller",
            "LATER": "library",
            **worker_environment.SETTLED,
        }


def compare(name: str, value: str) -> None:
    """Body of a lone process."""
    sys.exit(int(os.getenv(name) != value))


def test_a_lone_process_sees_it_too(monkeypatch):
    for value in ("http://first", "http://second"):
        monkeypatch.setenv(NAME, value)
        process = process_context().Process(target=compare, args=(NAME, value))
        process.start()
        process.join()
        assert process.exitcode == 0


def noting_write(task, folder, *arguments):
    """`write_shard` that also notes a variable."""
    Path(folder, "seen").write_text(str(os.getenv(NAME)))
    return write_shard(task, folder, *arguments)


def test_each_preparation_has_the_environment_of_its_time(tmp_path, monkeypatch):
    source = make_class_folder(tmp_path / "videos", {"a": 1, "b": 1})

    def write(*arguments, **named):
        return shard_pool.write_shards(*arguments, **{**named, "write": noting_write})

    monkeypatch.setattr(preparation, "write_shards", write)
    for number in "12":
        monkeypatch.setenv(NAME, f"http://{number}")
        prepare(source, tmp_path / number, split="1", workers=1)
        assert (tmp_path / number / "seen").read_text() == f"http://{number}"


def test_threads_that_start_processes_at_once_keep_the_script(monkeypatch):
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    entered = threading.Event()

    def slow_start(process) -> None:
        assert sys.modules["__main__"] is not script
        entered.set()
        time.sleep(0.1 if process.name == "first" else 0.3)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", slow_start)
    make = process_context().Process
    threads = [
        threading.Thread(target=make(name=name).start) for name in ("first", "second")
    ]
    threads[0].start()
    entered.wait()
    threads[1].start()  # while the first is at it, and for longer
    for thread in threads:
        thread.join()
    assert sys.modules["__main__"] is script
