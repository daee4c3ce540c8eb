"""The report of a preparation: what was stored, what failed and why."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.preparation_state import REPORT_HTML
from tsi_keras.data.preparation_state import REPORT_JSON
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_text


@dataclass(frozen=True)
class Failure:
    """One video that was left out, and why."""

    id: str
    path: str
    label: str
    split: str
    reason: str


def last_failures(sidecars: Iterable[Mapping[str, Any]]) -> list[Failure]:
    """The videos that failed; of several attempts at one, the last counts.

    Args:
        sidecars: what `write_shard` gave, in the order of the attempts.

    Returns:
        The failures, sorted by id.
    """
    last = {}
    for sidecar in sidecars:
        last.update((row["id"], Failure(**row)) for row in sidecar["failures"])
        for row in sidecar["videos"]:
            last.pop(row["id"], None)
    return [last[name] for name in sorted(last)]


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
        failed = Counter(failure.split for failure in self.failures)
        for name, split in self.info.splits.items():
            videos = [row for row in self.videos if row["split"] == name]
            rows.append(
                [
                    name,
                    split.num_videos,
                    failed[name],
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
    """Write `report.json` into the data set's folder.

    Args:
        report: the report.
    """
    head = {
        "tool_version": report.info.tool_version,
        "options": report.info.options,
        "totals": report.totals(),
        "counts": {name: s.counts for name, s in report.info.splits.items()},
        "notes": report.notes,
    }
    rows = {
        "failures": map(asdict, report.failures),
        "skipped": ({"path": path, "reason": why} for path, why in report.skipped),
        "videos": report.videos,
    }
    # One row a line: `json` with indents takes ten times as long for 250,000 videos.
    text = json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}")
    for name, items in rows.items():
        lines = ",\n".join(f"    {json.dumps(i, ensure_ascii=False)}" for i in items)
        text += f',\n  "{name}": [\n{lines}\n  ]'
    write_text(report.json_path, text + "\n}\n")
