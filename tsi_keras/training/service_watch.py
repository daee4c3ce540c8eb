"""A training whose data service lost a server ends, in place of waiting for ever."""

import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import keras

from tsi_keras.data.data_service import answers
from tsi_keras.data.data_service import worker_addresses
from tsi_keras.utils.console import errors

# A passing fault: go on with --resume.
LOST = 75

# Seconds between two looks.
_INTERVAL = 1.0


class ServiceWatch(keras.callbacks.Callback):
    """End the process when a batch is overdue and a server does not answer.

    TensorFlow asks a lost worker for its batches for ever, and nothing in Python can
    interrupt the step that waits. So a thread looks on: when no step ended for a while,
    it connects to the dispatcher and all workers, and if one of them does not answer
    twice, says which and ends the process. What is saved is whole at any moment. A
    service that is merely slow is waited for.

    Args:
        service: `grpc://host:port` of the dispatcher.
        patience: seconds without a step before servers are asked.
        end: called with the message in place of ending the process with `LOST`.

    Raises:
        InputError: at the begin of the training, the service does not answer.

    Example:
        ```python
        watch = ServiceWatch("grpc://big-host:5000", patience=60)
        model.fit(clips, steps_per_epoch=100, callbacks=[watch])
        watch.close()
        ```
    """

    def __init__(
        self, service: str, patience: float, end: Callable[[str], object] | None = None
    ):
        super().__init__()
        self.service = service
        self.patience = patience
        self._end = end or _end_process
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._last = time.monotonic()

    def on_train_begin(self, logs=None):
        dispatcher = self.service.removeprefix("grpc://")
        servers = {dispatcher: "dispatcher"}
        servers |= dict.fromkeys(worker_addresses(self.service), "worker")
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._look, args=(servers,), daemon=True)
        self._thread.start()

    def on_train_batch_end(self, batch, logs=None):
        self._last = time.monotonic()

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Look no longer."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self, servers: dict[str, str]) -> None:
        """Until `close`: who is missing while a batch is overdue?"""
        before: set[str] = set()
        while not self._stopped.wait(min(_INTERVAL, self.patience)):
            if time.monotonic() - self._last < self.patience:
                before = set()
                continue
            missing = {address for address in servers if not answers(address)}
            if lost := sorted(missing & before):
                names = ", ".join(f"{servers[address]} {address}" for address in lost)
                self._end(
                    f"the data service {self.service} lost its {names}, and no batch "
                    f"came for {self.patience:g} s (data.service_timeout); start what "
                    "is missing, and this training again with --resume: it goes on "
                    "from the last saved state."
                )
                return
            before = missing


def _end_process(message: str) -> NoReturn:
    """Say why and end; the waiting step lets nothing else through."""
    errors.print(f"error: {message}", markup=False, style="red", soft_wrap=True)
    os._exit(LOST)
