"""From videos to requests and predictions: the library and the command."""

import inspect
import json
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest

from pipelines import request as command
from pipelines._command import run
from tests.evaluation.tiny import CLASSES
from tsi_keras.data.preparation import prepare
from tsi_keras.data.records import parse_record
from tsi_keras.data.synthetic import SyntheticOptions
from tsi_keras.data.synthetic import write_dataset
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.predict import predict_videos
from tsi_keras.evaluation.predict import read_clip
from tsi_keras.export.exported_model import read_exported
from tsi_keras.export.serving_client import connect
from tsi_keras.export.serving_requests import JPEG_QUALITY
from tsi_keras.export.serving_requests import request_videos
from tsi_keras.export.serving_requests import video_inputs
from tsi_keras.utils.errors import InputError


@pytest.fixture
def own_videos(served, tmp_path):
    """Synthetic videos with names of all kinds, and two that are none."""
    folder = tmp_path / "Fußgänger 動画"
    made = write_dataset(
        tmp_path / "made",
        SyntheticOptions(width=64, height=48, classes=("appear", "vanish")),
        videos_per_class=1,
        workers=1,
    )
    folder.mkdir()
    for n, path in enumerate(sorted(made.rglob("*.mp4"))):
        shutil.copy(path, folder / f"{n} hüpfen & 跳 [x] .mp4")
    (folder / "broken.mp4").write_bytes(b"this is not a video" * 100)
    (folder / "empty.mp4").touch()
    return folder


def test_export_is_found_from_its_parent_too(served, tmp_path):
    assert read_exported(served.exported.folder) == served.exported
    assert served.exported.name == "tiny" and served.exported.class_names == CLASSES
    for version in ("9", "10", "newest"):
        shutil.copytree(
            served.exported.folder / "assets", tmp_path / "m" / version / "assets"
        )
    (tmp_path / "m" / "11").mkdir()
    assert read_exported(tmp_path / "m").folder == tmp_path / "m" / "10"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("preprocessing.json", "{}", "lacks num_frames, short_side"),
        ("preprocessing.json", "[1]", "lacks num_frames"),
        ("preprocessing.json", "{", "not readable JSON"),
        ("labels.txt", "", "labels.txt is empty"),
        ("labels.txt", None, "labels.txt cannot be read"),
    ],
)
def test_damaged_exports(name, content, message, served, tmp_path):
    shutil.copytree(served.exported.folder / "assets", tmp_path / "m" / "1" / "assets")
    path = tmp_path / "m" / "1" / "assets" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_exported(tmp_path / "m")


def test_folder_without_an_export(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="`--export` .* is no exported model"):
            read_exported(folder)


def test_inputs_are_the_clip_of_the_evaluation(served):
    path, options = served.videos[3], served.exported.options
    jpegs = video_inputs(path, served.exported)["frames"]
    pixels = video_inputs(path, served.exported, "serving_default")["frames"]
    examples = video_inputs(path, served.exported, "serve_example")["examples"]
    assert jpegs.shape == (1, 4) and examples.shape == (1,)
    assert all(type(jpeg) is bytes for jpeg in jpegs[0])
    record = parse_record(examples[0])
    assert record["num_frames"] == 12 and (record["height"], record["width"]) == (
        48,
        64,
    )
    # 12 frames in 4 parts: their centres.
    assert [record["frames"][i].numpy() for i in (1, 4, 7, 10)] == list(jpegs[0])
    expected = read_clip(path, options, **served.exported.decoding)
    np.testing.assert_array_equal(pixels, expected[None])


def test_sampling_and_rate_are_those_of_the_model(served):
    path = served.videos[5]  # 14 frames at 12 per second
    dense = replace(
        served.exported, options=replace(served.exported.options, sampling="dense")
    )
    whole = video_inputs(path, served.exported, "serve_example")["examples"][0]
    frames = [jpeg.numpy() for jpeg in parse_record(whole)["frames"]]
    chosen = list(video_inputs(path, dense)["frames"][0])
    assert chosen == [frames[i % 14] for i in (0, 16, 32, 48)]
    slower = replace(served.exported, decoding={**served.exported.decoding, "fps": 6.0})
    half = video_inputs(path, slower, "serve_example")["examples"][0]
    assert parse_record(half)["num_frames"] == 7


def test_quality_is_that_of_the_preparation(served):
    assert JPEG_QUALITY == inspect.signature(prepare).parameters["quality"].default
    assert command.build_parser().get_default("quality") == JPEG_QUALITY
    low = video_inputs(served.videos[0], served.exported, quality=30)["frames"]
    usual = video_inputs(served.videos[0], served.exported)["frames"]
    assert sum(map(len, low[0])) < 0.8 * sum(map(len, usual[0]))


@pytest.mark.parametrize("interface", ["rest", "grpc"])
def test_predictions_are_those_of_predict(interface, served):
    """Over `serving_default` the same pixels go in; JPEG changes them a little."""
    expected = predict_videos(served.model, served.videos, top_k=3)
    with connect(getattr(served.server, interface), "tiny") as client:
        exact = request_videos(
            client, served.exported, served.videos, signature="serving_default", top_k=3
        )
        near = request_videos(client, served.exported, served.videos)
    for one, other, jpeg in zip(expected, exact, near, strict=True):
        assert [c.label for c in one.candidates] == [c.label for c in other.candidates]
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-3)
        assert len(jpeg.candidates) == 5
        assert 0 < np.abs(softmax(jpeg.logits) - softmax(one.logits)).max() < 0.05


def test_bad_videos_do_not_stop_the_others(served, own_videos):
    good = sorted(own_videos.glob("*hüpfen*"))
    paths = [own_videos / "broken.mp4", good[0], own_videos / "empty.mp4", good[1]]
    with connect(served.server.grpc, "tiny") as client:
        predictions = request_videos(client, served.exported, paths)
    assert [p.path for p in predictions] == paths
    assert [p.error is None for p in predictions] == [False, True, False, True]
    assert "not a readable video" in predictions[0].error


def test_server_that_fails_is_an_error_of_the_video(served, monkeypatch):
    """Here the model goes away after the first answer."""
    model = served.server.model
    predict = type(model).predict

    def once(*arguments):
        monkeypatch.setattr(model, "state", "UNLOADING")
        return predict(model, *arguments)

    monkeypatch.setattr(model, "predict", once)
    with connect(served.server.rest, "tiny") as client:
        first, second = request_videos(client, served.exported, served.videos[:2])
    assert first.error is None
    assert "has no model 'tiny' that is ready" in second.error


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_k": 0}, "--top-k"),
        ({"quality": 0}, "--quality"),
        ({"quality": 101}, "--quality"),
        ({"signature": "serve_gif"}, "one of: serve_jpeg, serving_default"),
    ],
)
def test_impossible_requests(options, message, served):
    with connect(served.server.rest, "tiny") as client:
        with pytest.raises(InputError, match=message):
            request_videos(client, served.exported, served.videos, **options)


def _arguments(served, interface, *more):
    server = getattr(served.server, interface)
    export = str(served.exported.folder.parent)
    return ["--server", server, "--export", export, *map(str, more)]


@pytest.mark.parametrize("interface", ["rest", "grpc"])
def test_command_from_file_to_table(interface, served, own_videos, tmp_path, capsys):
    target = tmp_path / "answers.json"
    arguments = _arguments(served, interface, own_videos, "--json", target)
    assert run(command.main, [*arguments, "--top-k", "2"]) == 1
    entries = json.loads(target.read_text("utf-8"))
    shown = capsys.readouterr().out
    assert "2 videos classified, 2 failed" in shown and "hüpfen" in shown
    assert [len(entry.get("predictions", [])) for entry in entries] == [2, 2, 0, 0]
    expected = predict_videos(served.model, [e["video"] for e in entries[:2]])
    for entry, prediction in zip(entries, expected, strict=False):
        best = prediction.candidates[0]
        assert entry["predictions"][0]["label"] == best.label
        stated = entry["predictions"][0]["probability"]
        assert stated == pytest.approx(best.probability, abs=0.05)
    assert run(command.main, arguments) == 2
    assert "exists; nothing was written" in capsys.readouterr().err


def test_command_is_0_when_all_are_classified(served, capsys):
    arguments = _arguments(served, "grpc", served.videos[0], served.videos[1])
    arguments += ["--json", "-", "--version", "1", "--signature", "serving_default"]
    assert run(command.main, arguments) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["video"] == str(served.videos[0])
    assert first["predictions"] != second["predictions"]


@pytest.mark.parametrize(
    "changed, message",
    [
        (["--name", "other"], "has no model 'other'"),
        (["--version", "5"], "does not have version 5"),
        (["--signature", "serve_gif"], "must be one of"),
        (["--export", "nowhere"], "is no exported model"),
        (["--server", "localhost:8500"], "must be http://HOST:8501"),
        (["--timeout", "-1"], "`--timeout` must be a finite number above 0"),
        (["nowhere.mp4"], "does not exist"),
        (["--json", "nowhere/x.json"], "existing folder"),
    ],
)
def test_bad_input_is_status_2(changed, message, served, capsys):
    arguments = _arguments(served, "rest", served.videos[0], *changed)
    assert run(command.main, arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_no_server_is_status_2(served, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = _arguments(served, "rest", served.videos[0])
    assert run(command.main, [*arguments, "--server", f"grpc://127.0.0.1:{port}"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "cannot be reached" in line and "gRPC port (8500)" in line
