"""Write a classifier as an ONNX file, by tf2onnx from a SavedModel of one frame size."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.export.assets import labels_text
from tsi_keras.export.assets import preprocessing
from tsi_keras.export.tflite import write_inference_graph
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError

ONNX = "model.onnx"

# Old enough for runtimes of some years ago; nothing newer is needed.
OPSET = 17
_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


class OnnxError(RuntimeError):
    """A model cannot be written as ONNX; nothing was kept."""


def check_onnx_packages() -> None:
    """Raise InputError unless ONNX files can be written and compared here."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"an ONNX file needs {' and '.join(missing)}: pip install "
            "'tsi_keras[onnx]', or leave --onnx out."
        )


def write_onnx(model: VideoClassifier, path: str | Path, options: ClipOptions) -> Path:
    """Write a classifier as an ONNX file, for ONNX Runtime and others.

    Its input is `frames`, uint8 `(N, T, S, S, 3)` with any N, cropped as in the
    evaluation (S is the crop size); its outputs are `logits` and `probabilities`,
    float32 `(N, classes)`. Its metadata hold `labels`, one per line, and
    `preprocessing` as JSON.

    Args:
        model: the classifier; one trained in mixed precision is written in float32.
        path: the file; it appears when it is whole.
        options: clip length, sizes and sampling, from `clip_options(model)`.

    Returns:
        `path`.

    Raises:
        InputError: tf2onnx, onnx or onnxruntime are not installed.
        OnnxError: tf2onnx cannot convert the model; nothing was written.

    Example:
        ```python
        path = write_onnx(model, "model.onnx", clip_options(model))
        session = onnxruntime.InferenceSession(path)
        [logits] = session.run(["logits"], {"frames": clips})
        ```
    """
    check_onnx_packages()
    path = Path(path).absolute()  # the converter runs elsewhere
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as temporary:
        folder, made = Path(temporary, "saved_model"), Path(temporary, path.name)
        write_inference_graph(model, folder, options, batch=None)
        _convert(folder, made)
        _describe(made, model, options)
        return made.replace(path)


def _convert(folder: Path, path: Path) -> None:
    """Run tf2onnx in a process of its own, whose NumPy it may change."""
    done = subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(folder)]
        + ["--signature_def", "serving_default", "--tag", "serve"]
        + ["--opset", str(OPSET), "--output", str(path.absolute())],
        cwd=folder.parent,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "-1",
            "KERAS_BACKEND": "tensorflow",
        },
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode or not path.is_file():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OnnxError(
            f"tf2onnx cannot convert the model (exit status {done.returncode}): {last}"
        )


def _describe(path: Path, model: VideoClassifier, options: ClipOptions) -> None:
    """Put what a client must know into the file."""
    import onnx

    proto = onnx.load(str(path))
    facts = {
        "labels": labels_text(model),
        "preprocessing": json.dumps(preprocessing(model, options), ensure_ascii=False),
    }
    onnx.helper.set_model_props(proto, facts)
    onnx.save(proto, str(path))
