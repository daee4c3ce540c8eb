"""Clients of TF Serving: the scores of the evaluation, and errors that say what to do."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import requests
import tensorflow as tf

from tsi_keras.data.pipeline import make_dataset
from tsi_keras.export.serving_client import ServingClient
from tsi_keras.export.serving_client import ServingError
from tsi_keras.export.serving_client import VersionState
from tsi_keras.export.serving_client import check_ready
from tsi_keras.export.serving_client import connect
from tsi_keras.export.serving_requests import request_logits
from tsi_keras.export.serving_requests import video_inputs
from tsi_keras.utils.errors import InputError

INTERFACES = ("rest", "grpc")


@pytest.fixture(params=INTERFACES)
def client(request, served):
    with connect(getattr(served.server, request.param), "tiny", timeout=60) as client:
        yield client


def test_scores_are_those_of_the_evaluation(client, served):
    """Of the same files, prepared: JPEG frames are sent as the records hold them."""
    assert np.ptp(served.logits, axis=0).min() > 0.1
    for path, expected in zip(served.videos, served.logits, strict=True):
        inputs = video_inputs(path, served.exported)
        logits = request_logits(client, served.exported, inputs, "serve_jpeg")
        np.testing.assert_allclose(logits, [expected], atol=1e-3)


def test_batch_of_the_evaluations_pixels(client, served):
    options = served.exported.options
    clips = make_dataset(served.data, "val", options, batch_size=6, training=False)
    frames, _ = next(clips.as_numpy_iterator())
    answer = client.predict({"frames": frames}, "serving_default")
    np.testing.assert_allclose(answer["logits"], served.logits, atol=1e-3)
    expected = tf.nn.softmax(served.logits).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_whole_records(client, served):
    if "serve_example" not in client.signatures():
        pytest.skip("this export has no signature serve_example")
    for path, expected in zip(served.videos, served.logits, strict=True):
        inputs = video_inputs(path, served.exported, "serve_example")
        logits = request_logits(client, served.exported, inputs, "serve_example")
        np.testing.assert_allclose(logits, [expected], atol=1e-3)


def test_version_can_be_asked_for(served, jpegs):
    for interface in INTERFACES:
        address = getattr(served.server, interface)
        with connect(address, "tiny", version=1) as client:
            answer = client.predict({"frames": jpegs}, "serve_jpeg")
            np.testing.assert_allclose(answer["logits"], served.logits, atol=1e-3)


def test_what_the_server_says_of_the_model(client):
    assert client.versions() == {1: VersionState("AVAILABLE")}
    signatures = client.signatures()
    files, clips = (signatures[n]["frames"] for n in ("serve_jpeg", "serving_default"))
    assert len(files) == 2 and files[0] == -1 and files[1] in (-1, 4)
    assert len(clips) == 5 and clips[0] == -1 and clips[4] == 3


def _broken(jpegs):
    jpegs[1, 2] = b"this is no image"
    return {"frames": jpegs}


def _cut_off(jpegs):
    jpegs[0, 1] = jpegs[0, 1][:200]
    return {"frames": jpegs}


@pytest.mark.parametrize(
    "change, signature, message",
    [
        (_broken, "serve_jpeg", "Unknown image file format|frame 2 of clip 1"),
        (_cut_off, "serve_jpeg", "Invalid JPEG data|frame 1 of clip 0"),
        (
            lambda jpegs: {"frames": jpegs[:1, :3]},
            "serve_jpeg",
            "Input to reshape|frames",
        ),
        (lambda jpegs: {"frames": jpegs[:4, :3]}, "serve_jpeg", "of 4 clips|frames"),
        (lambda jpegs: {"frames": jpegs[:2, :2]}, "serve_jpeg", "of 2 clips|frames"),
        (lambda jpegs: {"frames": jpegs}, "serving_default", "uint8|dtype"),
        (lambda jpegs: {"frames": jpegs}, "serve_gif", '"serve_gif" .?not found'),
        (lambda jpegs: {"images": jpegs}, "serve_jpeg", "frames"),
    ],
)
def test_bad_requests_are_told_and_the_next_is_answered(
    change, signature, message, client, served, jpegs
):
    with pytest.raises(ServingError, match=message) as error:
        client.predict(change(jpegs.copy()), signature)
    assert "\n" not in str(error.value) and client.server in str(error.value)
    answer = client.predict({"frames": jpegs}, "serve_jpeg")
    np.testing.assert_allclose(answer["logits"], served.logits, atol=1e-3)


def test_no_clips_are_no_request(client, jpegs):
    with pytest.raises(ValueError, match="one clip or more. Received"):
        client.predict({"frames": jpegs[:0]}, "serve_jpeg")
    with pytest.raises(ServingError, match="refused the request"):
        client._predict({"frames": jpegs[:0]}, "serve_jpeg")
    assert len(client.predict({"frames": jpegs[:1]}, "serve_jpeg")["logits"]) == 1


@pytest.mark.parametrize(
    "body, message",
    [
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"instances": [', "JSON Parse error"),
        (b"[]", "Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [["a"], ["a", "b"]]}', "not of expected type: uint8|level: 1"),
        (b'{"signature_name": "serve_jpeg", "inputs": [[{"b64": "?"}]]}', "base64"),
    ],
)
def test_malformed_json(body, message, served):
    answer = requests.post(f"{served.server.rest}/v1/models/tiny:predict", data=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert any(part in error for part in message.split("|"))


def test_row_format_answers_in_rows(served, jpegs):
    """What the documentation of TF Serving begins with; curl users send it."""
    frames = [{"b64": base64.b64encode(jpeg).decode()} for jpeg in jpegs[2]]
    url = f"{served.server.rest}/v1/models/tiny:predict"
    for row in (frames, {"frames": frames}):
        request = {"signature_name": "serve_jpeg", "instances": [row]}
        [prediction] = requests.post(url, json=request).json()["predictions"]
        assert set(prediction) == {"logits", "probabilities"}
        np.testing.assert_allclose(prediction["logits"], served.logits[2], atol=1e-3)


def test_answer_must_be_of_this_export(client, served):
    other = replace(served.exported, class_names=["a", "b"])
    inputs = video_inputs(served.videos[0], other)
    with pytest.raises(ServingError, match=r"shape \(1, 7\), but .* names 2 classes"):
        request_logits(client, other, inputs, "serve_jpeg")


def test_slow_answers_are_late(served, jpegs, monkeypatch):
    monkeypatch.setattr(served.server.model, "delay", 2.0)
    for interface in INTERFACES:
        address = getattr(served.server, interface)
        with connect(address, "tiny", timeout=0.2) as client:
            with pytest.raises(ServingError, match="did not answer within 0.2 s"):
                client.predict({"frames": jpegs}, "serve_jpeg")
            assert client.versions() == {1: VersionState("AVAILABLE")}


def test_model_that_is_not_there(served, jpegs):
    for interface in INTERFACES:
        address = getattr(served.server, interface)
        with connect(address, "other") as client:
            assert client.versions() == {}
            with pytest.raises(ServingError, match="no model 'other' that is ready"):
                client.predict({"frames": jpegs}, "serve_jpeg")
            with pytest.raises(InputError, match="`--name`: .* no model 'other'"):
                check_ready(client, "serve_jpeg", 4)
        with connect(address, "tiny", version=7) as client:
            with pytest.raises(ServingError, match="no model 'tiny', version 7"):
                client.predict({"frames": jpegs}, "serve_jpeg")
            with pytest.raises(InputError, match="not have version 7 .*, but 1"):
                check_ready(client, "serve_jpeg", 4)


def test_model_that_is_not_ready(client, served, jpegs, monkeypatch):
    monkeypatch.setattr(served.server.model, "state", "LOADING")
    with pytest.raises(InputError, match="not ready: version 1 is LOADING; wait"):
        check_ready(client, "serve_jpeg", 4)
    with pytest.raises(ServingError, match="no model 'tiny' that is ready"):
        client.predict({"frames": jpegs}, "serve_jpeg")
    monkeypatch.setattr(served.server.model, "state", "END")
    monkeypatch.setattr(served.server.model, "message", "out of memory")
    with pytest.raises(InputError, match=r"version 1 is END \(out of memory\)"):
        check_ready(client, "serve_jpeg", 4)


def test_ready_for_the_export_at_hand(client):
    check_ready(client, "serve_jpeg", 4)
    with pytest.raises(InputError, match="it has: .*serve_jpeg, serving_default"):
        check_ready(client, "serve_gif", 4)


class _Told(ServingClient):
    """A client that needs no server."""

    def __init__(self, versions, shape):
        super().__init__("http://x:8501", "tiny", None, 1.0)
        self._versions, self._shape = versions, shape

    def versions(self):
        return self._versions

    def signatures(self):
        return {"serve_jpeg": {"frames": self._shape}}

    def _predict(self, inputs, signature):
        raise NotImplementedError

    def close(self):
        raise NotImplementedError


def test_clips_of_another_length_are_noticed_before_they_are_sent():
    ready = {1: VersionState("AVAILABLE")}
    for shape in ((-1, 4), (-1, -1), (-1,)):
        check_ready(_Told(ready, shape), "serve_jpeg", 4)
    with pytest.raises(InputError, match="takes 8 frames per clip, .* `--export` 4"):
        check_ready(_Told(ready, (-1, 8)), "serve_jpeg", 4)


def test_one_version_that_is_ready_is_enough():
    states = {1: VersionState("AVAILABLE"), 2: VersionState("LOADING")}
    check_ready(_Told(states, (-1, 4)), "serve_jpeg", 4)
