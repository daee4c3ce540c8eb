"""Videos as requests to TF Serving, and its answers as predictions.

Frames are taken from a file as `pipelines.predict` takes them. What is sent as JPEG is,
byte for byte, what `pipelines.prepare` stores, so that the server's scores are those of
the evaluation of that video.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tsi_keras.data.annotations import VideoEntry
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import to_path
from tsi_keras.data.sampling import clip_indices
from tsi_keras.data.stored_video import RecordOptions
from tsi_keras.data.stored_video import StoredVideo
from tsi_keras.data.stored_video import store_video
from tsi_keras.evaluation.predict import read_clip
from tsi_keras.evaluation.predictions import Prediction
from tsi_keras.evaluation.predictions import best_classes
from tsi_keras.export.exported_model import ExportedModel
from tsi_keras.export.serving_client import ServingClient
from tsi_keras.export.serving_client import ServingError
from tsi_keras.export.serving_client import check_ready
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.urls import is_remote

# The signatures of an export, and what is sent to each.
SIGNATURES = {
    "serve_jpeg": "the JPEG files of the clip's frames",
    "serving_default": "the clip's pixels, cropped",
    "serve_example": "the whole record, a SequenceExample",
}

# What `pipelines.prepare` uses unless told otherwise.
JPEG_QUALITY = 90


def request_videos(
    client: ServingClient,
    exported: ExportedModel,
    paths: Iterable[str | Path],
    *,
    signature: str = "serve_jpeg",
    top_k: int = 5,
    quality: int = JPEG_QUALITY,
) -> list[Prediction]:
    """Classify video files by a running TF Serving, one request each.

    Args:
        client: of the model, see `serving_client.connect`.
        exported: of the same model, see `exported_model.read_exported`.
        paths: video files.
        signature: one of `SIGNATURES`.
        top_k: candidates per video, at most the number of classes.
        quality: of the JPEG frames, 1 to 100; that of the training's records.

    Returns:
        One prediction per path, in the same order; a video that cannot be decoded, or
        to which the server gave no usable answer, has an `error`.

    Raises:
        InputError: an argument is out of range, or the server or the model on it is not
            ready, not known or another one.

    Example:
        ```python
        exported = read_exported("saved_models/mine")
        with connect("http://localhost:8501", exported.name) as client:
            for prediction in request_videos(client, exported, ["wave.mp4"]):
                print(prediction.path, prediction.candidates[0].label)
        ```
    """
    check_positive("--top-k", top_k)
    check_signature(signature)
    check_quality(quality)
    paths = [to_path(path) if is_remote(path) else Path(path) for path in paths]
    check_ready(client, signature, exported.options.num_frames)
    predictions = []
    with progress("videos") as bar:
        for path in bar.track(paths, description="requesting"):
            try:
                inputs = video_inputs(path, exported, signature, quality=quality)
                logits = request_logits(client, exported, inputs, signature)
            except VideoError as error:
                predictions.append(Prediction(path, error=error.reason))
            except ServingError as error:
                predictions.append(Prediction(path, error=str(error)))
            else:
                names = exported.class_names
                predictions.append(best_classes(path, logits[0], names, top_k))
    return predictions


def video_inputs(
    path: str | Path | RemotePath,
    exported: ExportedModel,
    signature: str = "serve_jpeg",
    *,
    quality: int = JPEG_QUALITY,
) -> dict[str, np.ndarray]:
    """Return what is sent to a signature for one video.

    Args:
        path: the video file.
        exported: of the model.
        signature: one of `SIGNATURES`.
        quality: of JPEG frames, 1 to 100.

    Returns:
        By name of the input one row: `frames`, JPEG bytes `(1, T)` or uint8
        `(1, T, S, S, 3)`, or `examples`, bytes `(1,)`.

    Raises:
        VideoError: the file cannot be decoded.
        InputError: there is no such signature, or `quality` is out of range.
    """
    check_signature(signature)
    path, options = to_path(path), exported.options
    if signature == "serving_default":
        return {"frames": read_clip(path, options, **exported.decoding)[None]}
    video = _stored(path, exported, quality)
    if signature == "serve_example":
        # Nobody looks at the id and the class, but they belong to a record.
        return {"examples": _bytes([video.record("request", 0, "")])}
    [chosen] = clip_indices(len(video.jpegs), options.num_frames, options.sampling)
    return {"frames": _bytes([[video.jpegs[i] for i in chosen]])}


def request_logits(
    client: ServingClient,
    exported: ExportedModel,
    inputs: dict[str, np.ndarray],
    signature: str,
) -> np.ndarray:
    """Return the model's scores of some clips.

    Args:
        client: of the model.
        exported: of the same model.
        inputs: N rows, see `video_inputs`.
        signature: they are for.

    Returns:
        float32 `(N, K)`.

    Raises:
        ServingError: see `ServingClient.predict`, or the answer has no scores of this
            export's K classes.
    """
    outputs = client.predict(inputs, signature)
    if "logits" not in outputs:
        raise ServingError(
            f"{client.server} answered with {', '.join(sorted(outputs)) or 'nothing'}; "
            f"a model of pipelines.export gives logits and probabilities"
        )
    logits, classes = outputs["logits"], len(exported.class_names)
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ServingError(
            f"{client.server} answered with scores of shape {logits.shape}, but "
            f"{exported.folder} names {classes} classes; it is not the export that "
            "is served"
        )
    return logits


def check_signature(signature: str) -> None:
    """Raise InputError unless videos can be sent to `signature`."""
    if signature not in SIGNATURES:
        raise InputError(
            f"`--signature` must be one of: {', '.join(SIGNATURES)}. "
            f"Received: {signature!r}"
        )


def check_quality(quality: int) -> None:
    """Raise InputError unless it is a JPEG quality."""
    if not 1 <= quality <= 100:
        raise InputError(f"`--quality` must be from 1 to 100. Received: {quality}")


def _stored(
    path: Path | RemotePath, exported: ExportedModel, quality: int
) -> StoredVideo:
    """A video as its record would keep it."""
    check_quality(quality)
    kept = RecordOptions(quality=quality, **exported.decoding)
    name = str(path)
    return store_video(VideoEntry(name, path, "", None, name), kept)


def _bytes(rows: list) -> np.ndarray:
    """An array of Python's bytes: NumPy's own would lose zeros at their ends."""
    return np.array(rows, dtype=object)
