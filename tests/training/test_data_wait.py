"""The share of the training time that goes by waiting for data."""

import types

import numpy as np

from tests.training.tiny_classifier import batches
from tests.training.tiny_classifier import small_model
from tsi_keras.training import data_wait
from tsi_keras.training.data_wait import DataWait
from tsi_keras.training.data_wait import describe_wait


class FakeModel:
    """A step of two seconds on batches that take as long as they say."""

    steps_per_execution = 1

    def __init__(self):
        self.now = 0.0
        self.seen = []
        self.train_function = None

    def make_train_function(self):
        self.train_function = self.train_function or self._step

    def batches(self, durations):
        for seconds in durations:
            self.now += seconds
            yield seconds

    def _step(self, batches):
        self.seen += batches
        self.now += 2.0


def train(wait, model, epochs):
    """What `fit` calls, for epochs of durations of their batches."""
    wait.set_model(model)
    wait.set_params({"steps": len(epochs[0])})
    wait.on_train_begin()
    shares = []
    for epoch, durations in enumerate(epochs):
        iterator = model.batches(durations)
        wait.on_epoch_begin(epoch)
        for batch in range(len(durations)):
            model.train_function(iterator)
            wait.on_train_batch_end(batch)
        model.now += 100  # the validation
        logs = {}
        wait.on_epoch_end(epoch, logs)
        shares.append(logs["data_wait"])
    wait.on_train_end()
    return shares


def test_data_wait_leaves_out_compilation_and_validation(monkeypatch, capsys):
    model = FakeModel()
    fake = types.SimpleNamespace(perf_counter=lambda: model.now)
    monkeypatch.setattr(data_wait, "time", fake)
    wait = DataWait()
    assert train(wait, model, [[50, 0, 4], [1, 2, 3]]) == [4 / 8, 6 / 12]
    assert wait.total_share == 10 / 20
    assert model.seen == [50, 0, 4, 1, 2, 3]
    line = "waited for data 50% of the training time (2000 of 4000 ms per step); more"
    assert capsys.readouterr().out.startswith(line)
    assert model.train_function == model._step
    # A step that is the only one counts.
    assert train(DataWait(summary=False), model, [[3]]) == [3 / 5]
    assert capsys.readouterr().out == ""


def test_little_waiting_needs_no_advice():
    line = "waited for data 4% of the training time (1 of 30 ms per step)"
    assert describe_wait(0.04, 0.03) == line
    assert "up to 2.0 times as fast" in describe_wait(0.5, 0.03)


def test_data_wait_notices_a_slow_pipeline_and_changes_nothing():
    timed, plain = small_model(), small_model()
    wait = DataWait(summary=False)
    history = timed.fit(
        batches(delay=0.1), epochs=2, shuffle=False, verbose=0, callbacks=[wait]
    ).history
    assert min(history["data_wait"]) > 0.5
    expected = plain.fit(batches(), epochs=2, shuffle=False, verbose=0).history
    assert history["loss"] == expected["loss"]
    for found, weight in zip(timed.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(found, weight)
    # Iterated to its end, twice.
    assert timed.optimizer.iterations.numpy() == 12
