"""The folder of a training run: what lies in it, starting it, going on with it."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.checkpoints import publish_models
from tsi_keras.training.config import Config
from tsi_keras.training.config import differences
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.state import SavedState
from tsi_keras.training.state import latest_state
from tsi_keras.training.whole_files import explained_disk_errors
from tsi_keras.training.whole_files import remove_unfinished
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text


class RunFolder:
    """Paths and records of one run.

    Attributes:
        root: the folder.
        config: `config.yaml`, the whole resolved configuration.
        best: `best.keras`, the epoch with the highest val top-1; `best.json` beside it
            tells which.
        last: `last.keras`, the last finished epoch; likewise.
        log: `log.csv`, one line per epoch, epochs counted from 0.
        tensorboard: event files.
        backup: the state `--resume` goes on from; gone once the run is finished.
        summary: `summary.json`; its `status` is "running" or "finished".
    """

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser().absolute()
        self.config = self.root / "config.yaml"
        self.best = self.root / "best.keras"
        self.last = self.root / "last.keras"
        self.log = self.root / "log.csv"
        self.tensorboard = self.root / "tensorboard"
        self.backup = self.root / "backup"
        self.summary = self.root / "summary.json"

    @property
    def state(self) -> SavedState | None:
        """The state to go on from; None before the first."""
        return latest_state(self.backup)

    @property
    def finished_epochs(self) -> int:
        """Epochs that the saved state has seen; 0 without one."""
        return 0 if self.state is None else self.state.epoch

    @property
    def is_finished(self) -> bool:
        """Whether the summary says that nothing is left to do."""
        return read_json(self.summary)["status"] == "finished"

    def history(self) -> list[dict[str, float]]:
        """Read `log.csv`: one dictionary per epoch, empty when there is none."""
        if not self.log.is_file():
            return []
        with self.log.open(newline="", encoding="utf-8") as file:
            # Keras writes NA for validation that did not take place.
            return [
                {key: float(value) for key, value in row.items() if value != "NA"}
                for row in csv.DictReader(file)
            ]

    def forget_unfinished(self) -> list[dict[str, float]]:
        """Make models and log agree with the saved state; return the log's rows.

        A process killed between the log and the state has logged an epoch that a
        resumed run does again; one killed after the state has not named the models yet.
        """
        publish_models(self.root, self.finished_epochs)
        if not self.finished_epochs:
            self.log.unlink(missing_ok=True)
        elif self.log.is_file():
            header, *lines = self.log.read_text(encoding="utf-8").splitlines()
            # Full disks cut lines off, but never one of an epoch that was saved.
            kept = lines[: self.finished_epochs]
            write_text(self.log, "\r\n".join([header, *kept, ""]))
        return self.history()

    def remove_leftovers(self) -> None:
        """Remove what killed processes did not finish to write or to remove."""
        remove_unfinished(self.root)
        for path in _cut_off(self.root):
            path.unlink(missing_ok=True)
        if self.is_finished:
            shutil.rmtree(self.backup, ignore_errors=True)


def open_run(
    output: str | Path,
    config: Config,
    info: DatasetInfo,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> RunFolder:
    """Claim the folder of a run and record what the run is.

    Args:
        output: the folder.
        config: the whole configuration.
        info: the data set.
        overwrite: remove an earlier run.
        resume: go on with an earlier run, which must have the same configuration and
            data set; in an empty folder a run is started.

    Returns:
        The folder; `status` in its summary is "finished" if nothing is left to do.

    Raises:
        InputError: the folder is taken, or holds another run than the one to resume.
    """
    run = RunFolder(Path(output).expanduser().absolute())
    if resume and not overwrite and _has_content(run.root):
        _check_same_run(run, config, info)
        run.remove_leftovers()
        return run
    folder = claim_output(
        output, overwrite=overwrite, resume=resume, marks=[run.config.name]
    )
    run = RunFolder(folder)
    with explained_disk_errors(run.root):
        write_text(run.config, dump_config(config))
        _record_start(run, info)
    return run


def describe_dataset(info: DatasetInfo) -> dict[str, Any]:
    """Return what identifies a data set in `summary.json`."""
    return {
        "folder": str(info.folder),
        "fingerprint": info.fingerprint,
        "classes": len(info.class_names),
        "videos": {name: split.num_videos for name, split in info.splits.items()},
    }


def _has_content(folder: Path) -> bool:
    """Whether there is more than what a process left that was killed at its start."""
    return folder.is_dir() and bool({*folder.iterdir()} - {*_cut_off(folder)})


def _cut_off(folder: Path) -> Iterator[Path]:
    """Files that a killed `write_text` or `write_json` left in a run's folder."""
    for name in ("config.yaml", "summary.json", "log.csv"):
        yield from folder.glob(f".{name}.*")


def _record_start(run: RunFolder, info: DatasetInfo) -> None:
    """Say that the run goes on, and on which data."""
    write_json(run.summary, {"status": "running", "dataset": describe_dataset(info)})


def _check_same_run(run: RunFolder, config: Config, info: DatasetInfo) -> None:
    """Refuse to mix two runs in one folder."""
    if not run.config.is_file():
        raise InputError(
            f"`--resume`: {run.root} holds no training run ({run.config.name}); choose "
            "another folder."
        )
    changed = differences(load_config(run.config), config)
    if changed:
        raise InputError(
            f"`--resume`: the configuration is not that of {run.root}: "
            f"{'; '.join(changed)}. Undo that, or start anew in another folder."
        )
    if not run.summary.is_file():
        # Killed between its two first files.
        _record_start(run, info)
    stored = read_json(run.summary).get("dataset", {})
    fingerprint = stored.get("fingerprint", "unknown")
    if fingerprint != info.fingerprint:
        raise InputError(
            f"`--resume`: the data set {info.folder} is not the one {run.root} was "
            f"trained on: {stored.get('folder')} with the fingerprint "
            f"{fingerprint[:12]}, now {info.fingerprint[:12]}. Give that one, or start "
            "anew in another folder."
        )
