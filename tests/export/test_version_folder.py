"""What happens to a folder of exports when something goes wrong."""

import errno
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest

import tsi_keras.export.comparison as comparison
import tsi_keras.export.saved_model as saved_model
from pipelines import export as command
from pipelines._command import run
from tests.evaluation.tiny import tiny_model
from tests.holding import python_saying
from tsi_keras.export.other_formats import OtherFormats
from tsi_keras.export.other_formats import check_formats
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.export.version_folder import check_target
from tsi_keras.export.version_folder import files_of
from tsi_keras.export.version_folder import installed
from tsi_keras.export.version_folder import read_reports
from tsi_keras.export.version_folder import record_parity
from tsi_keras.export.version_folder import workshop
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.folder_lock import FolderLock


@pytest.fixture
def made(tmp_path):
    """A version and a file, new ones for the places of old ones, and their places."""
    shop = tmp_path / "shop"
    for folder, text in ((shop / "model", "new"), (tmp_path / "1", "old")):
        folder.mkdir(parents=True)
        (folder / "pb").write_text(text)
    (shop / "model.tflite").write_text("new")
    (tmp_path / "model.tflite").write_text("old")
    moves = {shop / "model": tmp_path / "1"}
    return moves | {shop / "model.tflite": tmp_path / "model.tflite"}


def content(folder):
    return [(folder / name).read_text() for name in ("1/pb", "model.tflite")]


def test_all_is_installed(made, tmp_path):
    with installed(made, overwrite=True):
        assert content(tmp_path) == ["new", "new"]
    assert content(tmp_path) == ["new", "new"]


def test_a_failure_puts_back_what_was(made, tmp_path):
    with pytest.raises(OSError, match="disk"):
        with installed(made, overwrite=True):
            raise OSError("disk full")
    assert content(tmp_path) == ["old", "old"]


def test_a_move_that_fails_puts_back_what_was(made, tmp_path):
    (tmp_path / "shop/model.tflite").unlink()
    with pytest.raises(FileNotFoundError):
        with installed(made, overwrite=True):
            raise AssertionError("not everything is there")
    assert content(tmp_path) == ["old", "old"]


def test_what_appeared_meanwhile_is_kept(made, tmp_path):
    with pytest.raises(InputError, match="has appeared meanwhile"):
        with installed(made, overwrite=False):
            raise AssertionError("another export was overwritten")
    assert content(tmp_path) == ["old", "old"]


def test_a_failed_overwrite_keeps_the_old_version(tmp_path, monkeypatch):
    """The last thing that is written cannot be."""

    def write(model, folder, options, weights):
        folder.mkdir()
        (folder / "pb").write_text(weights)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    monkeypatch.setattr(comparison, "measure_parity", lambda *_, **__: {"clips": []})
    monkeypatch.setattr(comparison, "rounding_effect", lambda *_: {})
    model, given = tiny_model("none"), {"name": "m", "warmup": False}
    export_saved_model(model, tmp_path, **given)
    before = sorted(path.name for path in (tmp_path / "m").iterdir())
    monkeypatch.setattr(saved_model, "record_parity", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, tmp_path, overwrite=True, **given)
    assert (tmp_path / "m/1/pb").read_text() == "float32"
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, tmp_path, version=2, **given)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == before


@pytest.fixture
def stand_in(monkeypatch):
    """Exports without TensorFlow's work."""

    def write(model, folder, options, weights):
        folder.mkdir()
        (folder / "pb").write_text(weights)

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    monkeypatch.setattr(comparison, "measure_parity", lambda *_, **__: {"clips": []})


def test_one_export_of_a_name_at_a_time(tmp_path, stand_in, monkeypatch):
    model, given = tiny_model("none"), {"warmup": False, "clips": 1}
    refused = []

    def measure(*_, **__):
        """Another export begins while this one is under way."""
        with pytest.raises(InputError) as error:
            export_saved_model(model, tmp_path, name="m", version=2, **given)
        refused.append(str(error.value))
        return {"clips": []}

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "measure_parity", measure)
        export_saved_model(model, tmp_path, name="m", **given)
    [message] = refused
    assert f"{tmp_path / 'm'} is in use by process {os.getpid()} on " in message
    assert "choose another --name" in message and "\n" not in message
    export_saved_model(model, tmp_path, name="m", version=2, **given)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        *("1", "2", "labels.txt", "parity.json", "serving")
    }


HOLD = """
import sys
from pathlib import Path
from tsi_keras.export.version_folder import workshop

with workshop(Path(sys.argv[1])):
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_killed_export_is_in_nobodys_way(tmp_path, stand_in, repository, capsys):
    model = tiny_model("none")
    model.save(tmp_path / "m.keras")
    with python_saying("at work", HOLD, tmp_path / "m", folder=repository) as process:
        given = ["--model", str(tmp_path / "m.keras"), "--output", str(tmp_path)]
        assert run(command.main, [*given, "--no-warmup", "--clips", "1"]) == 2
        assert f"in use by process {process.pid} on" in capsys.readouterr().err
        process.send_signal(signal.SIGKILL)
    folder = export_saved_model(model, tmp_path, name="m", warmup=False, clips=1)
    assert (folder / "pb").read_text() == "float32"
    assert not [*(tmp_path / "m").glob(".export*")]


def test_what_a_killed_export_was_replacing_is_kept_and_named(tmp_path, capsys):
    """The version was to be replaced, the TFLite file already was."""
    old = tmp_path / ".export-at-work-abc"
    (old / "replaced-0-1").mkdir(parents=True)
    (old / "replaced-1-model.tflite").touch()
    (tmp_path / "model.tflite").touch()
    with workshop(tmp_path):
        left = tmp_path / ".export-left-abc"
        assert {path.name for path in left.iterdir()} == {
            *("replaced-0-1", "replaced-1-model.tflite")
        }
    first, second = capsys.readouterr().err.splitlines()
    assert f"{left}/replaced-0-1 is {tmp_path}/1, which" in first
    assert first.endswith("move it back")
    assert f"the former {tmp_path}/model.tflite, which was replaced" in second
    with workshop(tmp_path):
        assert left.is_dir()
    assert capsys.readouterr().err == ""


def test_what_cannot_be_cleared_is_in_nobodys_way(tmp_path, monkeypatch, capsys):
    (tmp_path / ".export-at-work-abc").mkdir()
    rmtree = shutil.rmtree

    def refuse(folder, **options):
        if not options:
            raise PermissionError(errno.EACCES, "Permission denied")
        rmtree(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with workshop(tmp_path) as (folder, _):
        assert folder.is_dir()
    message = capsys.readouterr().err
    assert (
        "export-left-abc, of an export that was killed: Permission denied; remove"
        in message
    )


def test_a_folder_that_another_export_takes_away_is_made_again(tmp_path, monkeypatch):
    """It ended, without a version, when this one had just found the folder."""
    acquire, left = FolderLock.acquire, [True]

    def acquire_after_its_end(lock):
        if left:
            left.pop()
            lock.path.parent.rmdir()
        acquire(lock)

    monkeypatch.setattr(FolderLock, "acquire", acquire_after_its_end)
    with workshop(tmp_path / "m") as (folder, _):
        assert folder.is_dir()
    assert not (tmp_path / "m").exists()


def test_checks_are_made_again_once_the_folder_is_ours(tmp_path, stand_in, monkeypatch):
    """Another export ended between the checks and the lock."""
    choose = saved_model.choose_clips

    def choose_while_another_ends(*given):
        (tmp_path / "m/7").mkdir(parents=True)
        (tmp_path / "m/labels.txt").write_text("of another model\n")
        return choose(*given)

    monkeypatch.setattr(saved_model, "choose_clips", choose_while_another_ends)
    with pytest.raises(InputError, match="versions with other class names"):
        export_saved_model(tiny_model("none"), tmp_path, name="m", warmup=False)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"7", "labels.txt"}


def test_nothing_is_installed_once_the_lock_is_lost(tmp_path, stand_in, monkeypatch):
    def lost(_):
        raise InputError("taken over")

    monkeypatch.setattr(FolderLock, "check", lost)
    with pytest.raises(InputError, match="taken over"):
        export_saved_model(tiny_model("none"), tmp_path, name="m", warmup=False)
    assert not (tmp_path / "m").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "m").touch()
    with pytest.raises(InputError, match="m cannot be written: File exists"):
        with workshop(tmp_path / "m"):
            raise AssertionError("there is no folder")
    assert (tmp_path / "m").is_file()


@pytest.mark.parametrize("text", ['{"versions": {', "{}", "[]"])
def test_a_damaged_report_is_told_before_anything(tmp_path, text):
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(InputError, match="parity.json"):
        check_target(tmp_path, 1, "a\n", overwrite=True)


def report(*files):
    return {"tflite": {name: {"file": name} for name in files}, "onnx": {}}


def test_files_belong_to_the_version_that_wrote_them_last(tmp_path):
    record_parity(tmp_path, 1, report("model.tflite", "model_int8.tflite"))
    record_parity(tmp_path, 2, report("model.tflite"))
    found = {
        number: files_of(entry) for number, entry in read_reports(tmp_path).items()
    }
    assert found == {"1": ["model_int8.tflite"], "2": ["model.tflite"]}


def test_no_file_of_a_replaced_version_is_left_over(tmp_path):
    record_parity(tmp_path, 1, report("model.tflite", "model_int8.tflite"))
    given = {"has_data": True, "overwrite": True}
    with pytest.raises(InputError, match="model_int8.tflite belongs to version 1"):
        check_formats(OtherFormats(tflite=("float32",)), tmp_path, 1, **given)
    check_formats(OtherFormats(tflite=("float32", "int8")), tmp_path, 1, **given)
    check_formats(OtherFormats(), tmp_path, 2, **given)


def test_labels_with_strange_characters_are_compared_as_they_are(tmp_path):
    labels = "a\u2028b\nc\x0bd\n"
    (tmp_path / "labels.txt").write_bytes(labels.encode())
    (tmp_path / "1").mkdir()
    check_target(tmp_path, 2, labels, overwrite=False)


@pytest.mark.parametrize(
    "weights", ["float32", pytest.param("float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_is_exported_in_float32(tmp_path, weights):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model("tsm", stages=(2,), blocks="first")
        given = {"warmup": False, "clips": 2, "weights": weights}
        folder = export_saved_model(model, tmp_path, name="m", **given)
    finally:
        keras.config.set_dtype_policy(policy)
    [entry] = json.loads((folder.parent / "parity.json").read_text())[
        "versions"
    ].values()
    for figures in entry["signatures"].values():
        assert figures["max_difference"] <= 1e-4
    assert 1e-3 < entry["mixed_precision"]["max_difference"] < 10
    assert ("rounding" in entry) == (weights == "float16")
    assert np.isfinite(entry["mixed_precision"]["mean_difference"])
