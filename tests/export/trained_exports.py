"""The exports of trained networks in every format, compared with Keras.

    python -m tests.export.trained_exports --output DIR [--models tsi tsm] [--clips N]

makes the demo's data, trains what DIR does not hold yet, exports and compares on the test
split, and writes DIR/exports.csv: the figures of `results/exports.csv`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.export.trained_models import MODELS
from tests.export.trained_models import make_demo_data
from tests.export.trained_models import trained_model
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.onnx_file import ONNX
from tsi_keras.export.onnx_file import write_onnx
from tsi_keras.export.parity import ParityError
from tsi_keras.export.parity import measure_parity
from tsi_keras.export.parity import record_clips
from tsi_keras.export.parity_report import export_rows
from tsi_keras.export.parity_report import print_report
from tsi_keras.export.saved_model import write_saved_model
from tsi_keras.export.tflite import calibration_clips
from tsi_keras.export.tflite import write_tflite_files
from tsi_keras.models import VideoClassifier
from tsi_keras.utils.console import console
from tsi_keras.utils.measurements import write_measurements

KINDS = ("float32", "float16", "dynamic", "int8")
HALVES = ("float16", "bfloat16")
_COMMAND = "python -m tests.export.trained_exports --output DIR"
_ALL = 1_000_000


def exports_of(
    model: VideoClassifier, data: Path, count: int = _ALL
) -> dict[str, dict[str, Any]]:
    """Export a model in every format and compare each on the test split.

    Args:
        model: a trained classifier.
        data: the data set with its labels.
        count: test videos to compare on; all if there are fewer.

    Returns:
        Reports of `measure_parity`: `float32` with the TFLite and ONNX files, and one for
        each of `HALVES`, of SavedModels with such weights.

    Raises:
        ParityError: an export misses its threshold; with the report.
    """
    info, options = load_dataset_info(data), clip_options(model)
    clips = record_clips(info, "test", count, options)
    calibration = calibration_clips(info, options)
    reports = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_tflite_files(model, folder, KINDS, options, clips=calibration)
        onnx = write_onnx(model, folder / ONNX, options)
        for weights in ("float32", *HALVES):
            write_saved_model(model, folder / weights, options, weights=weights)
            reports[weights] = measure_parity(
                model,
                folder / weights,
                clips,
                options,
                tflite=files if weights == "float32" else None,
                onnx=onnx if weights == "float32" else None,
                weights=weights,
            )
    return reports


def rows_of(name: str, reports: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports of a model as rows; Keras and its runtime once."""
    rows = []
    for weights, report in reports.items():
        for row in export_rows(report, model=name):
            if weights != "float32":
                row["export"] += f", {weights} weights"
            if weights == "float32" or not row["export"].startswith("Keras"):
                rows.append({**row, "cores": report["cores"], "command": _COMMAND})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export and compare; 1 if an export misses its threshold."""
    args = _parser().parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    data, rows, status = make_demo_data(args.output), [], 0
    for name in args.models:
        model, labelled = trained_model(name, data, args.output)
        console.print(f"\n{name}", style="bold")
        try:
            reports = exports_of(model, labelled, args.clips)
        except ParityError as error:
            console.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
            status = 1
            continue
        for report in reports.values():
            print_report(report)
        rows += rows_of(name, reports)
        write_measurements(args.output, "exports", rows)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.export.trained_exports", description=__doc__
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--clips", type=int, default=_ALL, metavar="N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
