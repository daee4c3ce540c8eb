"""Runs that are killed, stopped, out of space or out of bounds, and resumed."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from pipelines import train as command
from pipelines._command import run as run_command
from tests.holding import python_saying
from tsi_keras.models import load_classifier
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.state import latest_state
from tsi_keras.training.trainer import load_summary
from tsi_keras.training.trainer import train

SECTIONS = {
    "model": {"temporal": "none", "depth": 18, "base_width": 4, "num_frames": 2},
    "data": {"crop_size": 32, "short_side": 36},
    "train": {"epochs": 2, "batch_size": 4, "milestones": [1]},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(dump_config(Config.model_validate(SECTIONS)))
    return path


def basics(recipe, data, output):
    """The arguments that every run needs."""
    arguments = {"--config": recipe, "--data": data, "--output": output}
    return [str(word) for pair in arguments.items() for word in pair]


KILLED_WHILE_SAVING = """
import os, signal, sys
from tsi_keras.training import whole_files
from tsi_keras.training.config_io import load_config
from tsi_keras.training.trainer import train

flush = whole_files.flush_file

def kill(path):
    if path.name == ".writing-epoch-00002-step-0000000.npz":
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)

whole_files.flush_file = kill
train(load_config(sys.argv[1]), *sys.argv[2:])
"""


def test_killed_run_ends_like_an_undisturbed_one(tmp_path, data_dir, repository):
    section = SECTIONS["train"] | {"epochs": 4, "milestones": [3]}
    config = Config.model_validate(
        SECTIONS | {"train": section | {"deterministic": True}}
    )
    (tmp_path / "recipe.yaml").write_text(dump_config(config))
    killed = tmp_path / "killed"
    arguments = [tmp_path / "recipe.yaml", data_dir, killed]
    process = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, *map(str, arguments)],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert process.returncode == -9, process.stderr
    # One line per epoch where nobody watches; the second epoch was logged, not saved.
    lines = process.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["1/4", "2/4"]
    assert all("clips/s" in line and "val_top1" in line for line in lines)
    saved = sorted(path.name for path in (killed / "backup").iterdir())
    assert saved == [
        ".writing-epoch-00002-step-0000000.npz",
        "epoch-00001-step-0000003.npz",
    ]
    # The second epoch's model is there, but the state does not know of it.
    assert (killed / ".last-00002.keras").exists()
    assert json.loads((killed / "last.json").read_text())["epoch"] == 1

    train(config, data_dir, killed, resume=True)
    train(config, data_dir, tmp_path / "undisturbed")
    epochs = [row.split(",")[0] for row in (killed / "log.csv").read_text().split()]
    assert epochs == ["epoch", "0", "1", "2", "3"]
    one, other = (
        load_classifier(tmp_path / name / "last.keras").get_weights()
        for name in ("killed", "undisturbed")
    )
    for expected, found in zip(other, one, strict=True):
        np.testing.assert_array_equal(expected, found)
    names = [
        sorted(path.name for path in (tmp_path / run).iterdir())
        for run in ("killed", "undisturbed")
    ]
    assert names[0] == names[1]


def test_sigterm_saves_and_resume_goes_on(tmp_path, data_dir, recipe, capsys):
    run = tmp_path / "run"
    arguments = [*basics(recipe, data_dir, run), "--train.checkpoint_minutes=0"]

    def terminate():
        while not list(run.glob("backup/epoch-*")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    assert run_command(command.main, arguments) == 128 + signal.SIGTERM
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert re.match(r"Training was ended by SIGTERM after \d epochs and \d s", message)
    _, epoch, step = latest_state(run / "backup")
    assert run_command(command.main, [*arguments, "--resume"]) == 0
    assert f"resuming after epoch {epoch}, step {step} of" in capsys.readouterr().out
    assert load_summary(run).epochs == 2


HELD_AT_A_STEP = """
import sys
from tsi_keras.training import checkpoints
from tsi_keras.training.config_io import load_config
from tsi_keras.training.trainer import train

take_state = checkpoints.take_state

def take(*args):
    print("saving", flush=True)
    sys.stdin.read()
    return take_state(*args)

checkpoints.take_state = take
train(load_config(sys.argv[1]), *sys.argv[2:])
"""


def test_folder_of_a_living_run(tmp_path, data_dir, recipe, repository, capsys):
    """A job that is started again while the old one lives, and when that is killed."""
    run = tmp_path / "run"
    with python_saying(
        "saving", HELD_AT_A_STEP, recipe, data_dir, run, folder=repository
    ) as process:
        arguments = [*basics(recipe, data_dir, run), "--resume"]
        assert run_command(command.main, arguments) == 2
        message = capsys.readouterr().err
        assert f"run is in use by process {process.pid} on " in message
        assert message.count("\n") == 1
        process.kill()
    assert run_command(command.main, arguments) == 0
    assert load_summary(run).epochs == 2
    assert not (run / ".lock").exists()


def test_run_goes_on_with_other_devices(tmp_path, data_dir, recipe, capsys):
    """After a kill; what the run trains may not change, and how to is said."""
    run = tmp_path / "run"
    arguments = [*basics(recipe, data_dir, run), "--train.distribution=one_device"]
    wild = ["--train.learning_rate=1e30", "--train.clip_norm=null"]
    assert run_command(command.main, [*arguments, *wild]) == 1
    assert "in a new run (--resume keeps the recipe)" in capsys.readouterr().err
    assert run_command(command.main, [*arguments, "--resume"]) == 2
    assert "`train.learning_rate` was 1e+30" in capsys.readouterr().err
    arguments = [*arguments, *wild, "--resume", "--train.distribution=auto"]
    assert run_command(command.main, arguments) == 1
    captured = capsys.readouterr()
    assert "The loss became" in captured.err
    assert "was 'one_device' and is now 'auto'" in captured.out


def test_full_disk(tmp_path, data_dir, recipe, capsys):
    """After the first epoch a model does not fit any more."""
    run = tmp_path / "run"
    arguments = [*basics(recipe, data_dir, run), "--train.epochs=6"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        while not (run / "last.keras").exists():
            time.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        assert run_command(command.main, arguments) == 2
    finally:
        thread.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = capsys.readouterr().err
    assert re.match(rf"error: {run}\S* cannot be written: File too large; m", message)
    assert message.count("\n") == 1
    assert latest_state(run / "backup").epoch in range(1, 6)
    assert load_classifier(run / "last.keras").num_classes == 3
    assert run_command(command.main, [*arguments, "--resume"]) == 0


def test_divergence_is_an_error(tmp_path, data_dir, recipe, capsys):
    arguments = basics(recipe, data_dir, tmp_path / "run")
    wild = ["--train.learning_rate=1e30", "--train.clip_norm=null"]
    assert run_command(command.main, [*arguments, *wild]) == 1
    message = capsys.readouterr().err
    assert "The loss became" in message
    # The data set has twelve videos, train-0 to train-11; a batch has four.
    assert len(set(re.findall(r"train-\d+", message))) == 4
    assert "with about the videos" in message
    assert (
        json.loads((tmp_path / "run/summary.json").read_text())["status"] == "running"
    )
