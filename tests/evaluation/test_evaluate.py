"""Evaluation end to end on tiny records, and everything it must refuse."""

import csv
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn import metrics as sk

from pipelines import evaluate as command
from pipelines._command import run
from tests.evaluation.tiny import CLASSES
from tests.evaluation.tiny import tiny_model
from tests.evaluation.tiny import write_dataset
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.evaluation.evaluate import evaluate
from tsi_keras.evaluation.metrics import compute_metrics
from tsi_keras.utils.errors import InputError

NUM_VIDEOS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("eval") / "data", range(NUM_VIDEOS))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def evaluated(model_file, data, tmp_path_factory):
    """The command's own run: its output folder."""
    output = tmp_path_factory.mktemp("out") / "report"
    arguments = ["--model", str(model_file), "--data", str(data)]
    arguments += ["--output", str(output), "--batch-size", "4", "--sheet-clips", "3"]
    assert run(command.main, [*arguments, "--num-frames", "4"]) == 0
    return output


def _read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_every_file_is_written(evaluated):
    names = {path.name for path in evaluated.iterdir()}
    assert names == {
        "metrics.json",
        "videos.csv",
        "classes.csv",
        "confusion.csv",
        "confusion.png",
        "clips.png",
        "logits.npz",
    }
    for name in ("confusion.png", "clips.png"):
        with Image.open(evaluated / name) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_figures_follow_from_the_stored_logits(evaluated, data):
    figures = json.loads((evaluated / "metrics.json").read_text())
    with np.load(evaluated / "logits.npz") as arrays:
        logits, labels = arrays["logits"], arrays["labels"]
        assert arrays["ids"].tolist() == [f"video {n}" for n in range(NUM_VIDEOS)]
        assert arrays["class_names"].tolist() == CLASSES
    assert labels.tolist() == [n % len(CLASSES) for n in range(NUM_VIDEOS)]
    assert len(np.unique(logits.argmax(axis=1))) > 1
    top5 = sk.top_k_accuracy_score(labels, logits, k=5)
    assert figures["metrics"]["top1"] == np.mean(logits.argmax(axis=1) == labels)
    assert figures["metrics"]["top5"] == pytest.approx(top5)
    assert figures["num_videos"] == NUM_VIDEOS
    assert figures["data"]["fingerprint"] == load_dataset_info(data).fingerprint
    assert len(figures["model"]["sha256"]) == 64
    assert figures["protocol"] == {
        "name": "1x1",
        "clips": 1,
        "crops": 1,
        "num_frames": 4,
        "sampling": "segments",
        "short_side": 48,
        "crop_size": 32,
    }
    assert set(figures["versions"]) >= {"tsi_keras", "tensorflow", "keras", "numpy"}


def test_tables_agree_with_the_logits(evaluated):
    with np.load(evaluated / "logits.npz") as arrays:
        logits, labels = arrays["logits"], arrays["labels"]
    predictions = logits.argmax(axis=1)
    header, *videos = _read_csv(evaluated / "videos.csv")
    assert len(videos) == NUM_VIDEOS
    rows = [dict(zip(header, row, strict=True)) for row in videos]
    assert [int(row["predicted"]) for row in rows] == predictions.tolist()
    assert [row["label_name"] for row in rows] == [CLASSES[i] for i in labels]
    assert [int(row["correct"]) for row in rows] == (predictions == labels).tolist()
    exact = tf.nn.softmax(logits.astype(np.float64)).numpy()
    for row, probabilities, label in zip(rows, exact, labels, strict=True):
        assert float(row["probability"]) == pytest.approx(probabilities.max(), abs=1e-6)
        stated = float(row["true_probability"])
        assert stated == pytest.approx(probabilities[label], abs=1e-6)
    confusion = [
        list(map(int, row[1:])) for row in _read_csv(evaluated / "confusion.csv")[1:]
    ]
    expected = sk.confusion_matrix(labels, predictions, labels=range(len(CLASSES)))
    np.testing.assert_array_equal(confusion, expected)
    classes = _read_csv(evaluated / "classes.csv")[1:]
    assert [int(row[2]) for row in classes] == expected.sum(axis=1).tolist()


def test_reloaded_file_and_batch_size_change_nothing(evaluated, model, data):
    report = evaluate(model, data, batch_size=3)
    with np.load(evaluated / "logits.npz") as arrays:
        np.testing.assert_allclose(report.logits, arrays["logits"], atol=1e-4)
        assert report.metrics == compute_metrics(arrays["logits"], arrays["labels"])
    assert report.context["model"]["file"] is None


def test_five_classes_have_no_top5(tmp_path, capsys):
    names = CLASSES[:3]
    data = write_dataset(tmp_path / "data", range(4), class_names=names)
    report = evaluate(tiny_model("none", names), data, output=tmp_path / "out")
    assert report.top5 is None
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["metrics"]["top5"] is None
    assert "3 classes" in figures["notes"][0]


@pytest.mark.parametrize("listed", [NUM_VIDEOS - 1, NUM_VIDEOS + 1])
def test_other_number_of_videos_is_an_error(listed, model, tmp_path):
    data = write_dataset(tmp_path / "data", range(NUM_VIDEOS))
    path = data / "dataset.json"
    content = json.loads(path.read_text())
    content["splits"]["val"]["num_videos"] = listed
    path.write_text(json.dumps(content))
    message = f"as dataset.json lists them: .* {listed} elements"
    with pytest.raises(InputError, match=message) as caught:
        evaluate(model, data, output=tmp_path / "out")
    assert not {"\n", "{", "["} & set(str(caught.value))
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_video_twice_is_an_error(model, tmp_path):
    data = write_dataset(tmp_path / "data", [0, 1, 1, 2])
    with pytest.raises(InputError, match="4 were read .3 different ids"):
        evaluate(model, data)


def test_damaged_records_are_an_error_in_one_line(model, tmp_path):
    data = write_dataset(tmp_path / "data", range(3))
    shard = next(data.glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read") as caught:
        evaluate(model, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names, message",
    [
        ([*CLASSES[:3], "class x", *CLASSES[4:]], "Class 3 is 'class d' in the model"),
        (CLASSES[:-1], "Class 6 is 'class g' in the model and missing in the data"),
        ([*CLASSES, "class h"], "Class 7 is missing in the model and 'class h'"),
    ],
)
def test_other_classes_are_an_error(names, message, model, tmp_path):
    data = write_dataset(tmp_path / "data", range(3), class_names=names)
    with pytest.raises(InputError, match=message):
        evaluate(model, data)


def test_diverged_model_is_an_error(data):
    model = tiny_model("none")
    head = model.get_layer("classifier")
    head.kernel.assign(np.full(head.kernel.shape, np.nan))
    with pytest.raises(InputError, match="not finite for 10 of 10 videos"):
        evaluate(model, data)


def test_model_without_preprocessing_is_an_error(data):
    model = tiny_model("none", preprocessing=None)
    with pytest.raises(InputError, match="does not state `preprocessing`"):
        evaluate(model, data)


@pytest.mark.parametrize(
    "changed, message",
    [
        (["--model", "nowhere.keras"], "does not exist"),
        (["--data", "nowhere"], "is not a folder"),
        (["--split", "holdout"], "must be one of"),
        (["--protocol", "10x3"], "must be one of: 1x1"),
        (["--num-frames", "16"], "is 16, but the model .* for 4 frames"),
        (["--batch-size", "0"], "1 or more"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    changed, message, model_file, data, tmp_path, capsys
):
    output = tmp_path / "out"
    given = ["--model", str(model_file), "--data", str(data), "--output", str(output)]
    assert run(command.main, [*given, *changed]) == 2
    assert not output.exists()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert re.search(message, lines[0])


def test_nothing_is_written_over(evaluated, model_file, data, capsys):
    before = {path: path.read_bytes() for path in evaluated.iterdir()}
    given = ["--model", str(model_file), "--data", str(data)]
    assert run(command.main, [*given, "--output", str(evaluated)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in evaluated.iterdir()} == before


def test_output_must_not_contain_the_inputs(model_file, data, capsys):
    given = ["--model", str(model_file), "--data", str(data), "--overwrite"]
    assert run(command.main, [*given, "--output", str(data)]) == 2
    assert run(command.main, [*given, "--output", str(model_file.parent)]) == 2
    assert "contains the input" in capsys.readouterr().err
    assert model_file.exists() and (data / "dataset.json").exists()
