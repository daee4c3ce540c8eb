"""What may be started, resumed or overwritten in a run's folder."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.export.version_folder import EXPORT_LOCK
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.run_folder import RunFolder
from tsi_keras.training.run_folder import open_run
from tsi_keras.training.run_lock import RunLock
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_json
from tsi_keras.utils.folder_lock import LOCK

CONFIG = Config()


@pytest.fixture
def info(data_dir):
    return load_dataset_info(data_dir)


@pytest.fixture
def run(tmp_path, info):
    """A run that was started and has logged three epochs, two of them saved."""
    run = open_run(tmp_path / "run", CONFIG, info)
    run.log.write_text("epoch,val_top1\n0,0.25\n1,0.5\n2,0.75\n")
    run.backup.mkdir()
    (run.backup / "epoch-00002-step-0000003.npz").touch()
    (run.backup / ".writing-epoch-00003-step-0000000.npz").touch()
    return run


def test_start_records_what_the_run_is(tmp_path, info):
    run = open_run(tmp_path / "run", CONFIG, info)
    assert load_config(run.config) == CONFIG
    summary = json.loads(run.summary.read_text())
    assert summary["status"] == "running"
    assert summary["dataset"]["fingerprint"] == info.fingerprint
    assert run.finished_epochs == 0
    assert run.forget_unfinished() == []


def test_taken_folder_is_left_alone(run, info):
    with pytest.raises(InputError, match="not empty; nothing was written"):
        open_run(run.root, CONFIG, info)
    assert len(run.history()) == 3


def test_overwrite_starts_anew(run, info):
    assert open_run(run.root, CONFIG, info, overwrite=True).history() == []


def test_both_switches_exclude_each_other(run, info):
    with pytest.raises(InputError, match="exclude each other"):
        open_run(run.root, CONFIG, info, overwrite=True, resume=True)
    assert len(run.history()) == 3


def test_resume_forgets_epochs_that_were_not_saved(run, info):
    run = open_run(run.root, CONFIG, info, resume=True)
    assert run.finished_epochs == 2
    assert run.state.step == 3
    kept = [{"epoch": 0, "val_top1": 0.25}, {"epoch": 1, "val_top1": 0.5}]
    assert run.forget_unfinished() == kept
    assert run.log.read_bytes() == b"epoch,val_top1\r\n0,0.25\r\n1,0.5\r\n"


@pytest.mark.parametrize("cut", [-2, -6])
def test_line_that_a_full_disk_cut_off_is_forgotten(run, cut):
    run.log.write_text(run.log.read_text()[:cut])
    assert [row["val_top1"] for row in run.forget_unfinished()] == [0.25, 0.5]


def test_lines_are_told_apart_by_their_epoch(run):
    """As two processes left them that trained in one folder at a time."""
    run.log.write_text("epoch,val_top1\n0,0.25\n0,0.3\n2,0.1\n1,0.5\n1\n2,0.75\n")
    kept = [{"epoch": 0, "val_top1": 0.3}, {"epoch": 1, "val_top1": 0.5}]
    assert run.forget_unfinished() == kept
    assert run.log.read_bytes() == b"epoch,val_top1\r\n0,0.3\r\n1,0.5\r\n"


def test_models_follow_the_saved_state(run):
    """Those of the second epoch only lack their name; the third epoch never was."""
    for name in ("last.keras", "last.json", "best.keras", "best.json"):
        (run.root / name).write_text("1")
        stem, kind = name.split(".")
        (run.root / f".{stem}-00003.{kind}").write_text("3")
    for name in (".last-00002.keras", ".last-00002.json", ".best-00002.json"):
        (run.root / name).write_text("2")
    (run.root / ".writing-.best-00003.keras").touch()
    (run.root / ".summary.json.x81nd").touch()
    (run.root / f"{LOCK}.k2x").touch()
    run = RunFolder(run.root)
    run.remove_leftovers()
    run.forget_unfinished()
    files = {path.name for path in run.root.iterdir()}
    models = {"last.keras", "last.json", "best.keras", "best.json"}
    assert files == models | {"backup", "config.yaml", "summary.json", "log.csv"}
    # `best.keras` had its name when the process was killed.
    values = [(run.root / name).read_text() for name in sorted(models)]
    assert values == ["2", "1", "2", "2"]


def test_resume_of_a_run_that_was_killed_at_its_start(tmp_path, info):
    for root, names in (("a", [".config.yaml.3k2"]), ("b", ["config.yaml"])):
        open_run(tmp_path / root, CONFIG, info)
        for path in (tmp_path / root).iterdir():
            path.unlink()
        for name in names:
            (tmp_path / root / name).write_text(dump_config(CONFIG))
        run = open_run(tmp_path / root, CONFIG, info, resume=True)
        assert not run.is_finished
        assert load_config(run.config) == CONFIG


def test_state_of_a_finished_run_is_removed(run, info):
    write_json(
        run.summary, json.loads(run.summary.read_text()) | {"status": "finished"}
    )
    assert open_run(run.root, CONFIG, info, resume=True).is_finished
    assert not run.backup.exists()


def test_disk_that_does_not_take_the_first_files(tmp_path, info, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match="run cannot be written: No space left"
    ) as error:
        open_run(tmp_path / "run", CONFIG, info)
    assert "GB are free" in str(error.value) and "\n" not in str(error.value)


def test_resume_in_an_empty_folder_starts(tmp_path, info):
    assert open_run(tmp_path, CONFIG, info, resume=True).config.is_file()


def test_resume_with_another_configuration(run, info):
    other = Config.model_validate({"train": {"seed": 5}})
    with pytest.raises(InputError, match="`train.seed` was 0 and is now 5") as error:
        open_run(run.root, other, info, resume=True)
    assert "\n" not in str(error.value)


def test_resume_with_another_data_set(run, make_data):
    other = load_dataset_info(make_data("other", seed=1))
    with pytest.raises(InputError, match="data set .*other is not the one") as error:
        open_run(run.root, CONFIG, other, resume=True)
    assert "\n" not in str(error.value)


def test_resume_of_something_else(tmp_path, info):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no training run"):
        open_run(tmp_path, CONFIG, info, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def with_values(section, **values):
    """CONFIG with other values in a section."""
    changed = CONFIG.model_dump()
    changed[section] |= values
    return Config.model_validate(changed)


def test_resume_elsewhere(run, info, capsys):
    """Where a run computes and what watches it is not what it is."""
    other = with_values(
        "train", distribution="one_device", checkpoint_minutes=None, wandb="mine"
    )
    open_run(run.root, other, info, resume=True)
    assert load_config(run.config) == other
    message = capsys.readouterr().out
    assert "`train.distribution` was 'auto' and is now 'one_device'" in message
    assert "`train.wandb` was None and is now 'mine'" in message
    open_run(run.root, other, info, resume=True)
    assert not capsys.readouterr().out


def test_resume_with_other_weights(run, info):
    """They do not matter once there is a state, and are not recorded."""
    other = with_values("model", weights="other.pth")
    open_run(run.root, other, info, resume=True)
    assert load_config(run.config) == CONFIG
    for path in run.backup.glob("epoch-*"):
        path.unlink()
    with pytest.raises(InputError, match="`model.weights` was None and is now 'other"):
        open_run(run.root, other, info, resume=True)


@pytest.mark.parametrize("switch", ["resume", "overwrite"])
def test_folder_in_use_is_left_alone(run, info, switch):
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*")}
    with RunLock(run.root) as mine, RunLock(run.root) as lock:
        mine.acquire()
        with pytest.raises(InputError, match="is in use by process"):
            open_run(run.root, CONFIG, info, **{switch: True}, lock=lock)
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*")} == before


def test_lock_is_held_until_released(run, info):
    for switch in ("overwrite", "resume"):
        with RunLock(run.root) as lock, RunLock(run.root) as other:
            open_run(run.root, CONFIG, info, **{switch: True}, lock=lock)
            with pytest.raises(InputError, match="is in use by process"):
                other.acquire()
        assert not (run.root / LOCK).exists()


def test_folder_that_another_run_takes_first(tmp_path, info):
    """Both find it empty, and the other is done when this one has the lock."""

    class Late(RunLock):
        def acquire(self):
            open_run(tmp_path, with_values("train", seed=9), info)
            super().acquire()

    with Late(tmp_path) as lock, pytest.raises(InputError, match="a moment ago"):
        open_run(tmp_path, CONFIG, info, lock=lock)
    assert load_config(tmp_path / "config.yaml").train.seed == 9


@pytest.mark.parametrize("switch", ["resume", "overwrite"])
def test_lock_that_a_killed_process_left_alone(tmp_path, info, switch):
    (tmp_path / LOCK).touch()
    with RunLock(tmp_path) as lock:
        run = open_run(tmp_path, CONFIG, info, **{switch: True}, lock=lock)
    assert load_config(run.config) == CONFIG


KILLED_EXPORT = """
import os
import signal
import sys
from pathlib import Path
from tsi_keras.export.version_folder import workshop

with workshop(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_lock_that_a_killed_export_left_is_no_run(tmp_path, info, repository):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_text("mine")
    export = [sys.executable, "-c", KILLED_EXPORT, str(tmp_path)]
    status = subprocess.run(export, cwd=repository, check=False).returncode
    assert status == -signal.SIGKILL
    before = sorted(tmp_path.rglob("*"))
    assert tmp_path / EXPORT_LOCK in before
    with RunLock(tmp_path) as lock:
        with pytest.raises(InputError, match="holds nothing this command wrote"):
            open_run(tmp_path, CONFIG, info, overwrite=True, lock=lock)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "1/saved_model.pb").read_text() == "mine"


def test_finished_run_needs_no_lock(run, info):
    """Nothing is written then, so that its disk may be read-only."""
    summary = json.loads(run.summary.read_text())
    write_json(run.summary, summary | {"status": "finished"})
    with RunLock(run.root) as mine, RunLock(run.root) as lock:
        mine.acquire()
        assert open_run(run.root, CONFIG, info, resume=True, lock=lock).is_finished
