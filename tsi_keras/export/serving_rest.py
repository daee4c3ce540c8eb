"""The REST interface of TF Serving.

Reference:
    [TF Serving's RESTful API](https://www.tensorflow.org/tfx/serving/api_rest).
"""

import base64
import json
from collections.abc import Callable
from collections.abc import Mapping
from http.client import BadStatusLine
from typing import Any
from typing import TypeVar
from urllib.parse import quote

import numpy as np
import requests

from tsi_keras.export.serving_client import ServingClient
from tsi_keras.export.serving_client import VersionState

T = TypeVar("T")
_NOT_FOUND, _GATEWAY_TIMEOUT = 404, 504


class RestClient(ServingClient):
    """`ServingClient` over HTTP with JSON; keeps its connection open."""

    def __init__(self, server: str, name: str, version: int | None, timeout: float):
        super().__init__(server, name, version, timeout)
        self._session = requests.Session()
        self._url = f"{server.rstrip('/')}/v1/models/{quote(name, safe='')}"
        if version is not None:
            self._url += f"/versions/{version}"

    def close(self) -> None:
        self._session.close()

    def versions(self) -> dict[int, VersionState]:
        # Of all versions, so that an error can tell which there are.
        url = self._url.removesuffix(f"/versions/{self.version}")
        status, answer = self._ask("GET", url)
        if status == _NOT_FOUND:
            return {}
        self._check(status, answer)
        return self._read(_versions, answer)

    def signatures(self) -> dict[str, dict[str, tuple[int, ...]]]:
        status, answer = self._ask("GET", f"{self._url}/metadata")
        self._check(status, answer)
        return self._read(_signatures, answer)

    def _predict(
        self, inputs: Mapping[str, np.ndarray], signature: str
    ) -> dict[str, np.ndarray]:
        body = predict_body(inputs, signature)
        status, answer = self._ask("POST", f"{self._url}:predict", body)
        self._check(status, answer)
        return self._read(_outputs, answer)

    def _ask(
        self, method: str, url: str, body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer."""
        try:
            answer = self._session.request(
                method,
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self.timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._failure(*_kind(error)) from error
        try:
            # Python's reader takes NaN and Infinity, as TF Serving writes them.
            found = json.loads(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            message = f"HTTP {answer.status_code} without a JSON object"
            raise self._failure("strange", message)
        return answer.status_code, found

    def _read(self, part: Callable[[dict[str, Any]], T], answer: dict[str, Any]) -> T:
        """A part of an answer; what is not there raises a `ServingError`."""
        try:
            return part(answer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            start = f"{json.dumps(answer):.80}"
            raise self._failure("strange", f"unexpected answer {start}") from error

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        """Raise the error of an answer, if it is one."""
        if status == requests.codes.ok:
            return
        message = str(answer.get("error", f"HTTP {status}"))
        kinds = {_NOT_FOUND: "unknown", _GATEWAY_TIMEOUT: "late"}
        raise self._failure(kinds.get(status, "refused"), message)


def predict_body(inputs: Mapping[str, np.ndarray], signature: str) -> bytes:
    """Return what is posted to `.../models/NAME:predict`.

    Args:
        inputs: by name; bytes become `{"b64": "..."}`.
        signature: its name.

    Returns:
        JSON in the columnar format, UTF-8.
    """
    columns = {
        name: _base64(value.tolist()) if value.dtype == object else value.tolist()
        for name, value in inputs.items()
    }
    request = {"signature_name": signature, "inputs": columns}
    return json.dumps(request, separators=(",", ":")).encode()


def _base64(value: list[Any] | bytes) -> list[Any] | dict[str, str]:
    """Nested lists of bytes in the form TF Serving reads."""
    if isinstance(value, list):
        return [_base64(each) for each in value]
    return {"b64": base64.b64encode(value).decode("ascii")}


def _versions(answer: dict[str, Any]) -> dict[int, VersionState]:
    """What the status of a model says."""
    return {
        int(entry["version"]): VersionState(
            str(entry["state"]), entry.get("status", {}).get("error_message", "")
        )
        for entry in answer["model_version_status"]
    }


def _signatures(answer: dict[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """What the metadata of a model says."""
    # Once as the name of the field of metadata, once as that of the map in it.
    known = answer["metadata"]["signature_def"]["signature_def"]
    return {
        name: {key: _shape(info) for key, info in signature["inputs"].items()}
        for name, signature in known.items()
    }


def _outputs(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a prediction says."""
    return {
        key: np.array(value, np.float32) for key, value in answer["outputs"].items()
    }


def _shape(info: dict[str, Any]) -> tuple[int, ...]:
    """Of a tensor as the metadata describes it."""
    shape = info.get("tensor_shape", {})
    return tuple(int(dimension["size"]) for dimension in shape.get("dim", []))


def _kind(error: requests.RequestException) -> tuple[str, str]:
    """Kind of a failure (see `ServingClient._failure`) and what is known of it."""
    causes = _causes(error)
    names = {type(cause).__name__ for cause in causes}
    last = str(getattr(causes[-1], "strerror", None) or causes[-1])
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "unreachable", "no connection in time"
    if isinstance(error, requests.Timeout) or "TimeoutError" in names:
        return "late", ""
    if names & {"NewConnectionError", "NameResolutionError", "ProxyError"}:
        return "unreachable", last
    if type(causes[-1]) is BadStatusLine:
        return "strange", "it does not speak HTTP"
    return "broken", last


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error, what led to it, what led to that, and so on."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        # Both libraries wrap errors in errors: as an argument, a reason or a cause.
        candidates = (*error.args, getattr(error, "reason", None), error.__cause__)
        inside = [each for each in candidates if isinstance(each, BaseException)]
        error = inside[0] if inside else None
    return found
