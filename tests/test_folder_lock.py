"""Who may work in a folder: on one machine, on another, and after a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
import types

import pytest

from tests.holding import python_saying
from tsi_keras.utils import folder_lock
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.folder_lock import LOCK
from tsi_keras.utils.folder_lock import SILENCE
from tsi_keras.utils.folder_lock import FolderLock

HOLD = """
import sys
from tsi_keras.utils.folder_lock import FolderLock

FolderLock(sys.argv[1]).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


class FakeTime:
    """A clock that only waiting moves; every wait is followed by `then`."""

    def __init__(self, then=lambda: None):
        self.now = 0.0
        self.then = then

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.then()


@pytest.fixture
def use_time(monkeypatch):
    """Replace the clock; returns it."""

    def use(then=lambda: None):
        fake = FakeTime(then)
        monkeypatch.setattr(folder_lock, "time", fake)
        return fake

    return use


def foreign(folder, beat=1, **changes):
    """Write the lock of a process on another machine."""
    owner = {"host": "node7", "machine": "other", "pid": 41, "token": "t", "beat": beat}
    (folder / LOCK).write_text(json.dumps(owner | changes))


def pid_in(folder):
    return json.loads((folder / LOCK).read_text())["pid"]


def test_one_at_a_time(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(InputError) as error:
        second.acquire()
    message = str(error.value)
    assert f"{tmp_path} is in use by process {os.getpid()} on " in message
    assert "choose another folder" in message and "\n" not in message
    second.release()
    assert pid_in(tmp_path) == os.getpid()
    first.release()
    assert not list(tmp_path.iterdir())
    with FolderLock(tmp_path) as third:
        third.acquire()
        third.check()
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path, repository, use_time):
    clock = use_time()
    with python_saying("locked", HOLD, tmp_path, folder=repository) as process:
        with pytest.raises(InputError, match=f"by process {process.pid} on"):
            FolderLock(tmp_path).acquire()
        process.send_signal(signal.SIGKILL)
    assert pid_in(tmp_path) == process.pid
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        assert pid_in(tmp_path) == os.getpid()
    assert clock.now == 0


def test_another_machine_that_lives(tmp_path, use_time):
    beats = iter(range(2, 1000))
    clock = use_time()
    clock.then = lambda: clock.now < 17 or foreign(tmp_path, next(beats))
    foreign(tmp_path)
    with pytest.raises(
        InputError, match="in use by process 41 on node7; wait"
    ) as error:
        FolderLock(tmp_path).acquire()
    assert "\n" not in str(error.value)
    assert 17 <= clock.now < SILENCE
    assert pid_in(tmp_path) == 41


def test_another_machine_that_is_silent(tmp_path, use_time, capsys):
    clock = use_time()
    foreign(tmp_path)
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        assert pid_in(tmp_path) == os.getpid()
    assert SILENCE - 60 < clock.now <= SILENCE + 1
    waiting, taking = capsys.readouterr().out.splitlines()
    assert "locked by process 41 on node7; waiting up to 1" in waiting
    assert "from process 41 on node7, which gave no sign of life for 180 s" in taking


def test_another_machine_that_was_silent_long_ago(tmp_path, use_time, capsys):
    clock = use_time()
    foreign(tmp_path)
    long_ago = (tmp_path / LOCK).stat().st_mtime - SILENCE - 60
    os.utime(tmp_path / LOCK, (long_ago, long_ago))
    with FolderLock(tmp_path) as lock:
        lock.acquire()
    assert clock.now == 0
    assert "taking" in capsys.readouterr().out


def test_another_machine_that_ends_meanwhile(tmp_path, use_time, capsys):
    clock = use_time((tmp_path / LOCK).unlink)
    foreign(tmp_path)
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        assert pid_in(tmp_path) == os.getpid()
    assert clock.now == 1
    assert "taking" not in capsys.readouterr().out


def test_lock_that_was_taken_over_is_noticed(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock._beat()
    lock.check()
    (tmp_path / LOCK).unlink()
    foreign(tmp_path)
    before = (tmp_path / LOCK).read_bytes()
    lock._beat()
    with pytest.raises(InputError, match="taken over by process 41 on node7") as error:
        lock.check()
    assert "\n" not in str(error.value)
    lock.release()
    # It is not ours to remove.
    assert (tmp_path / LOCK).read_bytes() == before


def test_check_sees_what_the_file_says_now(tmp_path):
    """Not what the last sign of life, up to 20 s ago, found there."""
    with FolderLock(tmp_path) as lock:
        foreign(tmp_path)
        lock.check()  # never taken, so that nobody took it over
        (tmp_path / LOCK).unlink()
        lock.acquire()
        lock.check()
        (tmp_path / LOCK).unlink()
        foreign(tmp_path)
        with pytest.raises(InputError, match="taken over by process 41 on node7"):
            lock.check()
        (tmp_path / LOCK).unlink()
        # Once lost is lost, even when the other has ended.
        with pytest.raises(InputError, match="taken over by process 41 on node7"):
            lock.check()


def test_check_goes_on_where_the_disk_does_not_answer(tmp_path, monkeypatch):
    def gone(_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with FolderLock(tmp_path) as lock:
        lock.acquire()
        with monkeypatch.context() as patch:
            patch.setattr(folder_lock.Path, "read_bytes", gone)
            lock.check()


def test_locks_of_other_names_are_others(tmp_path):
    with FolderLock(tmp_path) as run, FolderLock(tmp_path, name=".other") as other:
        run.acquire()
        other.acquire()
        assert {path.name for path in tmp_path.iterdir()} == {LOCK, ".other"}
        with pytest.raises(InputError, match="in use by process"):
            FolderLock(tmp_path, name=".other").acquire()
    assert not list(tmp_path.iterdir())


def test_every_beat_changes_the_file_but_not_its_size(tmp_path):
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        one = (tmp_path / LOCK).read_bytes()
        lock._beat()
        other = (tmp_path / LOCK).read_bytes()
    assert one != other and len(one) == len(other)


def test_beats_come_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "HEARTBEAT", 0.001)
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        begin = (tmp_path / LOCK).read_bytes()
        while (tmp_path / LOCK).read_bytes() == begin:
            lock._released.wait(0.001)


def test_disk_without_locks(tmp_path, monkeypatch, use_time):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    fake = types.SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4)
    monkeypatch.setattr(folder_lock, "fcntl", fake)
    first = FolderLock(tmp_path)
    clock = use_time(lambda: first._beat())
    first.acquire()
    with pytest.raises(InputError, match="in use by process"):
        FolderLock(tmp_path).acquire()
    first.release()
    # A process of this machine that has ended.
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    here = first._owner._asdict() | {"pid": ended.pid}
    foreign(tmp_path, **here)
    waited = clock.now
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        assert pid_in(tmp_path) == os.getpid()
    assert clock.now == waited


@pytest.mark.parametrize("content", ["", '{"host": "no', "[]"])
def test_file_that_was_never_finished(tmp_path, content, use_time):
    clock = use_time()
    (tmp_path / LOCK).write_text(content)
    with FolderLock(tmp_path) as lock:
        lock.acquire()
    assert clock.now == 0


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        FolderLock(tmp_path / "nowhere").acquire()


def test_disk_that_takes_the_name_but_no_content(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder_lock.os, "pwrite", refuse)
        with pytest.raises(OSError, match="No space left"):
            with FolderLock(tmp_path) as lock:
                lock.acquire()
    with FolderLock(tmp_path) as lock:
        lock.acquire()


def test_the_error_gives_the_advice_of_the_command(tmp_path):
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        with pytest.raises(InputError, match="stop it, or go home.$"):
            FolderLock(tmp_path, "go home").acquire()
