"""Servers that are not there, are something else or go away; what cannot be asked."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tsi_keras.export.serving_client import ServingError
from tsi_keras.export.serving_client import check_ready
from tsi_keras.export.serving_client import connect
from tsi_keras.utils.errors import InputError


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


@pytest.mark.parametrize(
    "body", [b"{}", b'{"model_version_status": "fine", "outputs": [1]}']
)
def test_answers_of_another_service(body, jpegs):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _answering(head + body) as address, connect(address, "tiny") as client:
        for ask in (
            client.versions,
            client.signatures,
            lambda: client.predict({"frames": jpegs}, "serve_jpeg"),
        ):
            with pytest.raises(ServingError, match="unexpected answer {"):
                ask()


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
        ("a", float("inf"), "`--timeout` must be a finite number"),
    ],
)
def test_impossible_arguments(name, timeout, message):
    with pytest.raises(InputError, match=message):
        connect("http://localhost:8501", name, timeout=timeout)


# TensorFlow's batching says it in one of these ways, by its version.
FULL_QUEUES = [
    "The batch scheduling queue to which this task was submitted is full",
    "The batch scheduling queue to which this task was submitted is full; task size is "
    "1 but scheduling capacity is only 0 (max_enqueued_batches=2)",
]


@pytest.mark.parametrize("message", FULL_QUEUES)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_full_queue_over_grpc(code, message, jpegs):
    grpc = pytest.importorskip("grpc")

    def refuse(request, context):
        context.abort(grpc.StatusCode[code], message)

    class Refusing(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Refusing()])
    address = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with connect(address, "tiny") as client:
            with pytest.raises(ServingError) as caught:
                client.predict({"frames": jpegs}, "serve_jpeg")
    finally:
        server.stop(None)
    _check_overloaded(str(caught.value), address)


def test_full_queue_over_rest(jpegs):
    body = json.dumps({"error": FULL_QUEUES[0]}).encode()
    head = b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _answering(head + body) as address, connect(address, "tiny") as client:
        with pytest.raises(ServingError) as caught:
            client.predict({"frames": jpegs}, "serve_jpeg")
    _check_overloaded(str(caught.value), address)


def _check_overloaded(message: str, address: str) -> None:
    assert message.startswith(f"{address} is overloaded, its batching queue is full; ")
    assert "try again later, or raise max_enqueued_batches" in message
    assert FULL_QUEUES[0] in message


def test_grpc_needs_a_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "tsi_keras.export.serving_grpc", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"pip install 'tsi_keras\[serving\]'"):
        connect("grpc://localhost:8500", "tiny")
