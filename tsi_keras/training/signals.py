"""Signals end training after the step, with its state saved."""

import signal
import threading

import keras

from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.multi_worker import any_worker


class TrainingInterrupted(RuntimeError):
    """Somebody asked training to end; it goes on from here when resumed.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, number: int, epoch: int, step: int):
        super().__init__(
            f"Training was ended by {signal.Signals(number).name} after "
            f"{epoch} epochs and {step} steps, and that is saved; the same command "
            "with --resume goes on from there."
        )
        self.signal = number


class StopOnSignal(keras.callbacks.Callback):
    """End training in good order on SIGTERM and Ctrl-C.

    A signal lets the current step end, then the state is saved and `fit` raises. A
    second Ctrl-C aborts at once. As a context it takes over the signals and hands them
    back; outside the main thread, where Python cannot do that, it does nothing. Signals
    that are ignored, as `nohup` has it, stay ignored. Several workers end together when
    one of them was asked to, within about a second.

    Args:
        state: the callback that saves the state; it comes before this one.

    Raises:
        TrainingInterrupted: from `fit`.
        KeyboardInterrupt: from anywhere, on the second Ctrl-C.

    Example:
        ```python
        state = SaveState("run/backup")
        with StopOnSignal(state) as stop:
            model.fit(data, callbacks=[state, stop])
        ```
    """

    def __init__(self, state: SaveState):
        super().__init__()
        self.state = state
        self.received: int | None = None
        self._handlers = {}

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if(self.state.stop)

    def on_test_batch_end(self, batch, logs=None):
        # The state was saved when the validation began.
        strategy, wanted = self.model.distribute_strategy, self.state.stop_wanted
        self._stop_if(*self.state.polls.ask(strategy, wanted))

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 < self.params["epochs"]:
            strategy, wanted = self.model.distribute_strategy, self.state.stop_wanted
            self._stop_if(any_worker(strategy, wanted))

    def _receive(self, number: int, _) -> None:
        """Remember the signal; a handler may do little more."""
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        self.state.stop_wanted = True

    def _stop_if(self, asked: bool) -> None:
        """Save and raise."""
        if asked:
            _, epoch, step = self.state.save()
            # Nobody ends before the chief has written it.
            any_worker(self.model.distribute_strategy, True)
            raise TrainingInterrupted(self.received or signal.SIGTERM, epoch, step)
