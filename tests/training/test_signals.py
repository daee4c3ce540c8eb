"""SIGTERM and Ctrl-C end training after the step, with the state saved."""

import os
import signal
import threading
import time

import keras
import numpy as np
import pytest

from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.signals import StopOnSignal
from tsi_keras.training.signals import TrainingInterrupted
from tsi_keras.training.state import latest_state

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


@pytest.fixture(autouse=True)
def heeded_signals():
    """A test run in the background of a script inherits an ignored Ctrl-C."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, new) for number, new in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Send(keras.callbacks.Callback):
    """Sends this process signals at a moment of the training."""

    def __init__(self, moment, *numbers):
        super().__init__()
        self.moment = moment
        self.numbers = numbers
        self.steps = 0

    def send(self, *moment):
        if moment == self.moment:
            for number in self.numbers:
                os.kill(os.getpid(), number)
                time.sleep(0)  # Python calls the handler here at the latest.

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.send("step", self.epoch, batch)

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_test_batch_begin(self, batch, logs=None):
        self.send("test", self.epoch, batch)

    def on_epoch_end(self, epoch, logs=None):
        self.send("over", epoch)


def train(folder, moment, *numbers):
    """Two epochs of four steps and a validation; returns the callback that sends."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, name="classifier")]
    )
    model.compile(GroupedSGD(0.01), "mse")
    send = Send(moment, *numbers)
    state = SaveState(folder)
    with StopOnSignal(state) as stop:
        model.fit(
            X,
            X[:, :2],
            batch_size=2,
            epochs=2,
            validation_data=(X, X[:, :2]),
            verbose=0,
            callbacks=[send, state, stop],
        )
    return send


MOMENTS = {
    # In the midst of a step: that step is made and saved.
    "step": (("step", 0, 1), (0, 2)),
    "last step": (("step", 0, 3), (0, 4)),
    "validation": (("test", 0, 0), (0, 4)),
    "end of an epoch": (("over", 0), (1, 0)),
    "second epoch": (("step", 1, 0), (1, 1)),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", MOMENTS)
def test_step_is_finished_and_saved(tmp_path, name, number):
    moment, position = MOMENTS[name]
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(TrainingInterrupted) as error:
        train(tmp_path, moment, number)
    assert latest_state(tmp_path)[1:] == position
    assert error.value.signal == number
    message = str(error.value)
    assert (
        f"by {number.name} after {position[0]} epochs and {position[1]} st" in message
    )
    assert "--resume" in message and "\n" not in message
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


def test_finished_training_is_not_interrupted(tmp_path):
    assert train(tmp_path, ("over", 1), signal.SIGTERM).steps == 8
    assert latest_state(tmp_path)[1:] == (2, 0)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_second_ctrl_c_aborts_at_once(tmp_path, first):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, ("step", 0, 1), first, signal.SIGINT)
    assert latest_state(tmp_path) is None
    assert signal.getsignal(signal.SIGINT) is before


def test_second_sigterm_waits_like_the_first(tmp_path):
    with pytest.raises(TrainingInterrupted):
        train(tmp_path, ("step", 0, 1), signal.SIGTERM, signal.SIGTERM)
    assert latest_state(tmp_path)[1:] == (0, 2)


def test_ignored_signals_stay_ignored(tmp_path):
    """As `nohup` and shells without job control start a process."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(tmp_path, ("step", 0, 1), signal.SIGINT).steps == 8
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def look():
        with StopOnSignal(SaveState(tmp_path)):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == [before]
