"""Clients of TF Serving: the scores of the evaluation, and errors that say what to do."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import requests
import tensorflow as tf

from tsi_keras.data.pipeline import make_dataset
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


@pytest.fixture
def jpegs(served):
    """One clip of every video, bytes (NUM_VIDEOS, T)."""
    rows = [video_inputs(path, served.exported)["frames"] for path in served.videos]
    return np.concatenate(rows)


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
    assert signatures["serve_jpeg"] == {"frames": (-1, 4)}
    assert signatures["serving_default"] == {"frames": (-1, 4, -1, -1, 3)}


def _broken(jpegs):
    jpegs[1, 2] = b"this is no image"
    return {"frames": jpegs}


def _cut_off(jpegs):
    jpegs[0, 1] = jpegs[0, 1][:200]
    return {"frames": jpegs}


@pytest.mark.parametrize(
    "change, signature, message",
    [
        (_broken, "serve_jpeg", "Unknown image file format|[Nn]o(t a)? JPEG"),
        (_cut_off, "serve_jpeg", "Invalid JPEG data"),
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
    with pytest.raises(InputError, match="takes 4 frames per clip, .* `--export` 8"):
        check_ready(client, "serve_jpeg", 8)
    with pytest.raises(InputError, match="it has: .*serve_jpeg, serving_default"):
        check_ready(client, "serve_gif", 4)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for scheme in ("http", "grpc"):
        with connect(f"{scheme}://127.0.0.1:{port}", "tiny", timeout=20) as client:
            with pytest.raises(ServingError, match="cannot be reached: .*refused"):
                client.versions()
            with pytest.raises(InputError, match=r"is the port its REST port \(8501\)"):
                check_ready(client, "serve_jpeg", 4)


def test_the_other_port(served):
    rest, grpc = served.server.rest, served.server.grpc
    with connect(grpc.replace("grpc:", "http:"), "tiny", timeout=20) as client:
        with pytest.raises(InputError, match="not answer as TF Serving .* REST port"):
            check_ready(client, "serve_jpeg", 4)
    with connect(rest.replace("http:", "grpc:"), "tiny", timeout=20) as client:
        with pytest.raises(InputError, match="`--server`: .* gRPC port"):
            check_ready(client, "serve_jpeg", 4)


def test_another_web_server():
    """Something that answers, but not as TF Serving does."""
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as address:
        with connect(address, "tiny") as client:
            with pytest.raises(ServingError, match="HTTP 200 without a JSON object"):
                client.versions()
    body = b'{"model_version_status": "fine"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _answering(head + body) as address, connect(address, "tiny") as client:
        with pytest.raises(ServingError, match="no model status in its answer"):
            client.versions()


class _answering:
    """A server that gives every connection the same bytes and closes it."""

    def __init__(self, answer: bytes):
        self._answer = answer

    def __enter__(self) -> str:
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *error) -> None:
        self._socket.close()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(self._answer)
        except OSError:
            return


def test_server_killed_in_the_middle_of_requests(served, jpegs, repository):
    command = [sys.executable, "-m", "tests.export.serving_standin", "--delay", "600"]
    process = subprocess.Popen(
        [*command, str(served.exported.folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    failures = {}

    def request(address):
        with connect(address, "tiny", timeout=300) as client:
            try:
                client.predict({"frames": jpegs}, "serve_jpeg")
            except ServingError as error:
                failures[address] = str(error)

    try:
        addresses = process.stdout.readline().split()
        threads = [threading.Thread(target=request, args=(a,)) for a in addresses]
        for thread in threads:
            thread.start()
        # One line for each request that has arrived.
        assert [process.stdout.readline() for _ in addresses] == ["asked\n"] * 2
        os.kill(process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(60)
    finally:
        process.kill()
        process.wait()
    assert len(failures) == 2
    for address, message in failures.items():
        assert message.startswith(f"{address} broke the connection off")


@pytest.mark.parametrize(
    "server",
    [
        "localhost:8501",
        "ftp://localhost",
        "http://",
        "grpc://localhost",
        "grpc://localhost:8500/v1",
        "grpc://localhost:port",
        "",
    ],
)
def test_addresses_of_no_server(server):
    with pytest.raises(InputError, match="`--server` must be http://HOST:8501"):
        connect(server, "tiny")


@pytest.mark.parametrize(
    "name, timeout, message",
    [
        ("", 1, "`--name`"),
        ("a/b", 1, "`--name`"),
        ("a", 0, "`--timeout`"),
        ("a", float("nan"), "`--timeout`"),
    ],
)
def test_impossible_arguments(name, timeout, message):
    with pytest.raises(InputError, match=message):
        connect("http://localhost:8501", name, timeout=timeout)


def test_grpc_needs_a_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "tsi_keras.export.serving_grpc", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"pip install 'tsi_keras\[serving\]'"):
        connect("grpc://localhost:8500", "tiny")
