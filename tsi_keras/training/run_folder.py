"""The folder of a training run: what lies in it, starting it, going on with it."""

import csv
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.training.checkpoints import latest_state
from tsi_keras.training.config import Config
from tsi_keras.training.config import differences
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
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
        best: `best.keras`, the epoch with the highest val top-1.
        last: `last.keras`, the last finished epoch.
        log: `log.csv`, one line per epoch, epochs counted from 0.
        tensorboard: event files.
        backup: the state `--resume` goes on from; gone once the run is finished.
        summary: `summary.json`; its `status` is "running" or "finished".
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.best = self.root / "best.keras"
        self.last = self.root / "last.keras"
        self.log = self.root / "log.csv"
        self.tensorboard = self.root / "tensorboard"
        self.backup = self.root / "backup"
        self.summary = self.root / "summary.json"

    @property
    def finished_epochs(self) -> int:
        """Epochs that the saved state has seen; 0 without one."""
        state = latest_state(self.backup)
        return 0 if state is None else state[1]

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
        """Drop logged epochs that the saved state has not seen; return the rest.

        A process killed between the log and the state has logged an epoch that a
        resumed run does again.
        """
        if not self.finished_epochs:
            self.log.unlink(missing_ok=True)
        elif self.log.is_file():
            header, *lines = self.log.read_text(encoding="utf-8").splitlines()
            kept = [
                line for line in lines if int(line.split(",")[0]) < self.finished_epochs
            ]
            write_text(self.log, "\r\n".join([header, *kept, ""]))
        return self.history()


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
        return run
    folder = claim_output(
        output, overwrite=overwrite, resume=resume, marks=[run.config.name]
    )
    run = RunFolder(folder)
    write_text(run.config, dump_config(config))
    write_json(run.summary, {"status": "running", "dataset": describe_dataset(info)})
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
    """Whether there is something to resume."""
    return folder.is_dir() and any(folder.iterdir())


def _check_same_run(run: RunFolder, config: Config, info: DatasetInfo) -> None:
    """Refuse to mix two runs in one folder."""
    if not (run.config.is_file() and run.summary.is_file()):
        raise InputError(
            f"`--resume`: {run.root} holds no training run ({run.config.name} and "
            f"{run.summary.name}); choose another folder."
        )
    changed = differences(load_config(run.config), config)
    if changed:
        raise InputError(
            f"`--resume`: the configuration is not that of {run.root}: "
            f"{'; '.join(changed)}. Undo that, or start anew in another folder."
        )
    stored = read_json(run.summary).get("dataset", {})
    fingerprint = stored.get("fingerprint", "unknown")
    if fingerprint != info.fingerprint:
        raise InputError(
            f"`--resume`: the data set {info.folder} is not the one {run.root} was "
            f"trained on: {stored.get('folder')} with the fingerprint "
            f"{fingerprint[:12]}, now {info.fingerprint[:12]}. Give that one, or start "
            "anew in another folder."
        )
