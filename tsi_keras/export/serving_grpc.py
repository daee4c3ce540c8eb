"""The gRPC interface of TF Serving."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tsi_keras.export.serving_client import ServingClient
from tsi_keras.export.serving_client import VersionState

_CODES = grpc.StatusCode
_SIGNATURES = "signature_def"
_OPTIONS = [
    # Frames are large: gRPC's own limit is 4 MB for what is received.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Clients of one process would share one connection otherwise.
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcClient(ServingClient):
    """`ServingClient` over gRPC."""

    def __init__(self, server: str, name: str, version: int | None, timeout: float):
        super().__init__(server, name, version, timeout)
        target = server.partition("://")[2].rstrip("/")
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def versions(self) -> dict[int, VersionState]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.name
        try:
            answer = self._models.GetModelStatus(request, timeout=self.timeout)
        except grpc.RpcError as error:
            if error.code() == _CODES.NOT_FOUND:
                return {}
            raise self._failure(*_kind(error)) from error
        states = get_model_status_pb2.ModelVersionStatus.State
        return {
            entry.version: VersionState(
                states.Name(entry.state), entry.status.error_message
            )
            for entry in answer.model_version_status
        }

    def signatures(self) -> dict[str, dict[str, tuple[int, ...]]]:
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        self._fill(request.model_spec)
        request.metadata_field.append(_SIGNATURES)
        answer = self._call(self._prediction.GetModelMetadata, request)
        known = get_model_metadata_pb2.SignatureDefMap()
        if not answer.metadata[_SIGNATURES].Unpack(known):
            raise self._failure("strange", "no signatures in its answer")
        return {
            name: {key: _shape(info) for key, info in signature.inputs.items()}
            for name, signature in known.signature_def.items()
        }

    def _predict(
        self, inputs: Mapping[str, np.ndarray], signature: str
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        answer = self._call(self._prediction.Predict, request)
        return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}

    def _fill(self, model_spec: Any) -> None:
        """Say which model is meant."""
        model_spec.name = self.name
        if self.version is not None:
            model_spec.version.value = self.version

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        """The answer of a method."""
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._failure(*_kind(error)) from error


def _shape(info: Any) -> tuple[int, ...]:
    """Of a tensor as the metadata describes it."""
    return tuple(dimension.size for dimension in info.tensor_shape.dim)


def _kind(error: grpc.RpcError) -> tuple[str, str]:
    """Kind of a failure (see `ServingClient._failure`) and what is known of it."""
    code, message = error.code(), error.details() or error.code().name
    if code == _CODES.UNAVAILABLE:
        never = "failed to connect" in message or "resolving" in message
        message = message.rpartition("last error: ")[2]
        return "unreachable" if never else "broken", message
    kinds = {_CODES.NOT_FOUND: "unknown", _CODES.DEADLINE_EXCEEDED: "late"}
    return kinds.get(code, "refused"), message
