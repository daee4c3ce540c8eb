"""Run a form of a model in a new interpreter, for its answers and its cost."""

import os
import pickle
import signal
import tempfile
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tsi_keras
from tsi_keras.export.parity_rules import ParityError
from tsi_keras.utils.child_program import run_child_program
from tsi_keras.utils.cores import available_cores

BATCH = 4
_PROGRAM = Path(__file__).with_name("_fresh_process.py")
_IMPORTS = {
    "saved_model": "TensorFlow only",
    "tflite": "the TFLite interpreter only",
    "onnx": "ONNX Runtime only",
    "keras": "tsi_keras",
}


def run_in_fresh_process(
    folder: str | Path, inputs: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Run signatures of a SavedModel in a new interpreter that imports TensorFlow only.

    Args:
        folder: the SavedModel.
        inputs: by signature to call, its only argument: uint8 `(N, T, H, W, 3)`, JPEG bytes
            `(N, T)` or serialized records `(N,)`, the last two in object arrays.

    Returns:
        By signature the outputs, `(N, ...)` each.

    Raises:
        ParityError: the process failed; the message ends with its last words.
    """
    done = _run("saved_model", folder, inputs, measure=False)
    return {key: figures["outputs"] for key, figures in done["signatures"].items()}


def measure_apart(
    runtime: str, path: str | Path, inputs: Mapping[str, Iterable[Any]]
) -> dict[str, Any]:
    """Answer clips in a new interpreter, on the CPU, and measure time and memory.

    Args:
        runtime: `"saved_model"`, `"tflite"`, `"onnx"`, or `"keras"` (a `.keras` file,
            whose process imports tsi_keras; the others must do without).
        path: the export.
        inputs: clips by signature: arrays or bytes as one element of the signature's
            batch. The signature of the other runtimes is called as the runtime.

    Returns:
        `runtime`: name and version. `memory`: the process' peak in bytes
        `after_import`, `peak` with one clip at a time, and `peak_in_batches` of
        `BATCH`; None where the system does not tell. `signatures`: by name the
        `outputs`, `latency_ms` of one clip and `batch_ms_per_clip` (None if there are
        fewer clips than a batch), medians after a warm-up.

    Raises:
        ParityError: the process failed; the message ends with its last words. So it does
            when the SavedModel has a signature that `inputs` lacks.
    """
    return _run(runtime, path, inputs, measure=True)


def _run(
    runtime: str,
    path: str | Path,
    inputs: Mapping[str, Iterable[Any]],
    *,
    measure: bool,
) -> dict[str, Any]:
    """See `measure_apart`; without `measure` no times, and of these signatures only."""
    with tempfile.TemporaryDirectory() as temporary:
        job, result = Path(temporary, "job"), Path(temporary, "result")
        description = {
            "runtime": runtime,
            "path": str(Path(path).absolute()),
            "inputs": _write_clips(Path(temporary), inputs),
            "batch": BATCH,
            "threads": available_cores(),
            "measure": measure,
        }
        job.write_bytes(pickle.dumps(description))
        done = run_child_program(
            _PROGRAM, str(job), str(result), cwd=temporary, env=_environment(runtime)
        )
        if done.returncode:
            raise ParityError(
                f"{path} cannot be run in a process that imports {_IMPORTS[runtime]} "
                f"({_status(done.returncode)}): {_last_words(done.stderr)}"
            )
        return pickle.loads(result.read_bytes())


def _write_clips(folder: Path, inputs: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    """One file per signature, its clips one after the other."""
    paths = {}
    for number, (name, clips) in enumerate(inputs.items()):
        path = folder / f"inputs-{number}"
        with open(path, "wb") as file:
            for clip in clips:
                # NumPy's own strings lose the zeros at their end.
                kind = None if isinstance(clip, np.ndarray) else object
                pickle.dump(np.asarray(clip, kind), file)
        paths[name] = str(path)
    return paths


def _environment(runtime: str) -> dict[str, str]:
    """Without a GPU: the present process may hold all of its memory."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    if runtime == "keras":
        root = str(Path(tsi_keras.__file__).parents[1])
        paths = [root, os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment["KERAS_BACKEND"] = "tensorflow"
    return environment


def _status(code: int) -> str:
    """How a process ended, in words."""
    if code > 0:
        return f"exit status {code}"
    return f"killed by {signal.Signals(-code).name}"


def _last_words(stderr: str) -> str:
    return (stderr.strip() or "no message").splitlines()[-1]
