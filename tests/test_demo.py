"""The demo end to end at a size of seconds: every command runs and finds the last one's."""

import json

import pytest

from pipelines import demo
from pipelines._command import run

TINY = [
    *("--classes", "appear", "move_left", "vanish"),
    *("--videos-per-class", "12", "--workers", "1"),
    *("--set", "train.epochs=1", "--set", "train.warmup_epochs=0.0"),
    *("--set", "train.batch_size=8", "--set", "model.stages=[3]"),
    *("--set", "model.blocks=first"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a demo whose TSI cannot be as far ahead as it is asked to be."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TSI_REAL_VIDEOS", raising=False)
        arguments = ["--output", str(folder), "--expect-margin", "101", *TINY]
        assert run(demo.main, arguments) == 1
    return folder


def test_everything_lies_where_the_summary_says(finished):
    missing = [
        path for _, path in demo._places(finished) if not (finished / path).exists()
    ]
    assert missing == []
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["top1_percent"]) == {"tsi", "tsn"}
    margin = summary["top1_percent"]["tsi"] - summary["top1_percent"]["tsn"]
    assert summary["margin_points"] == pytest.approx(margin)
    assert {"videos", "records", "training tsi", "export"} <= set(summary["seconds"])


def test_results_are_the_summarys(finished):
    header, *rows = (finished / "results.csv").read_text().splitlines()
    assert header.startswith("model,test_top1_percent")
    assert [row.split(",")[0] for row in rows] == ["tsi", "tsn"]


def test_an_earlier_demo_is_kept_unless_told_otherwise(finished, capsys):
    before = (finished / "summary.json").read_bytes()
    assert run(demo.main, ["--output", str(finished)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


def test_a_failing_step_ends_the_demo(tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "out"), *TINY, "--set", "train.lr=1"]
    assert run(demo.main, arguments) == 1
    assert "pipelines.train ended with status 2" in capsys.readouterr().out
