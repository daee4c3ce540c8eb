"""How TF Serving reads tensors from JSON and writes them, with its words for errors."""

import base64
import binascii
import json
from collections.abc import Iterator

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict

CODES = grpc.StatusCode
HTTP_STATUS = {
    CODES.INVALID_ARGUMENT: 400,
    CODES.FAILED_PRECONDITION: 400,
    CODES.NOT_FOUND: 404,
    CODES.UNAVAILABLE: 503,
    CODES.INTERNAL: 500,
}


class Refused(Exception):
    """What TF Serving would answer instead of a prediction."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


def json_object(body: bytes) -> dict:
    """The object that a request is."""
    try:
        request = json.loads(body)
    except ValueError as error:
        message = f"JSON Parse error: Invalid value. at offset: {error}"
        raise Refused(CODES.INVALID_ARGUMENT, message) from None
    if not isinstance(request, dict):
        message = f"JSON Value: {json.dumps(request)} Is not object"
        raise Refused(CODES.INVALID_ARGUMENT, message)
    return request


def rows(instances, infos) -> dict[str, np.ndarray]:
    """Inputs in the row format."""
    if not isinstance(instances, list):
        message = "Excepting 'instances' to be an list/array"
        raise Refused(CODES.INVALID_ARGUMENT, message)
    if not instances:
        raise Refused(CODES.INVALID_ARGUMENT, "No values in 'instances' array")
    if not _is_object(instances[0]):
        [name] = infos
        instances = [{name: row} for row in instances]
    for number, row in enumerate(instances):
        if not _is_object(row) or set(row) != set(infos):
            raise Refused(
                CODES.INVALID_ARGUMENT,
                f"Failed to process element: {number} of 'instances' list. JSON "
                f"object: {json.dumps(row)[:80]} keys must be equal to: "
                f"{','.join(infos)}",
            )
    return columns({key: [row[key] for row in instances] for key in infos}, infos)


def columns(inputs, infos) -> dict[str, np.ndarray]:
    """Inputs in the columnar format."""
    if not _is_object(inputs):
        [name] = infos
        inputs = {name: inputs}
    for name in infos:
        if name not in inputs:
            message = f"Missing named input: {name} in 'inputs' object."
            raise Refused(CODES.INVALID_ARGUMENT, message)
    return {
        name: _tensor(inputs[name], tf.as_dtype(info.dtype))
        for name, info in infos.items()
    }


def _is_object(value) -> bool:
    """An object that stands for named tensors, not for bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _tensor(value, dtype: tf.DType) -> np.ndarray:
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    leaves = list(_leaves(value, shape, 0, dtype))
    array = np.empty(len(leaves), dtype.as_numpy_dtype)
    array[:] = leaves
    return array.reshape(shape)


def _leaves(value, shape: list[int], level: int, dtype: tf.DType) -> Iterator:
    """Numbers or bytes of nested lists that must all have one shape."""
    if level == len(shape):
        yield _leaf(value, dtype)
        return
    if not isinstance(value, list) or len(value) != shape[level]:
        size = len(value) if isinstance(value, list) else "no list"
        raise Refused(
            CODES.INVALID_ARGUMENT,
            f"Encountered list at unexpected size: {size} at level: {level} expected "
            f"size: {shape[level]}",
        )
    for each in value:
        yield from _leaves(each, shape, level + 1, dtype)


def _leaf(value, dtype: tf.DType):
    if dtype == tf.string and isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            message = "Unable to base64 decode"
            raise Refused(CODES.INVALID_ARGUMENT, message) from None
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype != tf.string and type(value) is int:
        return value
    raise Refused(
        CODES.INVALID_ARGUMENT,
        f"JSON Value: {json.dumps(value)[:80]} Type: {type(value).__name__} is not of "
        f"expected type: {dtype.name}",
    )


def row_list(outputs: dict[str, np.ndarray]) -> list:
    """Outputs in the row format; a single one without its name."""
    if len(outputs) == 1:
        return next(iter(outputs.values())).tolist()
    rows = zip(*(value.tolist() for value in outputs.values()), strict=True)
    return [dict(zip(outputs, row, strict=True)) for row in rows]


def as_dict(message) -> dict:
    """A message as TF Serving writes it, fields without a value included."""
    return MessageToDict(
        message, preserving_proto_field_name=True, including_default_value_fields=True
    )
