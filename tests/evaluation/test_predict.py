"""Prediction on video files, whole and broken."""

import json

import numpy as np
import pytest

from pipelines import predict as command
from pipelines._command import run
from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import moving_frames
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset
from tests.evaluation.tiny import write_mp4
from tsi_keras.data.decoding import read_video
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.evaluation.evaluate import evaluate
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.predict import predict_videos
from tsi_keras.evaluation.predict import read_clip
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.evaluation.video_files import find_videos
from tsi_keras.utils.errors import InputError

NUM_VIDEOS = 5


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Files `0.mp4` to `4.mp4`, and beside them one that only has the name."""
    folder = tmp_path_factory.mktemp("videos")
    for n in range(NUM_VIDEOS):
        write_mp4(folder / f"{n}.mp4", moving_frames(n, num_frames=9 + n))
    (folder / "broken.mp4").write_bytes(b"this is not a video" * 100)
    (folder / "notes.txt").write_text("nor is this")
    return folder


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best.keras"
    model.save(path)
    return path


def _good(videos):
    return [videos / f"{n}.mp4" for n in range(NUM_VIDEOS)]


def test_agrees_with_the_evaluation_of_the_same_videos(videos, model, tmp_path):
    frames = [read_video(p, short_side=48, fps=12).frames for p in _good(videos)]
    data = write_dataset(tmp_path / "data", range(NUM_VIDEOS), frames=frames)
    report = evaluate(model, data)
    predictions = predict_videos(model, _good(videos), batch_size=2)
    assert len({p.candidates[0].index for p in predictions}) > 1
    for n, prediction in enumerate(predictions):
        assert prediction.candidates[0].index == report.predictions[n]
        gap = np.abs(prediction.logits - report.logits[n]).max()
        # Only the JPEG compression of the records lies between the two.
        assert 0 < gap < 0.05 * np.ptp(report.logits[n])


def test_clip_is_that_of_the_input_pipeline(videos, model, tmp_path):
    frames = [read_video(p, short_side=48, fps=12).frames for p in _good(videos)]
    data = write_dataset(tmp_path / "data", range(NUM_VIDEOS), frames=frames)
    options = clip_options(model)
    stored = make_dataset(data, "val", options, batch_size=NUM_VIDEOS, training=False)
    expected = next(stored.as_numpy_iterator())[0].astype(float)
    clips = np.stack([read_clip(p, options, fps=12) for p in _good(videos)])
    assert clips.dtype == np.uint8 and clips.shape == (NUM_VIDEOS, 4, 32, 32, 3)
    assert np.abs(clips - expected).mean() < 2
    # Another frame or another crop would differ by far more.
    assert np.abs(np.roll(clips, 1, axis=1) - expected).mean() > 10
    assert np.abs(np.roll(clips, 2, axis=3) - expected).mean() > 6


def test_candidates_are_the_top_k_of_the_softmax(videos, model):
    (prediction,) = predict_videos(model, _good(videos)[:1], top_k=3)
    probabilities = softmax(prediction.logits)
    best = np.argsort(probabilities)[::-1][:3]
    assert [c.rank for c in prediction.candidates] == [1, 2, 3]
    assert [c.index for c in prediction.candidates] == best.tolist()
    assert [c.label for c in prediction.candidates] == [CLASSES[i] for i in best]
    stated = [c.probability for c in prediction.candidates]
    np.testing.assert_allclose(stated, probabilities[best])
    (all_classes,) = predict_videos(model, _good(videos)[:1], top_k=100)
    total = sum(c.probability for c in all_classes.candidates)
    assert len(all_classes.candidates) == len(CLASSES) and total == pytest.approx(1)


def test_order_and_batches_do_not_matter(videos, model):
    together = predict_videos(model, _good(videos))
    for batch_size in (1, 3):
        backwards = predict_videos(model, _good(videos)[::-1], batch_size=batch_size)
        for one, other in zip(together, backwards[::-1], strict=True):
            assert one.path == other.path
            np.testing.assert_allclose(one.logits, other.logits, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_bad_file_does_not_stop_the_others(videos, model, batch_size):
    paths = [videos / "0.mp4", videos / "broken.mp4", videos / "1.mp4"]
    for order in (paths, paths[::-1], paths[:2]):
        predictions = predict_videos(model, order, batch_size=batch_size)
        assert [p.path for p in predictions] == order
        for prediction in predictions:
            is_bad = prediction.path.name == "broken.mp4"
            assert (prediction.error is not None) == is_bad
            assert bool(prediction.candidates) != is_bad


def test_command_on_a_folder(videos, model_file, tmp_path, capsys):
    target = tmp_path / "predictions.json"
    arguments = [str(videos), "--model", str(model_file), "--json", str(target)]
    assert run(command.main, arguments) == 1
    entries = json.loads(target.read_text())
    names = [entry["video"].rsplit("/", 1)[1] for entry in entries]
    assert names == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4", "broken.mp4"]
    assert len(entries[0]["predictions"]) == 5
    assert set(entries[0]["predictions"][0]) == {
        "rank",
        "index",
        "label",
        "probability",
    }
    assert "not a readable video" in entries[-1]["error"]
    shown = capsys.readouterr().out
    assert "5 videos classified, 1 failed" in shown
    assert entries[0]["predictions"][0]["label"] in shown
    assert all(name in shown for name in names)
    assert run(command.main, arguments) == 2
    assert "exists; nothing was written" in capsys.readouterr().err


def test_command_prints_pure_json(videos, model_file, capsys):
    arguments = [str(videos / "0.mp4"), "--model", str(model_file.parent)]
    assert run(command.main, [*arguments, "--json", "-", "--top-k", "2"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert [c["rank"] for c in entry["predictions"]] == [1, 2]


def test_a_video_is_never_overwritten_by_its_predictions(videos, capsys):
    path, before = videos / "0.mp4", (videos / "0.mp4").read_bytes()
    arguments = [str(videos), "--model", "none", "--json", str(path), "--overwrite"]
    assert run(command.main, arguments) == 2
    assert "is a video to classify" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_folders_are_searched_and_others_refused(videos, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    hidden = tmp_path / "deep" / "._x.mp4"
    hidden.touch()
    with pytest.raises(InputError, match="without videos"):
        find_videos([tmp_path])
    inner = tmp_path / "deep" / "er" / "A.MP4"
    inner.touch()
    assert find_videos([tmp_path, videos / "notes.txt"]) == [
        inner,
        videos / "notes.txt",
    ]
    with pytest.raises(InputError, match="does not exist"):
        find_videos([videos / "0.mp4", tmp_path / "missing.mp4"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["0.mp4", "--model", "nowhere"], "`--model` nowhere does not exist"),
        (["9.mp4"], "does not exist"),
        (["0.mp4", "--top-k", "0"], "--top-k"),
        (["0.mp4", "--json", "nowhere/x.json"], "existing folder"),
    ],
)
def test_bad_input_is_status_2(arguments, message, videos, model_file, capsys):
    given = ["--model", str(model_file), str(videos / arguments[0]), *arguments[1:]]
    assert run(command.main, given) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_real_clips(real_videos, model):
    predictions = predict_videos(model, find_videos([real_videos]))
    errors = {p.path.name: p.error for p in predictions if p.error}
    assert list(errors) == ["corrupted.mp4"] and len(predictions) == 6
    assert "decoding failed" in errors["corrupted.mp4"]
