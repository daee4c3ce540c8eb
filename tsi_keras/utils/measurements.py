"""Measurements as files: CSV for people and plots, JSON for programs."""

import csv
import io
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text


def write_measurements(
    folder: str | Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    **details: Any,
) -> Path:
    """Write `name.csv` and `name.json` to a folder.

    Args:
        folder: an existing folder.
        name: of the files, without suffix.
        rows: dictionaries with the same keys in the same order; floats are written to
            the CSV with four digits, and whole to the JSON.
        details: what else the JSON holds beside `rows`.

    Returns:
        The path of the CSV.

    Example:
        ```python
        write_measurements("out", "speed", [{"step": "read", "ms": 1.2}], cores=2)
        ```
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    write_json(Path(folder) / f"{name}.json", {**details, "rows": [*map(dict, rows)]})
    return write_text(Path(folder) / f"{name}.csv", text.getvalue())


def _short(value: Any) -> Any:
    """Floats with four digits; no value as an empty field."""
    return f"{value:.4g}" if isinstance(value, float) else value
