"""The folder of a training run: what lies in it, starting it, going on with it."""

import csv
import shutil
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.checkpoints import publish_models
from tsi_keras.training.config import Config
from tsi_keras.training.config import differences
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.run_lock import RunLock
from tsi_keras.training.state import SavedState
from tsi_keras.training.state import latest_state
from tsi_keras.training.whole_files import explained_disk_errors
from tsi_keras.training.whole_files import remove_unfinished
from tsi_keras.utils.console import console
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import check_output
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text
from tsi_keras.utils.folder_lock import LOCK

# Keys of the section `train` that may be others when a run is resumed: they say where
# it runs and what watches it, not what it trains.
OPERATIONAL = (
    "distribution",
    "workers",
    "worker_index",
    "checkpoint_minutes",
    "wandb",
)
# And of the section `data`: from where the same clips come.
_SOURCES = ("cache", "service", "service_timeout")


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
        Of the log the lines of finished epochs are kept, of each epoch the last one.
        """
        publish_models(self.root, self.finished_epochs)
        if not self.finished_epochs:
            self.log.unlink(missing_ok=True)
        elif self.log.is_file():
            header, *lines = self.log.read_text(encoding="utf-8").splitlines()
            kept = _finished_lines(header, lines, self.finished_epochs)
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
    lock: RunLock | None = None,
) -> RunFolder:
    """Claim the folder of a run and record what the run is.

    Args:
        output: the folder.
        config: the whole configuration.
        info: the data set.
        overwrite: remove an earlier run.
        resume: go on with an earlier run, which must have the same data set and
            configuration, but for the `OPERATIONAL` keys and, once a state is saved,
            `model.weights`; in an empty folder a run is started.
        lock: taken before anything in the folder is changed, and left to the caller to
            release; a finished run that is resumed needs none.

    Returns:
        The folder. Its `config.yaml` has the configuration to train with; `status` in
        its summary is "finished" if nothing is left to do.

    Raises:
        InputError: the folder is taken, or holds another run than the one to resume.
    """
    folder = check_output(
        output, overwrite=overwrite, resume=resume, marks=["config.yaml", LOCK]
    )
    run = RunFolder(folder)
    if resume and _has_content(folder):
        _reopen(run, config, info, lock)
        return run
    # Only makes the folder: the old content goes when nobody else uses it.
    claim_output(output, resume=True)
    if lock is not None:
        lock.acquire()
    if overwrite:
        _empty(folder)
    elif _has_content(folder):
        raise InputError(
            f"`--output` {folder} was taken by another run a moment ago; choose another "
            "folder."
        )
    with explained_disk_errors(folder):
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
    if not folder.is_dir():
        return False
    return bool({*folder.iterdir()} - {*_cut_off(folder), folder / LOCK})


def _cut_off(folder: Path) -> Iterator[Path]:
    """Files that a killed process left in a run's folder besides its lock."""
    for name in ("config.yaml", "summary.json", "log.csv"):
        yield from folder.glob(f".{name}.*")
    yield from folder.glob(f"{LOCK}.*")


def _empty(folder: Path) -> None:
    """Remove all but the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _finished_lines(header: str, lines: Sequence[str], epochs: int) -> list[str]:
    """The last whole line of each of the first `epochs` epochs, in order.

    Full disks cut lines off, but never one of an epoch that was saved.
    """
    names = header.split(",")
    found = {}
    for line in lines:
        row = line.split(",")
        if len(row) == len(names):
            found[row[names.index("epoch")]] = line
    numbers = map(str, range(epochs))
    return [found[number] for number in numbers if number in found]


def _record_start(run: RunFolder, info: DatasetInfo) -> None:
    """Say that the run goes on, and on which data."""
    write_json(run.summary, {"status": "running", "dataset": describe_dataset(info)})


def _reopen(
    run: RunFolder, config: Config, info: DatasetInfo, lock: RunLock | None
) -> None:
    """Go on with an earlier run, unless that would mix two runs in one folder."""
    if not run.config.is_file():
        raise InputError(
            f"`--resume`: {run.root} holds no training run ({run.config.name}); choose "
            "another folder."
        )
    ended = run.summary.is_file() and run.is_finished
    if lock is not None and not ended:
        lock.acquire()
    stored = load_config(run.config)
    config = _config_to_resume(run, stored, config)
    if not run.summary.is_file():
        # Killed between its two first files.
        _record_start(run, info)
    _check_same_data(run, info)
    run.remove_leftovers()
    if config != stored and not ended:
        changes = "; ".join(differences(stored, config))
        console.print(f"resuming with changes: {changes}", soft_wrap=True)
        with explained_disk_errors(run.root):
            write_text(run.config, dump_config(config))


def _config_to_resume(run: RunFolder, stored: Config, config: Config) -> Config:
    """The run's own configuration with the operational keys of the one given now."""
    now = config.train.model_dump(include=set(OPERATIONAL))
    sources = config.data.model_dump(include=set(_SOURCES))
    resumed = stored.model_copy(
        update={
            "train": stored.train.model_copy(update=now),
            "data": stored.data.model_copy(update=sources),
        }
    )
    if run.state is not None:
        # The weights come from the state; the record tells what the run began with.
        model = config.model.model_copy(update={"weights": stored.model.weights})
        config = config.model_copy(update={"model": model})
    changed = differences(resumed, config)
    if changed:
        raise InputError(
            f"`--resume`: the configuration is not that of {run.root}: "
            f"{'; '.join(changed)}. Undo that, or start anew in another folder."
        )
    return resumed


def _check_same_data(run: RunFolder, info: DatasetInfo) -> None:
    """Refuse to go on with other data."""
    stored = read_json(run.summary).get("dataset", {})
    fingerprint = stored.get("fingerprint", "unknown")
    if fingerprint != info.fingerprint:
        raise InputError(
            f"`--resume`: the data set {info.folder} is not the one {run.root} was "
            f"trained on: {stored.get('folder')} with the fingerprint "
            f"{fingerprint[:12]}, now {info.fingerprint[:12]}. Give that one, or start "
            "anew in another folder."
        )
