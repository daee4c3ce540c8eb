"""How commands end: by the wrong backend of Keras, by SIGTERM, with their children."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipelines import demo
from pipelines import doctor
from pipelines import export
from pipelines import predict
from pipelines import request
from pipelines import train
from pipelines._command import run
from tsi_keras.utils.errors import InputError

COMMANDS = [
    (demo, []),
    (doctor, ["models"]),
    (export, ["--model", "x"]),
    (predict, ["v.mp4", "--model", "x"]),
    (request, ["v.mp4", "--server", "http://x", "--export", "x"]),
    (train, ["--config", "c", "--data", "x", "--output", "y"]),
]


@pytest.mark.parametrize("command, arguments", COMMANDS)
def test_another_backend_is_one_line(command, arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert run(command.main, arguments) == 2
    message = capsys.readouterr().err
    assert message == (
        "error: the commands need Keras on TensorFlow, but the environment variable "
        "KERAS_BACKEND is 'jax'; unset it (unset KERAS_BACKEND).\n"
    )
    with pytest.raises(SystemExit) as end:
        run(command.main, ["--help"])
    assert end.value.code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend, status", [("jax", 2), ("", 0)])
def test_backend_of_a_new_process(backend, status, repository, tmp_path):
    """An empty variable does not leave the choice to Keras' configuration file."""
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    settings = {"KERAS_BACKEND": backend, "KERAS_HOME": str(tmp_path)}
    program = (
        "import sys; from pipelines import doctor, _command; import os; "
        "doctor._environment = lambda: os.environ['KERAS_BACKEND'] != 'tensorflow'; "
        "sys.argv[1:] = []; _command.exit_with(doctor.main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (status == 2)


@pytest.fixture
def plain_sigterm():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def terminate(_=None):
    """A command that is ended, and what would be left if it were not cleaned up."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_sigterm_lets_a_command_clean_up(plain_sigterm, capsys):
    cleaned = []

    def main(_):
        try:
            terminate()
        finally:
            # As `timeout` does it, and then the clean-up goes on.
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
            cleaned.append(True)

    assert run(main, []) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_ends_a_command_and_the_one_that_called_it(plain_sigterm):
    def main(_):
        run(terminate, [])
        raise AssertionError("the calling command went on")

    assert run(main, []) == 143


def test_sigterm_of_a_command_that_handles_it(plain_sigterm):
    received = []

    def main(_):
        before = signal.signal(
            signal.SIGTERM, lambda number, _: received.append(number)
        )
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
        signal.signal(signal.SIGTERM, before)
        terminate()

    assert run(main, []) == 143
    assert received == [signal.SIGTERM]


def test_sigterm_that_someone_else_has_is_left_alone():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run(lambda _: os.kill(os.getpid(), signal.SIGTERM) or 0, []) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_commands_run_in_other_threads():
    statuses = []

    def main(_):
        raise InputError("wrong")

    thread = threading.Thread(target=lambda: statuses.append(run(main, [])))
    thread.start()
    thread.join()
    assert statuses == [2]


LOCKING = """
import fcntl, sys, time

file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
time.sleep(600)
"""
STARTING = """
import os, sys
from pathlib import Path
from pipelines._command import run
from tsi_keras.utils.child_program import run_child_program

program, *arguments = sys.argv[1:]
main = lambda _: run_child_program(
    Path(program), *arguments, cwd=".", env=os.environ
).returncode
sys.exit(run(main))
"""


@pytest.mark.parametrize(
    "number, status", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)]
)
def test_a_child_ends_with_its_parent(number, status, tmp_path, repository):
    program, lock, ready = (tmp_path / name for name in ("program.py", "lock", "ready"))
    program.write_text(LOCKING)
    with subprocess.Popen(
        [sys.executable, "-c", STARTING, program, lock, ready], cwd=repository
    ) as parent:
        try:
            _wait_until(ready.exists)
        finally:
            parent.send_signal(number)
    assert parent.returncode == status
    with lock.open() as file:
        _wait_until(lambda: _locked(file))


def _locked(file) -> bool:
    """Whether the lock is ours; a process that is gone does not hold it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_until(condition) -> None:
    """For a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
