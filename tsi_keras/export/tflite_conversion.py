"""Run TensorFlow's TFLite converter where it can do no harm, and read what it made.

Bad input aborts the converter's whole process instead of raising, so it runs in a child.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

from tensorflow.lite.python import schema_py_generated as schema

from tsi_keras.utils.child_program import run_child_program

KINDS = ("float32", "float16", "dynamic", "int8")
_PROGRAM = Path(__file__).with_name("_convert_tflite.py")


class TFLiteError(RuntimeError):
    """A model cannot be written as TFLite; nothing was kept."""


@dataclass(frozen=True)
class Conversion:
    """One file to make.

    Attributes:
        saved_model: folder with the signature `serving_default` of `frames`.
        kind: one of `KINDS`.
        output: file to write.
        clips: `.npy` file of uint8 clips `(n, T, H, W, 3)`; for `"int8"` only.
    """

    saved_model: str
    kind: str
    output: str
    clips: str | None = None


def convert(jobs: Sequence[Conversion], folder: str | Path) -> list[bytes]:
    """Convert SavedModels in one child process.

    Args:
        jobs: what to make; all their files should lie in `folder`.
        folder: an existing folder for the list of jobs.

    Returns:
        The flatbuffers, in the order of the jobs; built-in operators only.

    Raises:
        TFLiteError: the converter refused a model or died, or a model needs operators
            that TFLite does not have.

    Example:
        ```python
        [flatbuffer] = convert([Conversion("saved", "float16", "out.tflite")], ".")
        ```
    """
    listed = Path(folder, "jobs.json")
    listed.write_text(json.dumps([asdict(job) for job in jobs]), "utf-8")
    # On the CPU; TensorFlow's converter imports Keras.
    forced = {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    done = run_child_program(
        _PROGRAM, str(listed.absolute()), cwd=folder, env={**os.environ, **forced}
    )
    return [_result(job, done) for job in jobs]


def _result(job: Conversion, done: subprocess.CompletedProcess) -> bytes:
    """The flatbuffer of one job, or the reason why there is none."""
    output = Path(job.output)
    refused = output.with_name(output.name + ".error")
    if refused.is_file():
        raise TFLiteError(_refusal(job.kind, refused.read_text("utf-8")))
    if done.returncode or not output.is_file():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise TFLiteError(
            f"TensorFlow's converter died of {_cause(done.returncode)} while making "
            f"the {job.kind} file: {last}"
        )
    flatbuffer = output.read_bytes()
    check_operators(flatbuffer)
    return flatbuffer


def _cause(status: int) -> str:
    """An exit status in words."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _refusal(kind: str, reason: str) -> str:
    """What the converter's pages of text say, in a line."""
    missing = re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", reason)
    missing += re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)", reason)
    if not missing:
        first = reason.strip().splitlines()[0]
        return f"TensorFlow's converter refused the {kind} file: {first}"
    names = sorted({name.strip() for each in missing for name in each.split(",")})
    places = re.findall(r'"([\w/.\-]+/[\w/.\-]+)(?:@[^"]*)?"', reason)
    where = f", in {places[0]}" if places else ""
    return (
        f"TFLite has no built-in operator for {', '.join(names)}{where}; use a network "
        "without it."
    )


def check_operators(flatbuffer: bytes) -> None:
    """Raise TFLiteError if a flatbuffer uses custom or Flex operators."""
    strange = [
        f"{name} (makes {tensor})"
        for name, tensor, builtin in _operators(flatbuffer)
        if not builtin
    ]
    if strange:
        raise TFLiteError(
            f"TFLite has no built-in operator for {', '.join(strange[:3])}; use a "
            "network without it."
        )


def operator_counts(flatbuffer: bytes) -> dict[str, int]:
    """How often each operator occurs in a flatbuffer, in all of its subgraphs."""
    names = [name for name, _, _ in _operators(flatbuffer)]
    return {name: names.count(name) for name in sorted(set(names))}


def _operators(flatbuffer: bytes) -> list[tuple[str, str, bool]]:
    """Name, name of the first output, and whether it is built in, of each operator."""
    model = schema.Model.GetRootAs(flatbuffer, 0)
    codes = [
        _operator_name(model.OperatorCodes(i))
        for i in range(model.OperatorCodesLength())
    ]
    found = []
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            name, builtin = codes[operator.OpcodeIndex()]
            found.append((name, _first_output(graph, operator), builtin))
    return found


def _first_output(graph: schema.SubGraph, operator: schema.Operator) -> str:
    """Name of a tensor, which tells the layer."""
    if not operator.OutputsLength():
        return "nothing"
    return graph.Tensors(operator.Outputs(0)).Name().decode("utf-8", "replace")


def _operator_name(code: schema.OperatorCode) -> tuple[str, bool]:
    """What an operator is called, and whether it is built in."""
    # Old files keep the number in the field of one byte.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return (code.CustomCode() or b"custom").decode("utf-8", "replace"), False
    return _NAMES[number], True


_NAMES = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int)
}
