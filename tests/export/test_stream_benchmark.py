"""`benchmark stream` on a tiny network."""

import csv
import json

import pytest

from pipelines import benchmark as command
from pipelines._command import run
from tests.export.making_streams import ramp
from tests.export.making_streams import slope_model
from tests.export.making_streams import write_video
from tsi_keras.export import stream_benchmark


def test_rows_with_and_without_reuse(monkeypatch, tmp_path, capsys):
    asked = []

    def network(depth, **options):
        asked.append(options.get("temporal"))
        return slope_model()

    monkeypatch.setattr(stream_benchmark, "video_resnet", network)
    video = write_video(tmp_path / "v.mp4", ramp(96, 0, 200))
    output = tmp_path / "out"
    arguments = ["stream", str(video), "--window", "1", "--repeats", "1"]
    assert run(command.main, [*arguments, "--output", str(output)]) == 0
    assert asked == [kind["temporal"] for kind in stream_benchmark.NETWORKS.values()]
    rows = list(csv.DictReader((output / "streaming.csv").open()))
    assert [row["reuse"] for row in rows] == ["no", "yes"] * len(asked)
    # The end is one window shorter than the others where the hop leaves a rest.
    assert {float(row["windows"]) for row in rows} == {13.0}
    for row in rows:
        assert float(row["windows_per_second"]) > 0
        assert float(row["cpu_seconds_per_window"]) > 0
    assert json.loads((output / "streaming.json").read_text())["cores"] >= 1
    assert run(command.main, [*arguments, "--output", str(output)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "topic",
    [
        ["stream", "VIDEO"],
        ["prepare", "VIDEO", "other.mp4"],
        ["serving", "--export", "x", "--server", "http://x", "--videos", "VIDEO"],
        ["data", "--synthetic", "--config", "VIDEO"],
        ["data", "--synthetic", "--run", "VIDEO"],
    ],
)
def test_an_input_in_the_output_is_not_removed(topic, tmp_path, capsys):
    video = tmp_path / "v.mp4"
    video.write_text("precious")
    for name in ("streaming", "preparation", "serving", "input_pipeline"):
        (tmp_path / f"{name}.json").write_text("{}")
    words = [str(video) if word == "VIDEO" else word for word in topic]
    words += ["--output", str(tmp_path), "--overwrite"]
    assert run(command.main, words) == 2
    assert f"contains the input {video}" in capsys.readouterr().err
    assert video.read_text() == "precious"


@pytest.mark.parametrize("arguments", [["nowhere.mp4"], ["v.mp4", "--repeats", "0"]])
def test_bad_input_is_status_2(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(
        stream_benchmark, "video_resnet", lambda *_, **__: slope_model()
    )
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4", ramp(30, 0, 200))
    assert run(command.main, ["stream", *arguments]) == 2
