"""The parity report for people: a table on the terminal, rows for a CSV."""

from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.files import read_json

_UNKNOWN = "-"


def print_parity(version_folder: str | Path) -> None:
    """Print what the `parity.json` beside a version folder says about it.

    Args:
        version_folder: as returned by `export_saved_model`. Entries of earlier versions
            of tsi_keras, without times and memory, are read too.

    Raises:
        InputError: there is no readable `parity.json`.
    """
    folder = Path(version_folder)
    report = read_json(folder.parent / "parity.json")["versions"][folder.name]
    print_report(report)
    size = report["saved_model_bytes"] / 1e6
    console.print(f"exported: {folder} ({size:.1f} MB)", markup=False, soft_wrap=True)


def print_report(report: Mapping[str, Any]) -> None:
    """Print one entry of `parity.json` as a table, and what it cannot show below."""
    # Times in batches are left to the CSV: with them 80 columns are not enough.
    columns = ["export", "max", "mean", "top-1", "ms/clip", "MB", "RAM"]
    clips = len(report["clips"])
    title = f"Differences of the logits to Keras' on {clips} clips"
    rows = [_shown(name, figures) for name, figures in _exports(report)]
    print_table(f"{title} ({report['source']})", columns, rows)
    for line in _remarks(report):
        console.print(line, markup=False, soft_wrap=True)


def export_rows(report: Mapping[str, Any], **details: Any) -> list[dict[str, Any]]:
    """One entry of `parity.json` as rows for `utils.measurements.write_measurements`.

    Args:
        report: the entry.
        details: further columns, such as `model="tsi"`, which come first.

    Returns:
        A row per export, Keras first. Memory is the growth of the process since its
        imports, with one clip at a time.
    """
    rows = []
    for name, figures in _exports(report):
        memory = _growth(figures.get("memory"))
        rows.append(
            {
                **details,
                "export": name,
                "max_difference": figures.get("max_difference"),
                "mean_difference": figures.get("mean_difference"),
                "top1_agreement": figures.get("top1_agreement"),
                "near_ties": figures.get("near_ties"),
                "ms_per_clip": figures.get("latency_ms"),
                "ms_per_clip_in_batches": figures.get("batch_ms_per_clip"),
                "megabytes": _mega(figures.get("bytes")),
                "memory_megabytes": _mega(memory),
                "clips": len(report["clips"]),
            }
        )
    return rows


def _exports(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and figures of everything compared, Keras first."""
    if "keras" in report:
        yield "Keras", report["keras"]
    saved_model = report.get("saved_model", {})
    for name, figures in report["signatures"].items():
        # Size and memory are those of the whole, told once.
        yield name, {**saved_model, **figures}
        saved_model = {}
    for kind in ("tflite", "onnx"):
        for figures in report.get(kind, {}).values():
            yield figures["file"], figures


def _shown(name: str, figures: Mapping[str, Any]) -> list[str]:
    """A line of the table."""
    share = figures.get("top1_agreement")
    return [
        name,
        _number(figures.get("max_difference"), ".1e"),
        _number(figures.get("mean_difference"), ".1e"),
        _number(share and 100 * share, ".1f", " %"),
        _number(figures.get("latency_ms"), ".1f"),
        _number(_mega(figures.get("bytes")), ".2f"),
        _number(_mega(_growth(figures.get("memory"))), ".0f"),
    ]


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the table must know."""
    for name, figures in _exports(report):
        if different := figures.get("disagreeing"):
            yield (
                f"{name}: another best class in {len(different)} clips, of which the "
                f"Keras model decides {figures['near_ties']} by less than is usually "
                "changed."
            )
    if reason := report.get("keras", {}).get("not_measured"):
        yield f"Keras answered in this process: {reason}"
    if "keras" in report:
        yield (
            "top-1: clips with the same best class; ms/clip: one clip at a time, each "
            f"export in a process of its own, {report['cores']} cores; MB: on disk; RAM: "
            "MB added to that process after its imports, all signatures together."
        )
    if report["source"] == "random":
        yield "The clips are noise: no agreement of classes was asked for (--data)."


def _growth(memory: Mapping[str, int | None] | None) -> int | None:
    """Bytes the export added to its process."""
    if not memory or memory["peak"] is None:
        return None
    return memory["peak"] - memory["after_import"]


def _mega(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _number(value: float | None, form: str, unit: str = "") -> str:
    return _UNKNOWN if value is None else f"{value:{form}}{unit}"
