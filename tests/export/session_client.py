"""Run requests through the C++ loader; a program of its own that needs TensorFlow only.

Arguments: FOLDER REQUESTS ANSWERS. REQUESTS is a pickled list of (signature, input,
value); ANSWERS receives a dict of what the loaded graph says of itself and, for each
request, its outputs or the text of its error. Values are fed as a server feeds them,
past the checks of Python.
"""

import pickle
import sys

sys.modules["tsi_keras"] = sys.modules["keras"] = sys.modules["tensorflow_serving"] = (
    None
)
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

NAMES = ("serving_default", "serve_jpeg", "serve_example")


def main(folder: str, requests: str, answers: str) -> None:
    """Load, answer one request after the other in the same session, write."""
    with open(requests, "rb") as file:
        wanted = pickle.load(file)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        calls = {name: _call(session, graph.signature_def[name]) for name in NAMES}
        results = [_answer(calls, *request) for request in wanted]
        about = _description(graph)
    with open(answers, "wb") as file:
        pickle.dump({"about": about, "answers": results}, file)


def _call(session, signature):
    """A function from the value of the only input to the outputs."""
    keys = list(signature.outputs)
    options = config_pb2.CallableOptions(
        feed=[info.name for info in signature.inputs.values()],
        fetch=[signature.outputs[key].name for key in keys],
    )
    # `session.run` would check the shapes itself before C++ sees anything.
    call = session._make_callable_from_options(options)
    return lambda value: dict(zip(keys, call(value), strict=True))


def _answer(calls, name, key, value):
    """What the server would answer, or its error."""
    try:
        return calls[name](value)
    except tf.errors.OpError as error:
        return f"{type(error).__name__}: {error.message}"


def _description(graph):
    """Inputs and outputs of the signatures, and the assets."""
    specs = {
        f"{name} {kind} {key}": (
            tf.dtypes.as_dtype(info.dtype).name,
            [dimension.size for dimension in info.tensor_shape.dim],
        )
        for name in NAMES
        for kind in ("inputs", "outputs")
        for key, info in getattr(graph.signature_def[name], kind).items()
    }
    return {
        "specs": specs,
        "assets": sorted(asset.filename for asset in graph.asset_file_def),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
