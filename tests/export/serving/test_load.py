"""Many requests at once: none lost, none mixed up; and the benchmark that counts them."""

import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pipelines._command import run
from pipelines.benchmark import main
from tsi_keras.export import benchmark_serving as measured
from tsi_keras.export.benchmark_serving import benchmark_serving
from tsi_keras.export.serving_client import connect
from tsi_keras.export.serving_requests import video_inputs
from tsi_keras.utils.errors import InputError

CONNECTIONS, REQUESTS = 8, 1000


def test_a_thousand_requests_over_eight_connections(served):
    """REST and gRPC mixed; every answer must be that of its own video."""
    inputs = [video_inputs(path, served.exported) for path in served.videos]
    gaps = np.abs(served.logits[:, None] - served.logits).max(-1)
    assert np.sort(gaps, axis=1)[:, 1].min() > 0.1  # or a mix-up could not be seen
    together = threading.Barrier(CONNECTIONS)

    def work(number: int) -> list[tuple[int, np.ndarray]]:
        address = served.server.rest if number % 2 else served.server.grpc
        turns = range(number, REQUESTS, CONNECTIONS)
        with connect(address, "tiny", timeout=120) as client:
            client.versions()
            together.wait(120)
            return [
                (turn, client.predict(inputs[_video(turn)], "serve_jpeg")["logits"][0])
                for turn in turns
            ]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = [each for part in pool.map(work, range(CONNECTIONS)) for each in part]
    assert sorted(turn for turn, _ in answers) == list(range(REQUESTS))
    for turn, logits in answers:
        np.testing.assert_allclose(logits, served.logits[_video(turn)], atol=1e-3)


def _video(turn: int) -> int:
    """Which one is sent; neighbours on a connection and in time are different ones."""
    return (turn + turn // CONNECTIONS) % 6


def test_rows_say_what_was_measured(served):
    servers = [served.server.rest, served.server.grpc]
    signatures = ["serve_jpeg", "serving_default"]
    rows = benchmark_serving(
        servers,
        served.exported,
        served.videos,
        signatures=signatures,
        requests=12,
        connections=3,
        repeats=2,
    )
    assert [(row["interface"], row["signature"]) for row in rows] == [
        (interface, signature)
        for interface in ("REST", "gRPC")
        for signature in signatures
    ]
    for row in rows:
        assert (row["videos"], row["connections"], row["requests"]) == (6, 3, 24)
        assert (row["errors"], row["wrong"], row["first_error"]) == (0, 0, "")
        assert 0 < row["slowest"] <= row["requests_per_second"] <= row["fastest"]
        assert 0 < row["median_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert rows[1]["request_kb"] == 4 * 32 * 32 * 3 / 1000
    assert 1 < rows[0]["request_kb"] < rows[1]["request_kb"]


def test_failures_are_counted_and_not_timed(served, monkeypatch):
    """A request in four is refused."""
    model, predict = served.server.model, served.server.model.predict
    turns = iter(range(1000))

    def sometimes(signature, inputs):
        if next(turns) % 4 == 3:
            inputs = {"frames": np.array([[b"damaged"] * 4], object)}
        return predict(signature, inputs)

    videos = served.videos[:3]  # asked for one by one first
    monkeypatch.setattr(model, "predict", sometimes)
    [row] = benchmark_serving(
        [served.server.grpc], served.exported, videos, requests=13, repeats=1
    )
    assert (row["requests"], row["errors"], row["wrong"]) == (13, 4, 0)
    assert "refused the request: " in row["first_error"]


def test_answers_for_other_videos_are_wrong(served, monkeypatch):
    """The server mixes up every second answer under load."""
    model, predict = served.server.model, served.server.model.predict
    other = video_inputs(served.videos[5], served.exported)
    turns = iter(range(1000))

    def mixed_up(signature, inputs):
        turn = next(turns)
        return predict(signature, other if turn >= 2 and turn % 2 else inputs)

    monkeypatch.setattr(model, "predict", mixed_up)
    [row] = benchmark_serving(
        [served.server.grpc], served.exported, served.videos[:2], requests=10, repeats=1
    )
    assert (row["errors"], row["wrong"]) == (0, 5)


def test_failed_requests_leave_no_times(capsys):
    target = measured._Target("http://x:1", "serve_jpeg", [{"a": np.zeros(3)}], [])
    target.seconds, target.failures = [2.0], ["gone"]
    load = measured._Load(None, "x", 1, 1, 1.0)
    row = measured._row(target, load)
    assert (row["errors"], row["first_error"]) == (1, "gone")
    assert row["median_ms"] is row["p99_ms"] is None
    assert row["requests_per_second"] == 0.5
    measured.print_serving([row])
    assert "1 of 1 requests failed, the first because gone" in capsys.readouterr().out


def test_synthetic_videos_have_the_size_of_the_records(served, tmp_path):
    exported = replace(
        served.exported, decoding={**served.exported.decoding, "short_side": 35}
    )
    videos = measured._synthetic_videos(tmp_path, exported)
    assert len(videos) == 8
    frames = measured._inputs(videos[:1], exported, "serve_jpeg")[0]["frames"]
    assert frames.shape == (1, 4)


def test_the_command(served, tmp_path, capsys):
    arguments = ["serving", "--export", str(served.exported.folder)]
    arguments += ["--server", served.server.rest, served.server.grpc]
    arguments += ["--requests", "8", "--connections", "2", "--repeats", "1"]
    output = ["--output", str(tmp_path / "out")]
    assert run(main, [*arguments, *output]) == 0
    shown = capsys.readouterr().out
    assert "per s" in shown and "gRPC serve_jpeg" in shown
    with open(tmp_path / "out" / "serving.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["interface"] for row in rows] == ["REST", "gRPC"]
    assert all(row["videos"] == "8" and row["errors"] == "0" for row in rows)
    command = rows[0]["command"]
    assert command.startswith("python -m pipelines.benchmark serving --export ")
    assert command.endswith(f"--repeats 1 --output {tmp_path / 'out'}")
    content = json.loads((tmp_path / "out" / "serving.json").read_text())
    assert content["cores"] >= 1 and len(content["rows"]) == 2
    assert run(main, [*arguments, *output]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_fails_when_requests_do(served, monkeypatch, capsys):
    monkeypatch.setattr(served.server.model, "delay", 0.0)
    arguments = ["serving", "--export", str(served.exported.folder)]
    arguments += ["--server", served.server.grpc, "--requests", "6", "--repeats", "1"]
    arguments += ["--videos", *map(str, served.videos[:2])]
    predict, turns = served.server.model.predict, iter(range(1000))

    def late(signature, inputs):
        if next(turns) >= 2:
            inputs = {"frames": np.array([[b"damaged"] * 4], object)}
        return predict(signature, inputs)

    monkeypatch.setattr(served.server.model, "predict", late)
    assert run(main, arguments) == 1
    assert "6 of 6 requests failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        ({"requests": 0}, "`requests`"),
        ({"connections": 0}, "`connections`"),
        ({"repeats": 0}, "`repeats`"),
        ({"name": "other"}, "no model 'other'"),
        ({"signatures": ["serve_gif"]}, "one of: serve_jpeg"),
    ],
)
def test_impossible_measurements(options, message, served):
    with pytest.raises(InputError, match=message):
        benchmark_serving(
            [served.server.rest], served.exported, served.videos[:1], **options
        )


def test_a_broken_video_is_no_measurement(served, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match="broken.mp4 cannot be used"):
        benchmark_serving(
            [served.server.rest], served.exported, [tmp_path / "broken.mp4"]
        )
