"""The report of a preparation: what was stored, what failed and why."""

import statistics
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.preparation_state import REPORT_HTML
from tsi_keras.data.preparation_state import REPORT_JSON
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text


@dataclass(frozen=True)
class Failure:
    """One video that was left out, and why."""

    id: str
    path: str
    label: str
    split: str
    reason: str


@dataclass
class PreparationReport:
    """What came of a preparation.

    Attributes:
        info: the data set, as in `dataset.json`.
        videos: one row per stored video: `id`, `path`, `label`, `split`, `shard`,
            `num_frames`, `fps`, `height`, `width`, `source_num_frames`,
            `source_fps`, `bytes`.
        failures: every video that was left out, by id.
        skipped: `(path, why)` of what lay in the input but is no labelled video.
        notes: what else the reader should know, one sentence each.
    """

    info: DatasetInfo
    videos: list[dict[str, Any]]
    failures: list[Failure]
    skipped: list[tuple[str, str]]
    notes: list[str]

    @property
    def num_prepared(self) -> int:
        """Videos stored."""
        return len(self.videos)

    @property
    def num_videos(self) -> int:
        """Videos listed in the input."""
        return len(self.videos) + len(self.failures)

    @property
    def json_path(self) -> Path:
        """The report for programs."""
        return self.info.folder / REPORT_JSON

    @property
    def html_path(self) -> Path:
        """The report for readers."""
        return self.info.folder / REPORT_HTML

    def totals(self) -> dict[str, Any]:
        """Numbers over all stored videos; frame counts are of stored frames."""
        frames = [row["num_frames"] for row in self.videos]
        return {
            "videos": self.num_videos,
            "prepared": self.num_prepared,
            "failed": len(self.failures),
            "frames": sum(frames),
            "frames_min": min(frames, default=0),
            "frames_median": statistics.median(frames) if frames else 0,
            "frames_max": max(frames, default=0),
            "bytes": sum(row["bytes"] for row in self.videos),
        }

    def split_rows(self) -> list[list[object]]:
        """Rows under `SPLIT_COLUMNS`, one per split."""
        rows = []
        for name, split in self.info.splits.items():
            videos = [row for row in self.videos if row["split"] == name]
            rows.append(
                [
                    name,
                    split.num_videos,
                    sum(failure.split == name for failure in self.failures),
                    sum(count > 0 for count in split.counts.values()),
                    sum(row["num_frames"] for row in videos),
                    round(sum(row["bytes"] for row in videos) / 1e6, 2),
                    len(split.shards),
                ]
            )
        return rows


SPLIT_COLUMNS = ("split", "videos", "failed", "classes", "frames", "MB", "shards")


def parse_max_failures(text: str) -> int | float:
    """Read a number of videos (`"3"`) or a fraction of them (`"0.05"`).

    Args:
        text: a whole number, or a decimal number from 0.0 to 1.0.

    Returns:
        `int` for a number, `float` for a fraction.

    Raises:
        InputError: `text` is neither.
    """
    try:
        value = int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        value = -1
    if value < 0 or (isinstance(value, float) and not value <= 1):
        raise InputError(
            "`--max-failures` must be a number of videos such as 3, or a fraction "
            f"from 0.0 to 1.0 such as 0.05. Received: {text!r}"
        )
    return value


def too_many_failures(report: PreparationReport, allowed: int | float) -> bool:
    """Whether more videos failed than `allowed`.

    Args:
        report: the report.
        allowed: number of videos (`int`) or fraction of all (`float`).
    """
    limit = allowed * report.num_videos if isinstance(allowed, float) else allowed
    return len(report.failures) > limit


def write_report(report: PreparationReport) -> None:
    """Write `report.json` and `report.html` into the data set's folder.

    Args:
        report: the report.
    """
    content = {
        "tool_version": report.info.tool_version,
        "options": report.info.options,
        "totals": report.totals(),
        "counts": {name: s.counts for name, s in report.info.splits.items()},
        "failures": [asdict(failure) for failure in report.failures],
        "skipped": [{"path": path, "reason": why} for path, why in report.skipped],
        "notes": report.notes,
        "videos": report.videos,
    }
    write_json(report.json_path, content)
    write_text(report.html_path, render_html(report))


_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Preparation of $name</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
       padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left;
         vertical-align: top; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bad { color: #a00; }
</style></head><body>
<h1>Preparation of $name</h1>
<p class="$mood">$headline</p>
$sections
</body></html>
"""
)


def render_html(report: PreparationReport) -> str:
    """Return the report as one HTML page without outside references.

    Args:
        report: the report.
    """
    failed = len(report.failures)
    headline = f"Prepared {report.num_prepared} of {report.num_videos} videos"
    headline += f"; {failed} failed, listed below." if failed else "; none failed."
    class_header, class_rows = _class_table(report)
    sections = [
        _section("Failed videos", ("video", "class", "split", "reason"), [
            (f.id, f.label, f.split, f.reason) for f in report.failures
        ]),
        _section("Worth knowing", ("note",), [(note,) for note in report.notes]),
        _section("Splits", SPLIT_COLUMNS, report.split_rows()),
        _section("Stored videos per class", class_header, class_rows),
        _section("Totals", ("what", "number"), report.totals().items()),
        _section("Options", ("option", "value"), report.info.options.items()),
        _section("Not read", ("path", "why"), report.skipped),
        _section("Shards", ("file", "videos", "SHA-256"), [
            (shard.name, shard.num_videos, shard.sha256)
            for split in report.info.splits.values() for shard in split.shards
        ]),
    ]  # fmt: skip
    return _PAGE.substitute(
        name=escape(report.info.folder.name),
        mood="bad" if failed else "good",
        headline=escape(headline),
        sections="\n".join(section for section in sections if section),
    )


def _class_table(
    report: PreparationReport,
) -> tuple[Sequence[str], list[list[object]]]:
    """Header and rows: stored videos of each class by split, and failed ones."""
    splits = report.info.splits
    rows = []
    for name in report.info.class_names:
        counts = [split.counts[name] for split in splits.values()]
        failed = sum(failure.label == name for failure in report.failures)
        rows.append([name, *counts, failed])
    return ("class", *splits, "failed"), rows


def _section(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """A heading and a table; nothing without rows."""
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f"<h2>{escape(title)}</h2>\n<table><tr>{head}</tr>\n{body}</table>"


def _cell(value: object) -> str:
    """One table cell; numbers to the right."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape('not set' if value is None else str(value))}</td>"
