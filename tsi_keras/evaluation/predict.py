"""Classify video files."""

import json
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.annotations import VIDEO_SUFFIXES
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.decoding import VideoError
from tsi_keras.data.decoding import read_video
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import to_path
from tsi_keras.data.remote_input import video_as_file
from tsi_keras.data.sampling import clip_indices
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.files import is_same_file
from tsi_keras.utils.files import write_json
from tsi_keras.utils.urls import is_remote

# Frames per second that `pipelines.prepare` stores unless told otherwise.
DEFAULT_FPS = 12.0


@dataclass(frozen=True)
class Candidate:
    """One class a video may belong to.

    Attributes:
        rank: 1 for the most probable.
        index: the label.
        label: the class name.
        probability: softmax of the logits, 0..1.
    """

    rank: int
    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says about one video file.

    Attributes:
        path: the file.
        candidates: the most probable classes, best first; empty after an error.
        error: why the file could not be classified, or None.
        logits: float32 `(K,)`, or None after an error.
    """

    path: Path
    candidates: list[Candidate] = field(default_factory=list)
    error: str | None = None
    logits: np.ndarray | None = field(default=None, repr=False, compare=False)


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


def as_json(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return JSON-ready entries: `video`, and `predictions` or `error`."""
    return [
        {"video": str(prediction.path), "error": prediction.error}
        if prediction.error
        else {
            "video": str(prediction.path),
            "predictions": [asdict(each) for each in prediction.candidates],
        }
        for prediction in predictions
    ]


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


def best_classes(
    path: Path, logits: np.ndarray, class_names: Sequence[str], top_k: int
) -> Prediction:
    """Return what the scores of one video say.

    Args:
        path: the video.
        logits: `(K,)`.
        class_names: K names.
        top_k: candidates, at most K.

    Returns:
        The prediction; an `error` where a score is not finite.
    """
    if not np.isfinite(logits).all():
        return Prediction(path, error="the model's scores are not finite numbers")
    candidates = rank_classes(class_names, softmax(logits), top_k)
    return Prediction(path, candidates, logits=logits)


def rank_classes(
    class_names: Sequence[str], probabilities: np.ndarray, top_k: int
) -> list[Candidate]:
    """Return the most probable classes, best first; of equal ones the lower label.

    Args:
        class_names: K names.
        probabilities: `(K,)`.
        top_k: how many; at most K.
    """
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        Candidate(rank, int(i), class_names[i], float(probabilities[i]))
        for rank, i in enumerate(best, start=1)
    ]


def best_candidates(
    model: VideoClassifier, probabilities: np.ndarray, top_k: int
) -> list[Candidate]:
    """`rank_classes` with the names of a model, or "class 0" ... without any."""
    return rank_classes(model.label_names, probabilities, top_k)


def find_videos(paths: Iterable[str | Path]) -> list[Path | RemotePath]:
    """Return the given files, and in place of a folder all videos below it.

    Args:
        paths: files (any name), folders, and addresses of single files such as
            `s3://bucket/video.mp4`.

    Returns:
        Paths in the order given; those of a folder sorted.

    Raises:
        InputError: a path does not exist, or a folder holds no video.
    """
    found: list[Path | RemotePath] = []
    for path in paths:
        if is_remote(path):
            found.append(to_path(path))
            continue
        path = Path(path).expanduser()
        if not path.exists():
            raise InputError(f"VIDEO {path} does not exist.")
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if _is_video(p))
        if not inside:
            raise InputError(f"VIDEO {path} is a folder without videos below it.")
        found += inside
    return found


def _is_video(path: Path) -> bool:
    """A file with a video's name; hidden ones are left out."""
    named = path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    return named and path.is_file()


def check_json_file(
    path: str | Path, *, overwrite: bool, videos: Iterable[str | Path] = ()
) -> None:
    """Raise InputError when predictions cannot be written to `path`; "-" is stdout.

    Args:
        path: the file.
        overwrite: whether it may exist.
        videos: what the predictions are about, which it must not be.
    """
    if path == "-":
        return
    path = Path(path).expanduser()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"`--json` {path} must be a file in an existing folder.")
    if path.exists() and not overwrite:
        raise InputError(
            f"`--json` {path} exists; nothing was written. Choose another file or add "
            "--overwrite."
        )
    if any(is_same_file(path, video) for video in videos):
        raise InputError(
            f"`--json` {path} is a video to classify; choose another file."
        )


def deliver(
    predictions: Sequence[Prediction], json_file: str | Path | None = None
) -> int:
    """Print a table, or JSON where the file is "-"; write the file if there is one.

    Args:
        predictions: of the videos a command was given.
        json_file: checked with `check_json_file` before, "-" or None.

    Returns:
        Exit status of the command: 1 when a video could not be classified, else 0.
    """
    if json_file == "-":
        print(json.dumps(as_json(predictions), indent=2, ensure_ascii=False))
    else:
        print_predictions(predictions)
        if json_file:
            write_json(Path(json_file).expanduser(), as_json(predictions))
    return 1 if any(prediction.error for prediction in predictions) else 0


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """Print one row per candidate; a failed video has one row with its reason."""
    names = _shown_names([prediction.path for prediction in predictions])
    rows = []
    for name, prediction in zip(names, predictions, strict=True):
        rows += [
            (name, each.rank, each.label, f"{100 * each.probability:.2f} %")
            for each in prediction.candidates
        ]
        if prediction.error:
            rows.append((name, "-", f"error: {prediction.error}", "-"))
    print_table("Predictions", ("video", "rank", "label", "probability"), rows)
    failed = sum(prediction.error is not None for prediction in predictions)
    done = len(predictions) - failed
    console.print(f"{done} videos classified, {failed} failed", markup=False)


def _shown_names(paths: list[Path]) -> list[str]:
    """File names where they tell the videos apart, else whole paths."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(set(paths)) else [str(p) for p in paths]
