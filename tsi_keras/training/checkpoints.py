"""Saving during training: models for use, and the state a run goes on from."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tsi_keras.training.averaging import averaged_weights
from tsi_keras.training.callbacks import TrainingDiverged
from tsi_keras.training.distribution import is_chief
from tsi_keras.training.multi_worker import from_chief
from tsi_keras.training.polls import Polls
from tsi_keras.training.state import SavedState
from tsi_keras.training.state import keep_only
from tsi_keras.training.state import latest_state
from tsi_keras.training.state import take_state
from tsi_keras.training.whole_files import flush_folder
from tsi_keras.training.whole_files import remove_unfinished
from tsi_keras.training.whole_files import whole_file
from tsi_keras.utils.files import file_sha256

_CANDIDATE = re.compile(r"\.(\w+)-(\d{5,})(\.keras|\.json)")


def save_model(model: keras.Model, path: str | Path) -> None:
    """Save a model without its optimizer, atomically.

    The file needs neither `tsi_keras.training` nor the strategy the model was
    trained under, has half the size, and computes in float32 after loading, whatever
    the precision of the training.

    Args:
        model: the model; it stays as it is, compiled or not.
        path: `.keras` file to write or replace.

    Raises:
        InputError: the disk does not take the file; an older one is as it was.
    """
    with tf.device("CPU:0"):
        plain = type(model).from_config(model.get_config())
        plain.set_weights(model.get_weights())
        with whole_file(path) as temporary:
            plain.save(str(temporary))


class SaveModels(keras.callbacks.Callback):
    """Save the last epoch's model, and keep the best one.

    Each comes with a JSON file of the same name that says what it is: epoch (from 1),
    metrics, the SHA-256 of the model file, and `details`. Where the optimizer averages
    the weights, the averages are saved.

    Unlike `keras.callbacks.ModelCheckpoint` it writes files for use (see
    `save_model`), and in two steps, so that models and the state of the run never
    disagree: `on_epoch_end` writes aside, and `publish` gives the files their names once
    the epoch can no longer be lost.

    Args:
        last: `.keras` file to write after every epoch.
        best: `.keras` file for the epoch with the highest `monitor`, or None.
        monitor: name of a metric.
        value: the highest value so far, when training is resumed.
        details: what else to say of the models, such as the configuration.

    Example:
        ```python
        models = SaveModels("run/last.keras", "run/best.keras")
        state = SaveState("run/backup", sealed=models.publish)
        model.fit(data, validation_data=val, callbacks=[models, state])
        ```
    """

    def __init__(
        self,
        last: str | Path,
        best: str | Path | None = None,
        monitor: str = "val_top1",
        value: float | None = None,
        details: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.last = Path(last)
        self.best = None if best is None else Path(best)
        self.monitor = monitor
        self.value = float("-inf") if value is None else value
        self.details = dict(details or {})

    def on_epoch_end(self, epoch, logs=None):
        last = _aside(self.last, epoch + 1)
        with averaged_weights(self.model):
            save_model(self.model, last)
        facts = {
            "epoch": epoch + 1,
            "metrics": epoch_metrics(logs),
            "sha256": file_sha256(last),
            **self.details,
        }
        _write_facts(last, facts)
        if self.best is not None and logs[self.monitor] > self.value:
            self.value = logs[self.monitor]
            best = _aside(self.best, epoch + 1)
            with whole_file(best) as temporary:
                shutil.copyfile(last, temporary)
            _write_facts(best, facts)

    def publish(self, epochs: int) -> None:
        """Give the models of the first `epochs` epochs their names; see there."""
        for path in {self.last, self.best} - {None}:
            publish_models(path.parent, epochs)


def publish_models(folder: str | Path, epochs: int) -> None:
    """Finish what `SaveModels` began, as far as the run's state has come.

    Args:
        folder: where the models lie.
        epochs: epochs that are finished for good. Models written aside for later ones
            are removed: their epochs will be run again.
    """
    for path in sorted(Path(folder).glob(".*-*.*")):
        match = _CANDIDATE.fullmatch(path.name)
        if match and int(match[2]) <= epochs:
            os.replace(path, path.with_name(match[1] + match[3]))
        elif match:
            path.unlink()
    flush_folder(Path(folder))


def epoch_metrics(logs: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's losses and accuracies, without what the clocks add."""
    other = ("epoch", "learning_rate", "clips_per_second", "seconds", "data_wait")
    return {name: value for name, value in logs.items() if name not in other}


class SaveState(keras.callbacks.Callback):
    """Save the state to resume from: after every epoch, and in between.

    A killed run then goes on exactly where the last state was taken, in mid-epoch too;
    see `tsi_keras.training.resuming.fit_from`. The end of an epoch's steps is one such
    moment, so that a killed validation costs the validation only. The state is one
    file, replaced in one instant, and never by one with weights that are not finite.

    Put it after the callbacks that write the epoch's logs and models, and before those
    that exchange the weights for the validation.

    Args:
        folder: for the states; only this callback may use it. The last state is left
            there after training.
        minutes: save in mid-epoch when this long has passed since the last time; 0:
            after every step; None: not at all. Several workers save when one of them
            finds it time, within about a second.
        sealed: called with the number of finished epochs when these are on disk.

    Attributes:
        stop_wanted: set this to have training end.
        stop: whether a worker wants that, as of the last step; see `StopOnSignal`.
        polls: asks the workers.

    Raises:
        InputError: from `fit`: the disk does not take the state.
        TrainingDiverged: from `fit`: weights are not finite.
    """

    def __init__(
        self,
        folder: str | Path,
        minutes: float | None = None,
        sealed: Callable[[int], None] | None = None,
    ):
        super().__init__()
        self.folder = Path(folder)
        self.minutes = minutes
        self.sealed = sealed
        self.saved: SavedState | None = None
        self.stop_wanted = self.stop = False
        self.polls = Polls()
        self._epoch = self._step = self._begin = 0

    def on_train_begin(self, logs=None):
        self.saved = from_chief(self.model.distribute_strategy, self._tidied)
        self._time = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._step = epoch, 0
        self._begin = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        self._step = batch + 1
        due, self.stop = self.polls.ask(
            self.model.distribute_strategy, self._is_due(), self.stop_wanted
        )
        # All workers know without asking when every step is to be saved.
        if (due or self.minutes == 0) and self._step != self.params.get("steps"):
            self.save()

    def on_test_begin(self, logs=None):
        # Also when only the validation is left, and no step was made here.
        self._step = self.params.get("steps") or self._step
        self.save()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch, self._step = epoch + 1, 0
        self._begin = int(self.model.optimizer.iterations.numpy())
        self.save()
        if self.sealed is not None:
            self.sealed(self._epoch)

    def save(self) -> SavedState:
        """Save the state as it is now; returns where."""
        if self.saved is None or self.saved[1:] != (self._epoch, self._step):
            state = take_state(self.model, self._epoch, self._step, self._begin)
            if not state.is_finite():
                raise TrainingDiverged(self._complaint())
            self.saved = state.place(self.folder)
            if is_chief(self.model.distribute_strategy):
                state.save(self.folder)
        self._time = time.monotonic()
        return self.saved

    def _is_due(self) -> bool:
        """Whether the last state is too long ago."""
        if self.minutes is None:
            return False
        return time.monotonic() - self._time >= 60 * self.minutes

    def _tidied(self) -> SavedState | None:
        """The last state; what else lies in the folder is removed."""
        saved = latest_state(self.folder)
        if saved is not None:
            keep_only(saved.path)
        else:
            remove_unfinished(self.folder)
        return saved

    def _complaint(self) -> str:
        """What to say of weights that are not finite."""
        before = "nothing was saved before" if self.saved is None else self.saved.path
        return (
            "Weights are no longer finite after epoch "
            f"{self._epoch}, step {self._step}. Lower `train.learning_rate` or clip with "
            f"`train.clip_norm`; last finite state: {before}."
        )


def _aside(path: Path, epochs: int) -> Path:
    """Where a model waits until its epoch is sealed."""
    return path.with_name(f".{path.stem}-{epochs:05d}{path.suffix}")


def _write_facts(model: Path, facts: Mapping[str, Any]) -> None:
    """Write what a model is beside it."""
    with whole_file(model.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
