"""Models and training states on disk: every file is whole or not there."""

import os
import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from tsi_keras.utils.errors import InputError

_STATE_NAME = re.compile(r"epoch-(\d+)\.weights\.h5")


def save_model(model: keras.Model, path: str | Path) -> None:
    """Save a model without its optimizer, atomically.

    The file needs neither `tsi_keras.training` nor the strategy the model was
    trained under, has half the size, and computes in float32 after loading, whatever
    the precision of the training.

    Args:
        model: the model; it stays as it is, compiled or not.
        path: `.keras` file to write or replace.
    """
    with tf.device("CPU:0"):
        plain = type(model).from_config(model.get_config())
        plain.set_weights(model.get_weights())
        _save_and_rename(plain.save, Path(path))


class SaveModels(keras.callbacks.Callback):
    """Save the last epoch's model, and keep the best one.

    Unlike `keras.callbacks.ModelCheckpoint` it writes files for use (see
    `save_model`) that a killed process cannot leave half written.

    Args:
        last: `.keras` file to write after every epoch.
        best: `.keras` file for the epoch with the highest `monitor`, or None.
        monitor: name of a metric.
        value: the highest value so far, when training is resumed.
    """

    def __init__(
        self,
        last: str | Path,
        best: str | Path | None = None,
        monitor: str = "val_top1",
        value: float | None = None,
    ):
        super().__init__()
        self.last = Path(last)
        self.best = None if best is None else Path(best)
        self.monitor = monitor
        self.value = float("-inf") if value is None else value

    def on_epoch_end(self, epoch, logs=None):
        save_model(self.model, self.last)
        if self.best is not None and logs[self.monitor] > self.value:
            self.value = logs[self.monitor]
            _save_and_rename(lambda name: shutil.copyfile(self.last, name), self.best)


class Backup(keras.callbacks.BackupAndRestore):
    """`BackupAndRestore` whose state on disk survives a kill at any moment.

    Keras writes the weights over the last good ones and the epoch into a second
    file; a process killed in between leaves a torn state or repeats an epoch. Here
    weights, optimizer and epoch are one file, named by the number of finished
    epochs, written aside and renamed.

    Args:
        backup_dir: folder for the state; only this callback may use it. It is left
            there after training; see `remove`.
    """

    def __init__(self, backup_dir: str | Path):
        super().__init__(str(backup_dir), save_freq="epoch", delete_checkpoint=False)

    def _save_model(self):
        folder = Path(self.backup_dir)
        target = folder / f"epoch-{self._current_epoch:05d}.weights.h5"
        _save_and_rename(self.model.save_weights, target)
        for path in folder.iterdir():
            if path != target:
                path.unlink()

    def _load_model(self):
        state = latest_state(self.backup_dir)
        if state is None:
            return
        path, epoch = state
        try:
            self.model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"The saved training state {path} cannot be read: {reason}; start anew "
                "with --overwrite."
            ) from error
        self.model._initial_epoch = epoch


def latest_state(folder: str | Path) -> tuple[Path, int] | None:
    """Return the newest saved state and the number of epochs it has seen.

    Args:
        folder: the `backup_dir` of a `Backup`; it need not exist.
    """
    found = [
        (int(match[1]), path)
        for path in Path(folder).glob("*.weights.h5")
        if (match := _STATE_NAME.fullmatch(path.name))
    ]
    if not found:
        return None
    epoch, path = max(found)
    return path, epoch


def _save_and_rename(save, target: Path) -> None:
    """Call `save` with a name of the same kind, then give the file its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".writing-{target.name}")
    try:
        save(str(temporary))
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Have the bytes on disk before the name points to them."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
