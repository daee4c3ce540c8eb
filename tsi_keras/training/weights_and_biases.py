"""Metrics to Weights & Biases, where the package is installed and asked for."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from tsi_keras.utils.errors import InputError


def import_wandb(project: str) -> ModuleType:
    """Return the package `wandb`.

    Args:
        project: the value of `train.wandb`, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise InputError(
            "`train.wandb` needs the package wandb: pip install wandb, or leave the key "
            f"out. Received: {project!r}"
        ) from error


class LogToWandb(keras.callbacks.Callback):
    """Log every epoch to a run of Weights & Biases.

    The run is named after the folder, and gone on with when the training is resumed.
    Where it goes, and whether it waits on disk, is decided by wandb's own settings, such
    as the environment variable WANDB_MODE.

    Args:
        project: name of the project.
        folder: the run's folder; wandb keeps its files in `wandb/` there.
        config: what to note of the run.

    Raises:
        InputError: wandb is not installed.

    Example:
        ```python
        log = LogToWandb("actions", "runs/first", config.model_dump())
        model.fit(clips, callbacks=[log])
        ```
    """

    def __init__(self, project: str, folder: str | Path, config: Mapping[str, Any]):
        super().__init__()
        self.project = project
        self.folder = Path(folder)
        self.config = dict(config)
        self._wandb = import_wandb(project)
        self._run = None

    def on_train_begin(self, logs=None):
        self._run = self._wandb.init(
            project=self.project,
            name=self.folder.name,
            dir=str(self.folder),
            config=self.config,
            resume="auto",
        )

    def on_epoch_end(self, epoch, logs=None):
        self._run.log({"epoch": epoch + 1, **(logs or {})}, step=epoch)

    def on_train_end(self, logs=None):
        self._finish(exit_code=0)

    def close(self) -> None:
        """End a run that was broken off; one that has ended stays as it is."""
        self._finish(exit_code=1)

    def _finish(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None
