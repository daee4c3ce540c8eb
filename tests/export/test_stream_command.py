"""`predict --stream` as a command: lines, files, signals, bad input."""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines import predict as command
from pipelines._command import run
from tests.export.making_streams import http_server
from tests.export.making_streams import ramp
from tests.export.making_streams import send_endless
from tests.export.making_streams import slope_model
from tests.export.making_streams import transport_stream
from tests.export.making_streams import write_video


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best.keras"
    slope_model().save(path)
    return str(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pictures = np.concatenate([ramp(48, 20, 230), ramp(48, 230, 20)])
    return str(write_video(tmp_path_factory.mktemp("video") / "v.mp4", pictures))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def predict(source, model_file, *options):
    arguments = [source, "--model", model_file, "--stream", *options]
    return run(command.main, arguments)


SHORT = ("--window", "1", "--hop", "0.5")


def test_json_lines_on_stdout_and_the_summary_elsewhere(video, model_file, capsys):
    assert predict(video, model_file, *SHORT, "--json", "-", "--top-k", "1") == 0
    out, err = capsys.readouterr()
    entries = lines_of(out)
    assert [(e["start"], e["end"]) for e in entries] == [
        (0.5 * i, 0.5 * i + 1) for i in range(7)
    ]
    assert entries[0]["label"] == "brighter" and entries[-1]["label"] == "darker"
    assert entries[0]["index"] == 0 and 0.5 < entries[0]["probability"] <= 1
    assert len(entries[0]["predictions"]) == 1 and entries[0]["dropped"] == 0
    assert "96 frames, 7 windows" in err and "% reused" in err


def test_a_file_of_lines_is_not_overwritten(video, model_file, tmp_path, capsys):
    target = tmp_path / "lines.jsonl"
    options = (*SHORT, "--json", str(target), "--segments", "--smooth", "2")
    assert predict(video, model_file, *options) == 0
    labels = [entry["label"] for entry in lines_of(target.read_text())]
    assert labels == ["brighter", "darker"]
    assert "96 frames" in capsys.readouterr().out
    assert predict(video, model_file, *options) == 2
    assert "exists; nothing was written" in capsys.readouterr().err


def test_text_and_the_rounded_lengths(video, model_file, capsys):
    options = ("--window", "1.1", "--hop", "0.4", "--min-probability", "1")
    assert predict(video, model_file, *options) == 0
    out, err = capsys.readouterr()
    assert "window 1.000 s (for 1.1): 4 of 12 stored frames, hop 0.500 s (for 0.4)" in (
        err
    )
    assert "0.00 -      1.00 s" in out and "(no label)" in out


def test_an_overlay_is_written(video, model_file, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    assert predict(video, model_file, *SHORT, "--overlay", str(target)) == 0
    assert target.stat().st_size > 1000
    assert "sound is not copied" in capsys.readouterr().err


def test_damage_on_the_way_is_status_1_with_a_line(model_file, tmp_path, capsys):
    path = write_video(tmp_path / "v.mkv", ramp(96, 0, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert predict(str(path), model_file, *SHORT, "--json", "-", "--segments") == 1
    out, err = capsys.readouterr()
    segment, failure = lines_of(out)
    assert segment["label"] == "brighter"
    assert "last frame at" in failure["error"] and failure["error"] in err


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("nowhere.mp4", (), "nowhere.mp4: the file does not exist"),
        ("98", (), "camera 98: there is no /dev/video98"),
        ("rtsp://127.0.0.1:9/x", (), "Connection refused"),
        ("ftp://x/y", (), "cannot be read as a stream"),
        ("VIDEO", ("--window", "-2"), "`--window` must be a positive number"),
        ("VIDEO", ("--smooth", "0"), "`smooth`"),
        ("VIDEO", ("--live",), "it cannot be live"),
        ("VIDEO", ("--batch-size", "4"), "`--batch-size` is not for --stream"),
        ("VIDEO", ("--overlay", "x.gif"), "must be a .mp4 file"),
        ("VIDEO", ("VIDEO",), "takes one video"),
    ],
)
def test_bad_input_is_status_2(source, options, message, video, model_file, capsys):
    options = [video if option == "VIDEO" else option for option in options]
    source = video if source == "VIDEO" else source
    arguments = [source, *options, "--model", model_file, "--stream"]
    assert run(command.main, arguments) == 2
    assert message in capsys.readouterr().err


def test_a_bad_source_leaves_an_earlier_result(model_file, tmp_path):
    target = tmp_path / "lines.jsonl"
    target.write_text("{}\n")
    options = ("--json", str(target), "--overwrite")
    assert predict("nowhere.mp4", model_file, *options) == 2
    assert target.read_text() == "{}\n"


def test_lines_do_not_replace_the_video(
    video, model_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / "h.mp4"
    data = Path(video).read_bytes()
    own.write_bytes(data)
    for source, target in (("~/h.mp4", str(own)), (str(own), "~/h.mp4")):
        assert predict(source, model_file, "--json", target, "--overwrite") == 2
        assert "is the video itself" in capsys.readouterr().err
    assert own.read_bytes() == data


def test_lines_and_overlay_are_two_files(video, model_file, tmp_path, capsys):
    target = str(tmp_path / "x.mp4")
    assert predict(video, model_file, "--json", target, "--overlay", target) == 2
    assert "`--json` and `--overlay` are both" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_of_streams_need_stream(video, model_file, capsys):
    arguments = [video, "--model", model_file, "--min-probability", "0.5"]
    assert run(command.main, arguments) == 2
    assert "`--min-probability` is for --stream only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_end_in_good_order(number, status, model_file, tmp_path, capsys):
    """An endless source, and a signal once three lines are there."""
    data = transport_stream(ramp(24 * 4, 0, 250))
    target, overlay = tmp_path / "lines.jsonl", tmp_path / "out.mp4"
    asked, over = threading.Event(), threading.Event()
    before = signal.signal(number, signal.default_int_handler)

    def answer(handler):
        send_endless(handler, data)
        asked.set()
        over.wait(60)  # and no more frames

    def interrupt():
        while not over.wait(0.05):
            if target.exists() and target.read_text().count("\n") >= 1:
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    options = (*SHORT, "--json", str(target), "--overlay", str(overlay))
    try:
        with http_server(answer) as address:
            assert predict(address, model_file, *options) == status
            over.set()
    finally:
        over.set()
        signal.signal(number, before)
        thread.join(10)
    assert asked.is_set()
    entries = lines_of(target.read_text())
    assert entries and all(entry["label"] == "brighter" for entry in entries)
    assert overlay.exists()
    assert f"{len(entries)} windows" in capsys.readouterr().out
