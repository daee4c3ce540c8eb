"""A local S3 server, a proxy that cuts connections, and processes that use them.

TensorFlow's S3 client reads its settings once per process and may abort a process that
ends normally. So whatever uses it runs in a child process that ends with `os._exit`.
"""

import contextlib
import logging
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from tsi_keras.data.worker_processes import process_context

BUCKET = "data"

# Why S3 cannot be used here, if it cannot.
WHY_NOT = ""
if find_spec("tensorflow_io") is None:
    WHY_NOT = "tensorflow-io is not installed"
elif [*map(int, version("tensorflow").split(".")[:2])] > [2, 17]:
    WHY_NOT = "the native part of tensorflow-io loads up to TensorFlow 2.17"


@dataclass(frozen=True)
class Storage:
    """A running server behind a proxy.

    Attributes:
        client: boto3 client that talks to the server directly.
        proxy: what the tested code talks to.
        url: of the server itself.
    """

    client: Any
    proxy: "Proxy"
    url: str

    def settings(self, **changes: str) -> dict[str, str]:
        """Environment of a process that is to use the server through the proxy."""
        return {
            "S3_ENDPOINT": f"http://127.0.0.1:{self.proxy.port}",
            "S3_USE_HTTPS": "0",
            "S3_VERIFY_SSL": "0",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "1",  # our own retries are what is tested
            "TF_CPP_MIN_LOG_LEVEL": "3",
        } | changes

    def content(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by the rest of their names."""
        pages = self.client.get_paginator("list_objects_v2")
        keys = [
            item["Key"]
            for page in pages.paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
            for item in page.get("Contents", [])
        ]
        return {
            key.removeprefix(f"{prefix}/"): self.client.get_object(
                Bucket=BUCKET, Key=key
            )["Body"].read()
            for key in keys
        }

    def put(self, key: str, body: bytes) -> None:
        """Store an object that anyone may read over `http://`."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body, ACL="public-read")

    @contextlib.contextmanager
    def checking_credentials(self) -> Iterator[dict[str, str]]:
        """Let the server look at signatures; yields settings of a user that may."""
        import boto3
        import requests

        options = {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
        }
        iam = boto3.client("iam", **options)
        name = f"user{os.urandom(4).hex()}"
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        policy = (
            '{"Version": "2012-10-17", "Statement": '
            '[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        )
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
        requests.post(f"{self.url}/moto-api/reset-auth", data="0")
        try:
            yield {
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        finally:
            requests.post(f"{self.url}/moto-api/reset-auth", data="inf")


@contextlib.contextmanager
def storage() -> Iterator[Storage]:
    """A server with one empty bucket."""
    # Here and not above: child processes import this file and need none of them.
    import boto3
    import pytest
    import requests
    from moto.server import ThreadedMotoServer

    if WHY_NOT:
        pytest.skip(WHY_NOT)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    # All servers of a process have the same contents, those of other tests too.
    requests.post(f"{url}/moto-api/reset")
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    proxy = Proxy(port)
    try:
        yield Storage(client, proxy, url)
    finally:
        proxy.close()
        server.stop()


class Proxy:
    """Passes TCP connections on to a local port, and cuts them when told to.

    Attributes:
        cut: bytes after which one direction of a connection is cut; `None`: never.
        times: how often to cut; negative: always.
        fail_on: cut whatever carries these bytes.
        requests: HTTP requests seen so far.
    """

    def __init__(self, target: int):
        self.cut: int | None = None
        self.times = -1
        self.fail_on: bytes | None = None
        self.requests = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @contextlib.contextmanager
    def cutting(self, after: int, times: int = -1) -> Iterator[None]:
        """Cut connections after so many bytes."""
        self.cut, self.times = after, times
        try:
            yield
        finally:
            self.cut = None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for ends in ((near, far), (far, near)):
                    pump = threading.Thread(target=self._pump, args=ends, daemon=True)
                    pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                self.requests += data.count(b" HTTP/1.1\r\n")
                if self._cuts(passed) or (self.fail_on and self.fail_on in data):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cuts(self, passed: int) -> bool:
        if self.cut is None or passed <= self.cut or self.times == 0:
            return False
        self.times -= 1
        return True


def in_child(
    function: Callable[..., Any], settings: dict[str, str], *arguments: Any
) -> tuple[Any, str]:
    """Call a function of a module in a new process.

    Args:
        function: what it returns must be picklable; an exception fails the test.
        settings: environment variables.
        *arguments: for the function.

    Returns:
        What it returned, and what it and its own child processes wrote to stderr.
    """
    context = process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(sender, function, settings, arguments)
    )
    process.start()
    sender.close()
    try:
        value, output, failure = receiver.recv()
    except EOFError:
        process.join()
        message = f"the child process died, exit code {process.exitcode}"
        raise AssertionError(message) from None
    process.join()
    assert failure is None, failure
    return value, output


def _child(sender, function, settings, arguments) -> None:
    """Body of the child process."""
    from tsi_keras.data import remote

    os.environ.update(settings)
    remote._FIRST_PAUSE = 0.01
    value, failure = None, None
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            value = function(*arguments)
        except BaseException:
            failure = traceback.format_exc()
        sys.stderr.flush()
        output.seek(0)
        sender.send((value, output.read().decode(), failure))
    sender.close()
    os._exit(0)
