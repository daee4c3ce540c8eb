"""Exports as TF Serving loads them: C++ loader, raw tensors, no tsi_keras."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.making_requests import bad_requests
from tests.export.making_requests import example
from tests.export.making_requests import jpeg_clips
from tests.export.making_requests import jpeg_files
from tests.export.making_requests import pixels
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.evaluation.protocols import clip_options

CLIENT = Path(__file__).with_name("session_client.py")


def ask(folder, requests, temporary):
    """Answers to (signature, input, value), and what the graph says of itself."""
    given, answers = temporary / "requests", temporary / "answers"
    given.write_bytes(pickle.dumps(requests))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    paths = [str(folder), str(given), str(answers)]
    # As text, so that nothing beside the program can be imported.
    subprocess.run(
        [sys.executable, "-c", CLIENT.read_text("utf-8"), *paths],
        check=True,
        cwd=temporary,
        env=environment,
        timeout=300,
    )
    return pickle.loads(answers.read_bytes())


@pytest.fixture(scope="module")
def records(data):
    """The serialized videos and the clips the evaluation makes of them."""
    info = load_dataset_info(data)
    stored = tf.data.TFRecordDataset(info.shard_paths("val"))
    return np.array(list(stored.as_numpy_iterator()), object)


@pytest.fixture(scope="module")
def session(exported, records, tmp_path_factory):
    """Good and bad requests by turns, in one session, with their answers."""
    good = ("serve_example", "examples", records[:1])
    requests = [("serve_example", "examples", records)]
    for signature, key, value, _ in bad_requests():
        requests += [(signature, key, value), good]
    requests.append(("serve_jpeg", "frames", jpeg_clips(3)))
    requests.append(("serving_default", "frames", pixels(2, 4, 40, 72, 3)))
    return ask(exported, requests, tmp_path_factory.mktemp("session"))


def test_signatures_and_assets(session):
    specs = session["about"]["specs"]
    inputs = {
        "serving_default inputs frames": ("uint8", [-1, -1, -1, -1, 3]),
        "serve_jpeg inputs frames": ("string", [-1, -1]),
        "serve_example inputs examples": ("string", [-1]),
    }
    outputs = {
        f"{name} outputs {key}": ("float32", [-1, 7])
        for name in ("serving_default", "serve_jpeg", "serve_example")
        for key in ("logits", "probabilities")
    }
    assert specs == inputs | outputs
    assert session["about"]["assets"] == ["labels.txt", "preprocessing.json"]


def test_records_give_the_logits_of_the_evaluation(session, data, model):
    clips = make_dataset(data, "val", clip_options(model), batch_size=5, training=False)
    frames, _ = next(iter(clips))
    expected = model.predict_on_batch(frames)
    assert np.ptp(expected, axis=0).max() > 0.1
    answer = session["answers"][0]
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-4)
    np.testing.assert_allclose(
        answer["probabilities"], tf.nn.softmax(expected), atol=1e-5
    )


def test_errors_name_the_problem_and_end_nothing_else(session):
    first, *answers = session["answers"]
    pairs = zip(answers[0::2], answers[1::2], strict=True)
    for (*_, wanted), (error, after) in zip(bad_requests(), pairs, strict=False):
        assert isinstance(error, str), wanted
        assert error.startswith("InvalidArgumentError") and wanted in error, error
        np.testing.assert_array_equal(after["logits"], first["logits"][:1])


def test_good_requests_after_all(session):
    jpegs, black = session["answers"][-2:]
    assert jpegs["logits"].shape == (3, 7) and black["logits"].shape == (2, 7)
    np.testing.assert_allclose(jpegs["probabilities"].sum(1), 1, atol=1e-6)


def test_frames_of_a_fixed_size(small_export, tmp_path):
    model, folder = small_export
    good = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    files = jpeg_clips(2)
    requests = [
        ("serving_default", "frames", pixels(1, 4, 32, 40, 3)),
        ("serving_default", "frames", good),
        ("serve_jpeg", "frames", files),
        ("serve_example", "examples", np.array([example(jpeg_files(0))], object)),
    ]
    error, *answers = ask(folder, requests, tmp_path)["answers"]
    assert "(N, 4, 32, 32, 3)" in error and "[1 4 32 40 3]" in error
    expected = model(good, training=False)
    gap = np.abs(answers[0]["logits"] - expected).max()
    # float16 keeps 11 bits of a weight.
    assert 0 < gap < 5e-3 * np.abs(expected).max()
    assert answers[1]["logits"].dtype == np.float32
    assert answers[2]["logits"].shape == (1, 7)
