"""Signals end training after the step, with its state saved."""

import signal

import keras

from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.multi_worker import any_worker
from tsi_keras.utils.stop_signals import StopSignals


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

    A signal lets the current step end, then the state is saved and `fit` raises. It is
    a context too, which takes the signals over as `StopSignals` does. Several workers
    end together when one of them was asked to, within about a second.

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
        self._signals = StopSignals(self._want_stop)

    def __enter__(self) -> "StopOnSignal":
        self._signals.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._signals.__exit__(*error)

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

    def _want_stop(self) -> None:
        self.state.stop_wanted = True

    def _stop_if(self, asked: bool) -> None:
        """Save and raise."""
        if asked:
            _, epoch, step = self.state.save()
            # Nobody ends before the chief has written it.
            any_worker(self.model.distribute_strategy, True)
            number = self._signals.received or signal.SIGTERM
            raise TrainingInterrupted(number, epoch, step)
