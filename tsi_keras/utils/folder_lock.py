"""One process at a time in a folder: a training in that of its run, an export likewise."""

import errno
import fcntl
import json
import os
import platform
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tsi_keras.utils.console import console
from tsi_keras.utils.errors import InputError

# Its usual name in a folder: that of a run's lock, by which a run is known.
LOCK = ".lock"

# Seconds between two signs of life, and after how many without one of another machine's
# process its lock is taken over.
HEARTBEAT = 20.0
SILENCE = 180.0

_POLL = 1.0
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Owner(NamedTuple):
    """Who holds a lock, as its file tells.

    Attributes:
        host: name of the machine.
        machine: what tells machines apart, the same in all containers of one.
        pid: number of the process.
        token: no other lock has the same.
    """

    host: str
    machine: str
    pid: int
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class FolderLock:
    """A lock on a folder.

    Processes of one machine are kept apart by `flock`: the system releases it when the
    process ends, however it ends, so that nobody has to wait for a killed one. For disks
    that several machines share, and on which `flock` may not reach the others, the file
    tells who holds it, and is written anew every `HEARTBEAT` seconds. The lock of another
    machine's process is respected while it gives signs of life, and taken over after
    `SILENCE` seconds without one. A process that was silent only for a while notices that
    its lock is gone, see `check`.

    As a context it releases the lock, if it was taken, at the end of the block.

    Args:
        folder: what to lock. Nothing is touched before `acquire`.
        otherwise: what errors advise whoever does not want to wait.
        name: of the file in the folder; locks of different names do not see each other.

    Example:
        ```python
        with FolderLock("runs/demo") as lock:
            lock.acquire()
        ```
    """

    def __init__(
        self,
        folder: str | Path,
        otherwise: str = "choose another folder",
        name: str = LOCK,
    ):
        self.path = Path(folder).expanduser().absolute() / name
        self._otherwise = otherwise
        self._owner = Owner(platform.node(), _machine(), os.getpid(), uuid.uuid4().hex)
        self._beats = 0
        self._handle: int | None = None
        self._taken_by: Owner | None = None
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, once; the folder must exist.

        Raises:
            InputError: another process has it.
            OSError: the disk does not take the file.
        """
        while self._handle is None:
            self._handle = self._taken()
        self._write()
        self._thread.start()

    def check(self) -> None:
        """Whether the lock, if it was taken, is still ours; the file is read anew.

        A disk that does not answer for a moment is no reason to stop.

        Raises:
            InputError: another machine's process has taken it over.
        """
        with suppress(OSError):
            self._look()
        if self._taken_by is not None:
            raise InputError(
                f"`--output` {self.path.parent} was taken over by {self._taken_by} when "
                f"this process gave no sign of life for {SILENCE:.0f} s; nothing more is "
                "written here. Let that one go on."
            )

    @property
    def is_lost(self) -> bool:
        """Whether the last sign of life found another owner; reads nothing."""
        return self._taken_by is not None

    def release(self) -> None:
        """Give the lock up, and remove its file; without it nothing is done."""
        if self._handle is None:
            return
        self._released.set()
        if self._thread.is_alive():  # not begun where the disk did not take the file
            self._thread.join(timeout=5)
        with suppress(OSError):
            if self._is_current(self._handle):
                self.path.unlink()
        os.close(self._handle)
        self._handle = None

    def _taken(self) -> int | None:
        """The file opened and ours; None when one has to look once more."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free = _flock(handle)
            if self._is_current(handle):
                owner = self._read()
                if self._may_take(owner, free):
                    handle, mine = None, handle
                    return mine
                self._outwait(owner)
            return None
        finally:
            if handle is not None:
                os.close(handle)

    def _may_take(self, owner: Owner | None, free: bool | None) -> bool:
        """Whether the lock can be had at once; raises if it cannot be had at all.

        Args:
            owner: whom the file names, if anybody.
            free: what `flock` says; None where it does not work.
        """
        if owner is None:
            if free is False:
                raise self._in_use("a process that has only just begun")
            return True
        if owner.machine != _machine():
            return False
        if free is False:
            raise self._in_use(owner)
        return bool(free) or _is_dead(owner)

    def _in_use(self, owner: Owner | str) -> InputError:
        """Who uses the folder, and what to do."""
        return InputError(
            f"`--output` {self.path.parent} is in use by {owner}; wait until it ends, "
            f"stop it, or {self._otherwise}."
        )

    def _is_current(self, handle: int) -> bool:
        """Whether the file is still the one with that name."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _outwait(self, owner: Owner) -> None:
        """Remove the file of another machine's process when that one stays silent."""
        content, left = self._content(), SILENCE - self._age()
        if left > 0:
            console.print(
                f"{self.path.parent} is locked by {owner}; waiting up to {left:.0f} s "
                "for a sign of life",
                soft_wrap=True,
            )
        end = time.monotonic() + left
        while self._content() == content and time.monotonic() < end:
            time.sleep(_POLL)
        now = self._read()
        if self._content() == content:
            console.print(
                f"taking {self.path.parent} over from {owner}, which gave no sign of "
                f"life for {SILENCE:.0f} s",
                soft_wrap=True,
            )
            self.path.unlink(missing_ok=True)
        elif now is not None and now.token == owner.token:
            raise self._in_use(owner)

    def _age(self) -> float:
        """Seconds since the file was written, by the clock of the disk."""
        folder, name = self.path.parent, self.path.name
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}.") as file:
            file.write(b"now")
            file.flush()
            os.fsync(file.fileno())
            now = os.stat(file.name).st_mtime
        with suppress(FileNotFoundError):
            return max(0.0, now - self.path.stat().st_mtime)
        return 0.0

    def _content(self) -> bytes:
        """The bytes of the file, read anew; empty without it."""
        with suppress(FileNotFoundError):
            return self.path.read_bytes()
        return b""

    def _read(self) -> Owner | None:
        """Who the file says has the lock."""
        try:
            found = json.loads(self._content())
            return Owner(*(found[name] for name in Owner._fields))
        except (ValueError, KeyError, TypeError):
            return None

    def _beat_on(self) -> None:
        """Give signs of life until the lock is released or lost."""
        while self._taken_by is None and not self._released.wait(HEARTBEAT):
            # A full disk or a network that is gone must not end the training.
            with suppress(OSError):
                self._beat()

    def _beat(self) -> None:
        """Give one sign of life, unless somebody else has the lock."""
        self._look()
        if self._taken_by is None:
            self._write()

    def _look(self) -> None:
        """Notice whom the file names instead of us, once it was ours."""
        owner = self._read()
        if self._handle is not None and owner not in (None, self._owner):
            self._taken_by = owner

    def _write(self) -> None:
        """Say who has the lock; the same number of bytes every time."""
        self._beats += 1
        text = json.dumps({**self._owner._asdict(), "beat": f"{self._beats:012}"})
        os.ftruncate(self._handle, os.pwrite(self._handle, f"{text}\n".encode(), 0))
        os.fsync(self._handle)


def _flock(handle: int) -> bool | None:
    """Try to lock a file: done, refused, or None where the disk has no such locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return False if error.errno in _BUSY else None


def _is_dead(owner: Owner) -> bool:
    """Whether a process of this host has ended, where only its number tells."""
    if owner.host != platform.node():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """The same for all processes that share a kernel, until it starts again."""
    if _BOOT_ID.is_file():
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return f"{uuid.getnode():x}"
