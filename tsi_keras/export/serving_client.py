"""Ask a running TF Serving: the same questions over REST and over gRPC."""

import abc
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from tsi_keras.evaluation.tensorflow_errors import bare_message
from tsi_keras.utils.errors import InputError

AVAILABLE = "AVAILABLE"
_SCHEMES = ("http", "https", "grpc")
# TF Serving has no status of its own for it.
_FULL_QUEUE = re.compile(r"queue\b.*\bis full")


class ServingError(RuntimeError):
    """The server gave no usable answer; the message is one line that says why."""


@dataclass(frozen=True)
class VersionState:
    """What a server says about one version of a model.

    Attributes:
        state: `"AVAILABLE"`, or `"START"`, `"LOADING"`, `"UNLOADING"`, `"END"`.
        message: why it failed, or empty.
    """

    state: str
    message: str = ""


class ServingClient(abc.ABC):
    """One connection to the predictions of one model; get one from `connect`.

    Attributes:
        server: address, as it was given.
        name: of the model.
        version: of the model; None for the one the server prefers, the highest.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, server: str, name: str, version: int | None, timeout: float):
        self.server = server
        self.name = name
        self.version = version
        self.timeout = timeout

    def __enter__(self) -> "ServingClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def predict(
        self, inputs: Mapping[str, np.ndarray], signature: str
    ) -> dict[str, np.ndarray]:
        """Run a signature of the model.

        Args:
            inputs: by name arrays of N rows, N at least 1: uint8 pixels, or bytes in
                object arrays.
            signature: its name.

        Returns:
            The outputs by name, `(N, ...)` each.

        Raises:
            ValueError: there are no rows.
            ServingError: the server cannot be reached, refuses, does not answer in
                time, or answers for another number of rows.
        """
        rows = {len(value) for value in inputs.values()}
        if rows in (set(), {0}):
            raise ValueError(
                f"`inputs` must hold one clip or more. Received: {dict(inputs)}"
            )
        outputs = self._predict(inputs, signature)
        for name, value in outputs.items():
            # Some graphs fold rows of a wrong length into fewer rows of the right one.
            if value.shape[:1] != (max(rows),):
                raise ServingError(
                    f"{self.server} answered with {name!r} of shape {value.shape} to "
                    f"a request of {max(rows)} clips"
                )
        return outputs

    @abc.abstractmethod
    def _predict(
        self, inputs: Mapping[str, np.ndarray], signature: str
    ) -> dict[str, np.ndarray]:
        """`predict` without its checks."""

    @abc.abstractmethod
    def versions(self) -> dict[int, VersionState]:
        """The versions of the model the server knows of; none for an unknown model.

        Raises:
            ServingError: the server cannot be reached or does not answer in time.
        """

    @abc.abstractmethod
    def signatures(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of the inputs by name, by signature; -1 for any length.

        Raises:
            ServingError: as `versions`, or no version is ready.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def _failure(self, kind: str, message: str = "") -> ServingError:
        """The error of a kind, in the words all clients use."""
        if kind in ("broken", "refused") and _FULL_QUEUE.search(message):
            kind = "overloaded"
        model = f"model {self.name!r}"
        if self.version is not None:
            model += f", version {self.version}"
        said = f": {bare_message(message)}" if message else ""
        return ServingError(
            {
                "unreachable": f"{self.server} cannot be reached{said}",
                "broken": f"{self.server} broke the connection off{said}",
                "overloaded": f"{self.server} is overloaded, its batching queue is full; "
                "try again later, or raise max_enqueued_batches in its batching "
                f"parameters{said}",
                "late": f"{self.server} did not answer within {self.timeout:g} s",
                "unknown": f"{self.server} has no {model} that is ready{said}",
                "refused": f"{self.server} refused the request{said}",
                "strange": f"{self.server} does not answer as TF Serving does{said}",
            }[kind]
        )


def connect(
    server: str, name: str, *, version: int | None = None, timeout: float = 30.0
) -> ServingClient:
    """Return a client; nothing is sent yet.

    Args:
        server: `http://HOST:8501` (or `https://`) for REST, `grpc://HOST:8500`.
        name: of the model on the server.
        version: of the model; None for the one the server prefers.
        timeout: seconds to wait for an answer, finite; over REST for each part of it.

    Returns:
        A client to be closed, best by `with`. It may be used by one thread at a time.

    Raises:
        InputError: an argument cannot be used, or tensorflow-serving-api is missing.

    Example:
        ```python
        with connect("grpc://localhost:8500", "mine") as client:
            answer = client.predict({"frames": jpegs}, "serve_jpeg")
            print(answer["probabilities"])
        ```
    """
    scheme = check_server_address(server)
    if not name or "/" in name or ":" in name:
        raise InputError(
            f"`--name` must be that of a model, without '/' and ':'. Received: {name!r}"
        )
    if not (timeout > 0 and math.isfinite(timeout)):
        raise InputError(
            f"`--timeout` must be a finite number above 0 seconds. Received: {timeout}"
        )
    if scheme == "grpc":
        return _grpc_client()(server, name, version, timeout)
    from tsi_keras.export.serving_rest import RestClient

    return RestClient(server, name, version, timeout)


def _grpc_client() -> type[ServingClient]:
    """The client that needs packages of its own."""
    try:
        from tsi_keras.export.serving_grpc import GrpcClient
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("grpc", "tensorflow_serving"):
            raise
        raise InputError(
            "`--server` grpc:// needs tensorflow-serving-api: pip install "
            "'tsi_keras[serving]', or use the REST port with http://."
        ) from error
    return GrpcClient


def check_server_address(server: str) -> str:
    """Return the scheme of an address.

    Raises:
        InputError: it is no address of a TF Serving.
    """
    try:
        parts = urlsplit(server)
        complete = bool(parts.hostname) and parts.scheme in _SCHEMES
        if complete and parts.scheme == "grpc":
            complete = parts.port is not None and parts.path in ("", "/")
    except ValueError:
        complete = False
    if not complete:
        raise InputError(
            "`--server` must be http://HOST:8501 or https:// for REST, or "
            f"grpc://HOST:8500. Received: {server!r}"
        )
    return parts.scheme


def check_ready(client: ServingClient, signature: str, num_frames: int) -> None:
    """Ask the server whether it can answer, before any video is decoded.

    Args:
        client: of the model.
        signature: to be used.
        num_frames: per clip, as the export at hand says.

    Raises:
        InputError: the server cannot be reached, the model is unknown or not ready,
            has no such signature, or takes clips of another length.
    """
    try:
        _check_versions(client)
        known = client.signatures()
    except ServingError as error:
        raise InputError(
            f"`--server`: {error}; is TF Serving running there, and is the port its "
            "REST port (8501) for http://, its gRPC port (8500) for grpc://?"
        ) from error
    if signature not in known:
        names = ", ".join(sorted(name for name in known if name[:2] != "__"))
        raise InputError(
            f"`--signature` {signature} is none of model {client.name!r} on "
            f"{client.server}; it has: {names}."
        )
    for shape in known[signature].values():
        if len(shape) > 1 and shape[1] not in (-1, num_frames):
            raise InputError(
                f"Model {client.name!r} on {client.server} takes {shape[1]} frames per "
                f"clip, the one at `--export` {num_frames}; give the export the server "
                "was started with."
            )


def _check_versions(client: ServingClient) -> None:
    """Whether a version can answer that the client would ask."""
    states = client.versions()
    if not states:
        raise InputError(
            f"`--name`: {client.server} has no model {client.name!r}; it is what "
            "--model_name or the model configuration of the server says."
        )
    if client.version is not None and client.version not in states:
        raise InputError(
            f"`--version`: {client.server} does not have version {client.version} of "
            f"model {client.name!r}, but {', '.join(map(str, sorted(states)))}."
        )
    wanted = {
        number: state
        for number, state in states.items()
        if client.version in (None, number)
    }
    if not any(state.state == AVAILABLE for state in wanted.values()):
        found = "; ".join(
            f"version {number} is {state.state}"
            + (f" ({bare_message(state.message)})" if state.message else "")
            for number, state in sorted(wanted.items())
        )
        raise InputError(
            f"`--server`: model {client.name!r} on {client.server} is not ready: "
            f"{found}; wait until it is loaded, or see the log of the server."
        )
