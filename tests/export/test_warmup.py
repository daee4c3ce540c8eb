"""Warm-up requests: as TF Serving reads them, and against the loaded model."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import tsi_keras.export.comparison as comparison
import tsi_keras.export.saved_model as saved_model
from pipelines import export as command
from pipelines._command import run
from tests.evaluation.tiny import tiny_model
from tests.export.making_requests import jpeg_files
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.parity import record_clips
from tsi_keras.export.saved_model import export_saved_model
from tsi_keras.export.warmup import WARMUP_FILE
from tsi_keras.export.warmup import plain_clips
from tsi_keras.export.warmup import write_warmup


def read_requests(version_folder):
    """The requests, record by record."""
    path = version_folder / "assets.extra" / "tf_serving_warmup_requests"
    requests = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        requests.append(log.predict_log.request)
    return requests


def test_every_request_is_answered(exported, model, data):
    signatures = tf.saved_model.load(str(exported)).signatures
    requests = read_requests(exported)
    sizes, logits = [], []
    for request in requests:
        assert request.model_spec.name == "my_run"
        name = request.model_spec.signature_name
        values = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        (value,) = values.values()
        answer = signatures[name](**{k: tf.constant(v) for k, v in values.items()})
        sizes.append((name, len(value)))
        logits.append(answer["logits"].numpy())
        assert len(logits[-1]) == len(value)
    assert sizes == [
        ("serving_default", 1),
        ("serve_jpeg", 1),
        ("serve_jpeg", 8),
        ("serve_example", 1),
        ("serve_example", 8),
    ]
    # All are the real clips, one after the other and again: 4 were compared on.
    for answer in logits:
        np.testing.assert_allclose(answer[0], logits[0][0], atol=1e-4)
    np.testing.assert_allclose(logits[2][4:], logits[2][:4], atol=1e-4)
    np.testing.assert_allclose(logits[4], logits[2], atol=1e-4)
    assert np.ptp(logits[2], axis=0).max() > 0.1
    options = clip_options(model)
    [*_, last] = record_clips(load_dataset_info(data), "val", 4, options).jpegs
    frames = tf.make_ndarray(requests[2].inputs["frames"])
    assert frames[3].tolist() == frames[7].tolist() == last


def test_without_data_the_clips_are_plain_and_small(tmp_path):
    options = clip_options(tiny_model("none"))
    count = write_warmup(tmp_path, "m", plain_clips(options), options)
    requests = read_requests(tmp_path)
    assert len(requests) == count == 5
    pixels = tf.make_ndarray(requests[0].inputs["frames"])
    assert pixels.shape == (1, 4, 32, 32, 3) and np.unique(pixels).tolist() == [128]
    assert (tmp_path / WARMUP_FILE).stat().st_size < 100_000


def test_clips_are_made_only_for_requests(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("nobody asked for requests")

    def write(model, folder, options, weights):
        folder.mkdir()

    monkeypatch.setattr(saved_model, "plain_clips", fail)
    monkeypatch.setattr(saved_model, "write_saved_model", write)
    monkeypatch.setattr(comparison, "measure_parity", lambda *_, **__: {"clips": []})
    model, given = tiny_model("none"), {"name": "m", "clips": 1}
    assert export_saved_model(model, tmp_path, warmup=False, **given).is_dir()
    with pytest.raises(AssertionError, match="nobody asked"):
        export_saved_model(model, tmp_path, version=2, **given)


def test_more_clips_than_needed(tmp_path):
    options = clip_options(tiny_model("none"))
    clips = [jpeg_files(n, 4) for n in range(10)]
    write_warmup(tmp_path, "m", clips, options)
    files = tf.make_ndarray(read_requests(tmp_path)[2].inputs["frames"])
    assert files.tolist() == clips[:8]


def test_missing_package_is_named(run_folder, tmp_path, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.startswith("tensorflow_serving"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    given = ["--model", str(run_folder), "--output", str(tmp_path / "out")]
    assert run(command.main, given) == 2
    message = capsys.readouterr().err
    assert "pip install 'tsi_keras[serving]'" in message and "--no-warmup" in message
    assert not (tmp_path / "out").exists()


def test_package_is_not_needed_to_import():
    code = "import sys; sys.modules['tensorflow_serving'] = None\n"
    code += "import tsi_keras.export.saved_model"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
