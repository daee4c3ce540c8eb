"""Output folders and atomic writes."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from pipelines._benchmark_output import show
from pipelines._command import run
from tsi_keras.utils import console
from tsi_keras.utils import cores
from tsi_keras.utils.cores import available_cores
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json


def test_every_core_the_process_may_use_counts(monkeypatch):
    monkeypatch.setattr(cores, "_QUOTA", Path("/nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cores() == 7


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 8), ("400000 100000", 4), ("150000 100000", 2), ("900000 50000", 8)]
    + [("5000 100000", 1), ("", 8)],
)
def test_containers_may_use_less(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)}, raising=False)
    assert available_cores() == expected


def filled(tmp_path, name="earlier.txt"):
    (tmp_path / name).write_text("precious")
    return tmp_path


def test_a_new_folder_is_made(tmp_path):
    assert claim_output(tmp_path / "a" / "b").is_dir()


def test_a_filled_folder_is_refused_and_kept(tmp_path):
    with pytest.raises(InputError, match="not empty.*--overwrite to replace"):
        claim_output(filled(tmp_path))
    with pytest.raises(InputError, match="--resume to go on"):
        claim_output(tmp_path, resume=False)
    assert (tmp_path / "earlier.txt").read_text() == "precious"


def test_overwrite_removes_only_what_carries_a_mark(tmp_path):
    with pytest.raises(InputError, match="none of run.json"):
        claim_output(filled(tmp_path), overwrite=True, marks=["run.json"])
    assert (tmp_path / "earlier.txt").exists()
    (tmp_path / "run.json").write_text("{}")
    claim_output(tmp_path, overwrite=True, marks=["run.json"])
    assert list(tmp_path.iterdir()) == []


def test_resume_keeps_everything(tmp_path):
    claim_output(filled(tmp_path), resume=True)
    assert (tmp_path / "earlier.txt").exists()


def test_impossible_outputs(tmp_path):
    file = filled(tmp_path) / "earlier.txt"
    with pytest.raises(InputError, match="Received a file"):
        claim_output(file)
    with pytest.raises(InputError, match="cannot be created"):
        claim_output(file / "below")
    with pytest.raises(InputError, match="exclude each other"):
        claim_output(tmp_path, overwrite=True, resume=True)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_unreadable_json_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.json does not exist"):
        read_json(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="bad.json is not readable JSON"):
        read_json(tmp_path / "bad.json")


def test_commands_turn_bad_input_into_one_line_and_status_2(capsys):
    def main(argv):
        raise InputError("`--data` is missing.")

    assert run(main, []) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: `--data` is missing.\n"


def test_what_is_the_same_in_all_rows_stands_in_the_title(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=80))
    show(
        [
            {"kind": "a", "cpu_ms": 1, "cores": 2},
            {"kind": "b", "cpu_ms": 3, "cores": 2},
        ],
        "T",
    )
    title, _, headers, *_ = capsys.readouterr().out.splitlines()
    assert title.strip() == "T, cores 2"
    assert headers.split() == ["┃", "kind", "┃", "cpu", "ms", "┃"]


def test_tables_show_brackets_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=60))
    console.print_table("t", ["name", "value"], [["[a]0.mp4", 1.25]])
    assert "[a]0.mp4" in capsys.readouterr().out
