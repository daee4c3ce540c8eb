"""Predictions as a table on the terminal and as JSON."""

import json
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tsi_keras.evaluation.predictions import Prediction
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import is_same_file
from tsi_keras.utils.files import write_json


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
