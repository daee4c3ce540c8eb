"""Does every export say what the Keras model says, and at what cost? Measured, on clips.

Each form of the model answers the same clips in a process of its own, on the CPU: Keras,
all signatures of the SavedModel, every TFLite file, the ONNX file.
"""

import tempfile
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.export.fresh_process import BATCH
from tsi_keras.export.fresh_process import measure_apart
from tsi_keras.export.fresh_process import run_in_fresh_process
from tsi_keras.export.parity_clips import ParityClips
from tsi_keras.export.parity_clips import random_clips
from tsi_keras.export.parity_clips import record_clips
from tsi_keras.export.parity_report import print_parity
from tsi_keras.export.parity_rules import THRESHOLDS
from tsi_keras.export.parity_rules import ParityError
from tsi_keras.export.parity_rules import Threshold
from tsi_keras.export.parity_rules import compare_logits
from tsi_keras.export.parity_rules import complaint
from tsi_keras.export.parity_rules import thresholds_for
from tsi_keras.export.parity_rules import top1_margins
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.cores import available_cores

__all__ = [
    "THRESHOLDS",
    "TOLERANCE",
    "ParityClips",
    "ParityError",
    "measure_parity",
    "print_parity",
    "random_clips",
    "record_clips",
    "run_in_fresh_process",
]

TOLERANCE = THRESHOLDS["float32"].max_difference


def measure_parity(
    model: VideoClassifier,
    folder: str | Path | None,
    clips: ParityClips,
    options: ClipOptions,
    *,
    onnx: str | Path | None = None,
    tflite: Mapping[str, str | Path] | None = None,
    weights: str = "float32",
    min_agreement: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Compare a SavedModel, TFLite files and an ONNX file with their Keras model.

    Each runs in a new process that imports TensorFlow only (Keras': tsi_keras too), on
    the CPU, so that the comparison is about the export and not about the arithmetic of a
    device. `serve_jpeg` gets the JPEG frames, `serve_example` the records, everyone else
    the frames decoded, resized and cropped as in the evaluation.

    Args:
        model: the Keras model.
        folder: the SavedModel, or None to compare the files only.
        clips: what to compare on.
        options: clip length and sizes.
        onnx: an ONNX file.
        tflite: TFLite files by kind, keys of `THRESHOLDS`.
        weights: how the SavedModel keeps its weights, a key of `THRESHOLDS`.
        min_agreement: other limits than those of `THRESHOLDS` for some kinds.

    Returns:
        JSON-ready. `keras`, `saved_model`, `tflite` and `onnx` (both by kind) tell
        `runtime`, `bytes` on disk and `memory` of the process; `keras`, `signatures` (by
        name), `tflite` and `onnx` the times (see `measure_apart`); the last three the
        comparison (see `compare_logits`). `required` holds the thresholds of the kinds
        compared.

    Raises:
        ParityError: an export cannot be run without tsi_keras, misses its threshold,
            or gives logits that are not finite; `report` tells all figures.
        InputError: `min_agreement` cannot be asked for.

    Example:
        ```python
        options = clip_options(model)
        clips = record_clips(load_dataset_info("data/demo"), "test", 100, options)
        files = {"int8": "saved_models/demo/model_int8.tflite"}
        report = measure_parity(model, "saved_models/demo/1", clips, options, tflite=files)
        print(report["tflite"]["int8"]["top1_agreement"])
        ```
    """
    limits = thresholds_for(clips.source, min_agreement)
    inputs = clips.inputs(options)
    expected, keras_figures = _keras(model, inputs["serving_default"])
    saved_model, signatures = _saved_model(folder, inputs)
    frames = inputs["serving_default"]
    files = {
        k: _file("tflite", Path(path), frames) for k, path in (tflite or {}).items()
    }
    others = {} if onnx is None else {"onnx": _file("onnx", Path(onnx), frames)}
    for figures in (*files.values(), *others.values()):
        # Sums in another order: float32 has seven digits, whatever the logits are.
        figures["unit"] = max(1.0, float(np.abs(expected).max()))
    kinds = [(weights, figures) for figures in signatures.values()]
    kinds += [*files.items(), *others.items()]
    for kind, figures in kinds:
        logits = figures.pop("outputs")["logits"]
        figures |= {"kind": kind, **compare_logits(expected, logits, clips.ids)}
    report = {
        "source": clips.source,
        "data": clips.data,
        "clips": clips.ids,
        "tolerance": TOLERANCE,
        "required": {kind: asdict(limits[kind]) for kind, _ in kinds},
        "process": "a new one for each export that imports its runtime only, on the CPU",
        "cores": available_cores(),
        "batch": BATCH,
        "keras": keras_figures,
        "saved_model": saved_model,
        "signatures": signatures,
        "tflite": files,
        "onnx": others,
    }
    _require_parity(report, limits)
    return report


def _saved_model(
    folder: str | Path | None, inputs: Mapping[str, Iterable]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Figures of the SavedModel, and answers and times by signature."""
    if folder is None:
        return {}, {}
    done = measure_apart("saved_model", folder, inputs)
    signatures = done.pop("signatures")
    return {"bytes": _size(Path(folder)), **done}, signatures


def _file(runtime: str, path: Path, frames: Iterable) -> dict[str, Any]:
    """Figures and answers of a TFLite or ONNX file."""
    done = measure_apart(runtime, path, {runtime: frames})
    [answers] = done.pop("signatures").values()
    return {"file": path.name, "bytes": _size(path), **done, **answers}


def _keras(
    model: VideoClassifier, frames: Iterable
) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits (N, K) and figures of the Keras model, saved and loaded elsewhere.

    A model with layers that tsi_keras does not know cannot be loaded there; it answers
    here, and its time and memory are not measured.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "model.keras")
        model.save(path)
        try:
            done = measure_apart("keras", path, {"keras": frames})
        except ParityError as error:
            logits = logits_on_cpu(model, frames)
            figures = {"not_measured": str(error).replace(str(path), "the model")}
        else:
            [answers] = done.pop("signatures").values()
            logits = answers.pop("outputs")["logits"]
            figures = {"bytes": _size(path), **done, **answers}
    margin = float(np.median(top1_margins(logits)))
    return logits, {**figures, "median_top1_margin": margin}


def logits_on_cpu(model: VideoClassifier, frames: Iterable) -> np.ndarray:
    """Logits (N, K) of uint8 clips, computed in a graph on the CPU.

    In a graph as `predict` and `evaluate` do it: eager arithmetic rounds differently,
    by some 3e-6 of the largest logit in a ResNet-50.
    """
    run = tf.function(lambda batch: model(batch, training=False), autograph=False)
    with tf.device("/CPU:0"):
        return np.concatenate([run(tf.constant(clip[None])) for clip in frames])


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _require_parity(report: dict[str, Any], limits: Mapping[str, Threshold]) -> None:
    """Raise ParityError unless every export is within its threshold."""
    clips = len(report["clips"])
    checked = {f"`{name}`": f for name, f in report["signatures"].items()}
    beside = [*report["tflite"].values(), *report["onnx"].values()]
    checked |= {figures["file"]: figures for figures in beside}
    found = [
        complaint(name, figures, limits[figures["kind"]], clips)
        for name, figures in checked.items()
    ]
    if wrong := [text for text in found if text]:
        where = f"({report['source']} clips"
        if report["data"]:
            where += ", {folder}, split {split}".format(**report["data"])
        error = ParityError(f"{'; '.join(wrong)} {where})")
        error.report = report
        raise error
