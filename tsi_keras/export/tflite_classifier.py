"""Run a TFLite file written by `tsi_keras.export.tflite`."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tsi_keras.utils.errors import InputError
from tsi_keras.utils.label_files import parse_labels

_IDENTIFIER = b"TFL3"


class TFLiteClassifier:
    """Class scores of clips from a TFLite file.

    The interpreter is LiteRT's (`ai_edge_litert`) where that is installed, otherwise
    TensorFlow's; built-in operators run through XNNPACK.

    Args:
        path: file written by `write_tflite`.
        num_threads: threads of the interpreter; None leaves the choice to it.

    Attributes:
        class_names: in the order of the logits; None if the file does not say.
        preprocessing: how frames are made ready, as `VideoClassifier.preprocessing`,
            with `num_frames` and `sampling`; None if the file does not say.

    Raises:
        InputError: the file is missing, is no TFLite file, or is not a classifier of
            clips.

    Example:
        ```python
        classifier = TFLiteClassifier("model.tflite", num_threads=4)
        best = classifier.logits(clips).argmax(axis=1)  # clips uint8 (N, T, H, W, 3)
        ```
    """

    def __init__(self, path: str | Path, num_threads: int | None = None):
        self.path = Path(path)
        self._interpreter = _open(self.path, num_threads)
        signature = self._signature()
        [self._input] = [
            detail
            for detail in self._interpreter.get_input_details()
            if detail["index"] == signature["inputs"]
        ]
        self._outputs = signature["outputs"]
        self._batch = int(self._input["shape_signature"][0])
        self._allocated = None
        self.class_names, self.preprocessing = _files(self.path)

    def logits(self, frames: np.ndarray) -> np.ndarray:
        """Logits float32 `(N, classes)` of clips uint8 `(N, T, H, W, 3)`.

        A file with a fixed batch runs as often as it takes; the last, incomplete batch
        is filled up with its last clip.

        Raises:
            InputError: clips of another type, length or size than the file's.
        """
        return self._run(frames)["logits"]

    def probabilities(self, frames: np.ndarray) -> np.ndarray:
        """Softmax of `logits`, with the same arguments and errors."""
        return self._run(frames)["probabilities"]

    def _run(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs, `(N, classes)` each."""
        self._check(frames)
        step = len(frames) if self._batch == -1 else self._batch
        batches = [frames[i : i + step] for i in range(0, len(frames), step)]
        answers = [self._run_batch(batch, step) for batch in batches]
        return {
            name: np.concatenate([answer[name] for answer in answers])[: len(frames)]
            for name in self._outputs
        }

    def _run_batch(self, frames: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """The outputs of `size` clips, the missing ones copies of the last."""
        missing = np.repeat(frames[-1:], size - len(frames), axis=0)
        self._allocate(size)
        given = np.concatenate([frames, missing])
        self._interpreter.set_tensor(self._input["index"], given)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(index)
            for name, index in self._outputs.items()
        }

    def _allocate(self, size: int) -> None:
        """Make room for a batch."""
        if self._allocated == size:
            return
        if self._batch == -1:
            shape = (size, *map(int, self._input["shape"][1:]))
            self._interpreter.resize_tensor_input(
                self._input["index"], shape, strict=True
            )
        self._interpreter.allocate_tensors()
        self._allocated = size

    def _check(self, frames: np.ndarray) -> None:
        """Raise InputError for clips the file cannot take."""
        wanted = tuple(map(int, self._input["shape"][1:]))
        shape, dtype = np.shape(frames), np.asarray(frames).dtype
        if dtype != np.uint8 or shape[1:] != wanted or not shape[0]:
            raise InputError(
                f"{self.path} takes clips uint8 (N, {', '.join(map(str, wanted))}): "
                "batch, frames, height, width, RGB, at least one clip. Received: "
                f"{dtype} {shape}"
            )

    def _signature(self) -> dict[str, Any]:
        """Index of the input, and indices of the outputs by name."""
        listed = self._interpreter.get_signature_list().get("serving_default", {})
        if listed.get("inputs") != ["frames"] or "logits" not in listed["outputs"]:
            raise InputError(
                f"{self.path} is not a classifier of clips: it has no signature "
                "`serving_default` from `frames` to `logits`. Write it with "
                "python -m pipelines.export."
            )
        runner = self._interpreter.get_signature_runner("serving_default")
        return {
            "inputs": runner.get_input_details()["frames"]["index"],
            "outputs": {
                name: detail["index"]
                for name, detail in runner.get_output_details().items()
            },
        }


def _open(path: Path, num_threads: int | None):
    """The interpreter of a file."""
    if num_threads is not None and num_threads < 1:
        raise InputError(f"`num_threads` must be at least 1. Received: {num_threads}")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a .tflite file.")
    with path.open("rb") as file:
        if file.read(8)[4:] != _IDENTIFIER:
            raise InputError(f"{path} is not a TFLite file; give a .tflite file.")
    try:
        return _interpreter()(model_path=str(path), num_threads=num_threads)
    except ValueError as error:
        raise InputError(
            f"{path} is damaged or needs operators this interpreter lacks: {error}"
        ) from error


def _interpreter() -> type:
    """LiteRT's interpreter, or TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter
    return Interpreter


def _files(path: Path) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Class names and preprocessing from the archive at the end of a file."""
    if not zipfile.is_zipfile(path):
        return None, None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        labels = preprocessing = None
        if "labels.txt" in names:
            labels = parse_labels(archive.read("labels.txt"))
        if "preprocessing.json" in names:
            preprocessing = json.loads(archive.read("preprocessing.json"))
    return labels, preprocessing
