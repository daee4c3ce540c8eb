"""SIGTERM and Ctrl-C as requests to end in good order."""

import signal
import threading
from collections.abc import Callable
from typing import Any


class StopSignals:
    """Lets SIGTERM and Ctrl-C ask for an end; a second Ctrl-C ends at once.

    As a context it takes over the signals and hands them back; outside the main thread,
    where Python cannot do that, it does nothing. Signals that are ignored, as `nohup`
    has it, stay ignored.

    Args:
        ask: called at every signal; a handler may do little more than set a flag.

    Attributes:
        received: number of the first signal, or None.

    Raises:
        KeyboardInterrupt: from anywhere in the block, on Ctrl-C after another signal.

    Example:
        ```python
        wanted = threading.Event()
        with StopSignals(wanted.set) as stop:
            while not wanted.is_set():
                work()
        print(stop.received)
        ```
    """

    def __init__(self, ask: Callable[[], Any]):
        self._ask = ask
        self._handlers: dict[int, Any] = {}
        self.received: int | None = None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}

    def _receive(self, number: int, _) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        self._ask()
