"""Classify video files."""

from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.decoding import read_video
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.remote import to_path
from tsi_keras.data.remote_input import video_as_file
from tsi_keras.data.sampling import clip_indices
from tsi_keras.evaluation.predictions import Prediction
from tsi_keras.evaluation.predictions import best_classes
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.urls import is_remote

# Frames per second that `pipelines.prepare` stores unless told otherwise.
DEFAULT_FPS = 12.0


def predict_videos(
    model: VideoClassifier,
    paths: Iterable[str | Path],
    *,
    top_k: int = 5,
    batch_size: int = 8,
) -> list[Prediction]:
    """Classify video files as the evaluation would, one clip and centre crop each.

    Files are decoded as the model's `preprocessing` says its records were (`fps`,
    `stored_short_side`, `min_frames`; without them 12 frames per second at the model's
    own short side), then sampled and cropped by the functions the evaluation uses.
    Scores differ from those of the same videos in TFRecords by the records' JPEG
    compression only.

    Args:
        model: the classifier.
        paths: video files.
        top_k: candidates per video, at most the number of classes.
        batch_size: clips per step; decoded videos are dropped after sampling.

    Returns:
        One prediction per path, in the same order; an unreadable file has an `error`.

    Raises:
        InputError: `top_k` or `batch_size` is below 1, or the model does not say how
            its frames are prepared.

    Example:
        ```python
        for prediction in predict_videos(load_classifier("runs/demo"), ["wave.mp4"]):
            print(prediction.path, prediction.candidates[0].label)
        ```
    """
    check_positive("--top-k", top_k)
    check_positive("--batch-size", batch_size)
    paths = [to_path(p) if is_remote(p) else Path(p) for p in paths]
    options, decoding = clip_options(model), decoding_options(model)
    results: dict[int, Prediction] = {}
    batch: list[tuple[int, np.ndarray]] = []
    with progress("videos") as bar:
        for number, path in enumerate(bar.track(paths, description="predicting")):
            try:
                batch.append((number, read_clip(path, options, **decoding)))
            except VideoError as error:
                results[number] = Prediction(path, error=error.reason)
            if len(batch) == batch_size or (batch and number == len(paths) - 1):
                results.update(_classify(model, batch, paths, top_k))
                batch = []
    return [results[number] for number in range(len(paths))]


def read_clip(
    path: str | Path,
    options: ClipOptions,
    *,
    fps: float | None,
    short_side: int | None = None,
    min_frames: int = 2,
) -> np.ndarray:
    """Return the clip of a video file on which a model is evaluated.

    Args:
        path: the video file; an address is downloaded to a temporary file.
        options: clip length and sizes.
        fps: frames per second to sample from, as in the preparation of the records;
            None keeps every frame.
        short_side: that of the records; None decodes at the size of the file.
        min_frames: fewest frames of a usable video.

    Returns:
        uint8 `(num_frames, crop_size, crop_size, 3)`, RGB.

    Raises:
        VideoError: the file cannot be decoded.
    """
    kept = {"short_side": short_side, "fps": fps, "min_frames": min_frames}
    with video_as_file(to_path(path)) as file:
        video = read_video(file, **kept)
    frames = video.frames
    [chosen] = clip_indices(len(frames), options.num_frames, options.sampling)
    clip = resize_and_center_crop(
        tf.constant(np.stack([frames[i] for i in chosen])),
        short_side=options.short_side,
        crop_size=options.crop_size,
    )
    return clip.numpy()


def decoding_options(model: VideoClassifier) -> dict[str, Any]:
    """Return how the model's records were made from videos.

    Args:
        model: it states its `preprocessing`, see `clip_options`.

    Returns:
        `fps`, `short_side` and `min_frames`, as `read_clip` takes them.
    """
    return stated_decoding(model.preprocessing)


def stated_decoding(stated: Mapping[str, Any]) -> dict[str, Any]:
    """`decoding_options` from the `preprocessing` of a model or of its export."""
    return {
        "fps": stated.get("fps", DEFAULT_FPS),
        "short_side": stated.get("stored_short_side", stated["short_side"]),
        "min_frames": stated.get("min_frames", 2),
    }


def _classify(
    model: VideoClassifier,
    batch: list[tuple[int, np.ndarray]],
    paths: list[Path],
    top_k: int,
) -> dict[int, Prediction]:
    """Predictions of a batch of clips by the number of their video."""
    logits = model.predict_on_batch(np.stack([clip for _, clip in batch]))
    names = model.label_names
    return {
        number: best_classes(paths[number], row, names, top_k)
        for (number, _), row in zip(batch, logits, strict=True)
    }
