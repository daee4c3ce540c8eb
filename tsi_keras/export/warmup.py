"""Requests that TF Serving sends to a model before it serves it.

The first request of a signature takes seconds, for TensorFlow prepares the graph then.
A server replays `assets.extra/tf_serving_warmup_requests` while it loads a version.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.records import FRAMES
from tsi_keras.export.parity_clips import EvaluationFrames
from tsi_keras.export.serving_files import MAX_BATCH
from tsi_keras.utils.errors import InputError

# Where TF Serving looks; it replays up to 1000 records.
WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")

# Clips per request, by signature and input. Pixels are large (1.2 MB a clip of 8 frames
# of 224x224), and the network has met the larger batch in the other signatures.
_REQUESTS = (
    ("serving_default", "frames", (1,)),
    ("serve_jpeg", "frames", (1, MAX_BATCH)),
    ("serve_example", "examples", (1, MAX_BATCH)),
)


def check_warmup() -> None:
    """Refuse warm-up requests that cannot be written.

    Raises:
        InputError: tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Warm-up requests are messages of tensorflow-serving-api, which is not "
            "installed; pip install 'tsi_keras[serving]', or add --no-warmup to export "
            "without them (the server's first requests are then slow)."
        ) from error


def plain_clips(options: ClipOptions) -> list[list[bytes]]:
    """One clip of grey frames, for an export without data at hand."""
    size = (options.short_side, options.short_side * 4 // 3, 3)
    jpeg = tf.io.encode_jpeg(tf.fill(size, tf.constant(128, tf.uint8))).numpy()
    return [[jpeg] * options.num_frames]


def write_warmup(
    version_folder: str | Path,
    name: str,
    jpegs: list[list[bytes]],
    options: ClipOptions,
) -> int:
    """Write the warm-up requests of a SavedModel: 5 records, for all three signatures.

    Args:
        version_folder: the SavedModel.
        name: of the model on the server.
        jpegs: per clip a list of T JPEG files, at least one clip; repeated where a
            request wants more.
        options: clip length and sizes.

    Returns:
        The number of records.

    Raises:
        InputError: tensorflow-serving-api is not installed.
    """
    check_warmup()
    from tensorflow_serving.apis import prediction_log_pb2

    path = Path(version_folder) / WARMUP_FILE
    path.parent.mkdir()
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, key, values in _requests(jpegs, options):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
            writer.write(log.SerializeToString())
            count += 1
    return count


def _requests(
    jpegs: list[list[bytes]], options: ClipOptions
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Signature, input and value of every request."""
    make = {
        "serving_default": lambda clip: next(iter(EvaluationFrames([clip], options))),
        "serve_jpeg": lambda clip: np.array(clip, object),
        "serve_example": _example,
    }
    for signature, key, sizes in _REQUESTS:
        for size in sizes:
            chosen = [jpegs[i % len(jpegs)] for i in range(size)]
            values = [make[signature](clip) for clip in chosen]
            # NumPy's own strings lose the zeros at their end.
            kind = object if isinstance(values[0], bytes) else None
            yield signature, key, np.array(values, kind)


def _example(jpegs: list[bytes]) -> bytes:
    """The least that `serve_example` takes: the frames."""
    example = tf.train.SequenceExample()
    steps = example.feature_lists.feature_list[FRAMES].feature
    for jpeg in jpegs:
        steps.add().bytes_list.value.append(jpeg)
    return example.SerializeToString()
