"""A stand-in for TF Serving on this machine's own address.

It answers REST and gRPC as TF Serving 2.17 does, errors included, and computes as it
does: the signatures of the SavedModel's meta graph run in a session, which checks no
shapes (those of Python, eager or not, do). It has no batching.

`python -m tests.export.serving_standin EXPORT --name NAME` runs it alone.
"""

import argparse
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.export.standin_json import CODES
from tests.export.standin_json import HTTP_STATUS
from tests.export.standin_json import Refused
from tests.export.standin_json import as_dict
from tests.export.standin_json import columns
from tests.export.standin_json import json_object
from tests.export.standin_json import row_list
from tests.export.standin_json import rows

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?")
_STATES = get_model_status_pb2.ModelVersionStatus.State


class Model:
    """One version of a model in a session.

    Attributes:
        state: as its status tells; anything but "AVAILABLE" is not served.
        message: of the status.
        delay: seconds to wait before every prediction.
        started: released once for every prediction that was asked for.
    """

    def __init__(self, folder: Path, name: str, delay: float = 0.0):
        self.name = name
        self.version = int(folder.name)
        self.state, self.message, self.delay = "AVAILABLE", "", delay
        self.started = threading.Semaphore(0)
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session()
            loaded = tf.compat.v1.saved_model.load(
                self._session, ["serve"], str(folder)
            )
        self.signatures = loaded.signature_def
        self._session._extend_graph()

    def close(self) -> None:
        self._session.close()

    def require(self, name: str, version: int | None) -> None:
        """Refuse requests that are for another model, or come too early."""
        known = name == self.name and version in (None, self.version)
        if not known or self.state != "AVAILABLE":
            which = (
                f"Latest({name})" if version is None else f"Specific({name}, {version})"
            )
            raise Refused(CODES.NOT_FOUND, f"Servable not found for request: {which}")

    def status(self, name: str, version: int | None):
        """`GetModelStatusResponse`."""
        if name != self.name:
            message = f"Could not find any versions of model {name}"
            raise Refused(CODES.NOT_FOUND, message)
        if version not in (None, self.version):
            message = f"Could not find version {version} of model {name}"
            raise Refused(CODES.NOT_FOUND, message)
        answer = get_model_status_pb2.GetModelStatusResponse()
        entry = answer.model_version_status.add()
        entry.version, entry.state = self.version, _STATES.Value(self.state)
        entry.status.error_message = self.message
        return answer

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Run a signature that there is, on inputs of any shape."""
        self.started.release()
        time.sleep(self.delay)
        definition = self.signatures[signature]
        if set(inputs) != set(definition.inputs):
            raise Refused(
                CODES.INVALID_ARGUMENT,
                f"input size does not match signature: {len(inputs)}!="
                f"{len(definition.inputs)} len({{{','.join(sorted(inputs))}}}) != "
                f"len({{{','.join(sorted(definition.inputs))}}}).",
            )
        names = sorted(definition.outputs)
        feeds = {
            self._tensor(definition.inputs[name]): value
            for name, value in inputs.items()
        }
        fetches = [self._tensor(definition.outputs[name]) for name in names]
        try:
            # As the C++ server does; `Session.run` would check the shapes first.
            values = self._session._call_tf_sessionrun(None, feeds, fetches, [], None)
        except tf.errors.OpError as error:
            code = next(c for c in CODES if c.value[0] == error.error_code)
            raise Refused(code, str(error.message)) from None
        return dict(zip(names, values, strict=True))

    def _tensor(self, info):
        return self._graph.get_tensor_by_name(info.name)._as_tf_output()


class Standin:
    """A running server.

    Attributes:
        model: what it serves.
        rest: address for REST.
        grpc: address for gRPC.
    """

    def __init__(self, folder: Path, name: str = "tiny", delay: float = 0.0):
        self.model = Model(folder, name, delay)
        self._http = _HttpServer(("127.0.0.1", 0), _handler(self.model))
        self._grpc = grpc.server(
            ThreadPoolExecutor(32),
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        _add_services(self._grpc, self.model)
        self.rest = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.grpc = f"grpc://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()
        self.model.close()


@contextlib.contextmanager
def standin(folder: Path, name: str = "tiny") -> Iterator[Standin]:
    """A server of the version folder of an export."""
    server = Standin(folder, name)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# REST


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address) -> None:
        """Clients may go away; that is for them to report."""


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self._answer(self.rfile.read(length))

        def log_message(self, *message) -> None:
            """Tests look at answers."""

        def _answer(self, body: bytes) -> None:
            try:
                status, answer = 200, rest_answer(model, self.command, self.path, body)
            except Refused as refused:
                status, answer = HTTP_STATUS[refused.code], {"error": refused.message}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def rest_answer(model: Model, method: str, path: str, body: bytes) -> dict:
    """The JSON object that answers a request.

    Raises:
        Refused: with the words of TF Serving.
    """
    match = _PATH.fullmatch(path)
    is_predict = match is not None and match[3] == ":predict"
    if match is None or is_predict != (method == "POST"):
        raise Refused(CODES.INVALID_ARGUMENT, f"Malformed request: {method} {path}")
    name, version = unquote(match[1]), match[2] and int(match[2])
    if is_predict:
        return _rest_prediction(model, name, version, body)
    if match[3]:
        return _rest_metadata(model, name, version)
    return as_dict(model.status(name, version))


def _rest_metadata(model: Model, name: str, version: int | None) -> dict:
    model.require(name, version)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, definition in model.signatures.items():
        signatures.signature_def[key].CopyFrom(definition)
    spec = {"name": name, "signature_name": "", "version": str(model.version)}
    return {"model_spec": spec, "metadata": {"signature_def": as_dict(signatures)}}


def _rest_prediction(model: Model, name: str, version: int | None, body: bytes) -> dict:
    request = json_object(body)
    model.require(name, version)
    signature = request.get("signature_name") or "serving_default"
    if signature not in model.signatures:
        raise Refused(
            CODES.INVALID_ARGUMENT,
            f'Serving signature name: "{signature}" not found in signature def',
        )
    infos = model.signatures[signature].inputs
    if "instances" in request and "inputs" in request:
        raise Refused(
            CODES.INVALID_ARGUMENT,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist",
        )
    if "instances" in request:
        outputs = model.predict(signature, rows(request["instances"], infos))
        return {"predictions": row_list(outputs)}
    if "inputs" not in request:
        raise Refused(CODES.INVALID_ARGUMENT, "Missing 'inputs' or 'instances' key")
    outputs = model.predict(signature, columns(request["inputs"], infos))
    lists = {key: value.tolist() for key, value in outputs.items()}
    return {"outputs": lists if len(lists) > 1 else next(iter(lists.values()))}


# gRPC


def _add_services(server: grpc.Server, model: Model) -> None:
    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        Predict = _method(model, _predict)
        GetModelMetadata = _method(model, _metadata)

    class Models(model_service_pb2_grpc.ModelServiceServicer):
        GetModelStatus = _method(model, _status)

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Prediction(), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)


def _method(model: Model, answer):
    """A method of a service; what is refused becomes its status."""

    def method(self, request, context):
        try:
            return answer(model, request)
        except Refused as refused:
            context.abort(refused.code, refused.message[:1024])

    return method


def _spec(request) -> tuple[str, int | None]:
    spec = request.model_spec
    return spec.name, spec.version.value if spec.HasField("version") else None


def _status(model: Model, request):
    return model.status(*_spec(request))


def _metadata(model: Model, request):
    model.require(*_spec(request))
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, definition in model.signatures.items():
        signatures.signature_def[key].CopyFrom(definition)
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name, answer.model_spec.version.value = model.name, model.version
    answer.metadata["signature_def"].Pack(signatures)
    return answer


def _predict(model: Model, request):
    model.require(*_spec(request))
    signature = request.model_spec.signature_name or "serving_default"
    if signature not in model.signatures:
        message = f'Serving signature key "{signature}" not found.'
        raise Refused(CODES.FAILED_PRECONDITION, message)
    inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
    answer = predict_pb2.PredictResponse()
    answer.model_spec.CopyFrom(request.model_spec)
    answer.model_spec.version.value = model.version
    for key, value in model.predict(signature, inputs).items():
        answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
    return answer


def main() -> None:
    """Print the addresses, then a line per prediction asked for, until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path, help="version folder of an export")
    parser.add_argument("--name", default="tiny", help="of the model")
    parser.add_argument("--delay", type=float, default=0.0, help="of answers, seconds")
    args = parser.parse_args()
    server = Standin(args.export, args.name, args.delay)
    server.start()
    print(server.rest, server.grpc, flush=True)
    while server.model.started.acquire():
        print("asked", flush=True)


if __name__ == "__main__":
    main()
