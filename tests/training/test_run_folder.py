"""What may be started, resumed or overwritten in a run's folder."""

import json

import pytest

from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import load_config
from tsi_keras.training.run_folder import open_run
from tsi_keras.utils.errors import InputError

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
    (run.backup / "epoch-00002.weights.h5").touch()
    (run.backup / ".writing-epoch-00003.weights.h5").touch()
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
    kept = [{"epoch": 0, "val_top1": 0.25}, {"epoch": 1, "val_top1": 0.5}]
    assert run.forget_unfinished() == kept
    assert run.log.read_bytes() == b"epoch,val_top1\r\n0,0.25\r\n1,0.5\r\n"


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
