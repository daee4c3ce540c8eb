"""The outcome of a training run, in its `summary.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.models import VideoClassifier
from tsi_keras.training.checkpoints import epoch_metrics
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.run_folder import describe_dataset
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.versions import versions

# What decides which epoch is the best.
MONITOR = "val_top1"


@dataclass(frozen=True)
class TrainingSummary:
    """The outcome of a run, also in its `summary.json`.

    Attributes:
        output: the run's folder.
        epochs: epochs trained.
        best_epoch: epoch (from 1) of `best.keras`; None without validation.
        best: metrics of that epoch; None without validation.
        final: metrics of the last epoch.
        clips_per_second: training speed, median over the epochs.
        seconds: time in all epochs, those before a resume included; of an epoch that
            was resumed in its midst the part since then.
        parameters: trainable parameters.
        replicas: devices that shared a batch.
    """

    output: Path
    epochs: int
    best_epoch: int | None
    best: dict[str, float] | None
    final: dict[str, float]
    clips_per_second: float
    seconds: float
    parameters: int
    replicas: int


def load_summary(run_folder: str | Path) -> TrainingSummary:
    """Read the outcome of a finished run.

    Raises:
        InputError: there is no finished run in `run_folder`.
    """
    run = RunFolder(run_folder)
    content = read_json(run.summary)
    if content["status"] != "finished":
        raise InputError(f"The training run {run.root} is not finished.")
    names = TrainingSummary.__dataclass_fields__.keys() - {"output"}
    return TrainingSummary(output=run.root, **{name: content[name] for name in names})


def write_summary(
    run: RunFolder, model: VideoClassifier, info: DatasetInfo, replicas: int
) -> None:
    """Write the outcome of a run whose epochs are all trained."""
    rows = run.history()
    best = _best_row(rows)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    content: dict[str, Any] = {
        "status": "finished",
        "epochs": int(rows[-1]["epoch"]) + 1,
        "best_epoch": None if best is None else int(best["epoch"]) + 1,
        "best": None if best is None else epoch_metrics(best),
        "final": epoch_metrics(rows[-1]),
        "clips_per_second": float(np.median([r["clips_per_second"] for r in rows])),
        "seconds": sum(row["seconds"] for row in rows),
        "parameters": trainable,
        "replicas": replicas,
        "dataset": describe_dataset(info),
        "versions": versions(),
    }
    write_json(run.summary, content)


def _best_row(rows: list[dict[str, float]]) -> dict[str, float] | None:
    """The first epoch with the highest val top-1, as `SaveModels` keeps it."""
    validated = [row for row in rows if MONITOR in row]
    return max(validated, key=lambda row: row[MONITOR], default=None)
