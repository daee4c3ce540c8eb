"""How a command ends: exit codes, one-line errors and signals."""

import signal
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tsi_keras.utils.console import errors
from tsi_keras.utils.errors import InputError

# `timeout` signals a command twice, and that must not break the clean-up off.
_SAME_REQUEST_SECONDS = 5.0


class Terminated(SystemExit):
    """SIGTERM came; what is open is cleaned up on the way out."""


def run(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Call `main(argv)` and turn how it ended into an exit status.

    Bad input becomes one line on stderr and status 2, Ctrl-C 130. SIGTERM, unless
    someone handles or ignores it already, unwinds the stack like Ctrl-C and becomes 143.

    Args:
        main: of a command.
        argv: its arguments; None for those of the process.

    Returns:
        The exit status.
    """
    with _sigterm_raises() as ours:
        try:
            return main(argv)
        except InputError as error:
            errors.print(f"error: {error}", markup=False, style="red")
            return 2
        except KeyboardInterrupt:
            errors.print("interrupted", markup=False)
            return 130
        except Terminated as end:
            if not ours:  # for the command that called this one
                raise
            errors.print("terminated", markup=False)
            return end.code


@contextmanager
def _sigterm_raises() -> Iterator[bool]:
    """Let SIGTERM raise `Terminated` in here; gives whether this did that."""
    # Only the main thread may.
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield False
        return
    signal.signal(signal.SIGTERM, _RaiseOnce())
    try:
        yield True
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _RaiseOnce:
    """Handler that raises `Terminated`, and again only when it is asked again later."""

    def __init__(self):
        self._last: float | None = None

    def __call__(self, number: int, _: Any) -> None:
        before, self._last = self._last, time.monotonic()
        if before is None or self._last - before > _SAME_REQUEST_SECONDS:
            raise Terminated(128 + number)
