"""The report of a preparation as one page for readers, whatever its size."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path
from string import Template

from tsi_keras.data.preparation_report import SPLIT_COLUMNS
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_state import REPORT_HTML
from tsi_keras.data.preparation_state import REPORT_JSON
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import exists
from tsi_keras.data.remote import read_bytes
from tsi_keras.data.remote import write_bytes
from tsi_keras.data.thumbnails import Thumbnail
from tsi_keras.data.verification import VERIFICATION_JSON
from tsi_keras.data.verification import Verification
from tsi_keras.utils.files import write_text
from tsi_keras.utils.urls import is_remote

MOST_ROWS = 500  # of any table: the page of 250,000 videos must open on a phone
_BARS = 20
_BEGIN, _END = "<!-- verification -->", "<!-- end of verification -->"
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
.videos { display: flex; flex-wrap: wrap; gap: .75rem; margin-bottom: 1.5rem; }
.videos figure { margin: 0; max-width: 18rem; }
.videos img { height: 72px; max-width: 100%; display: block; }
.videos figcaption { font-size: 12px; overflow-wrap: anywhere; }
.bar { background: #47a; height: .8em; display: inline-block; }
</style></head><body>
<h1>Preparation of $name</h1>
<p class="$mood">$headline</p>
$sections
</body></html>
"""
)


def write_page(report: PreparationReport, thumbnails: Iterable[Thumbnail] = ()) -> None:
    """Write `report.html` into the data set's folder.

    Args:
        report: the report.
        thumbnails: stored videos to show.
    """
    write_text(report.html_path, render_html(report, thumbnails))


def render_html(report: PreparationReport, thumbnails: Iterable[Thumbnail] = ()) -> str:
    """Return the report as one HTML page without outside references.

    Args:
        report: the report.
        thumbnails: stored videos to show.
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
        _BEGIN + "<h2>Verification</h2><p>Not done yet: run pipelines.prepare with "
        "--verify.</p>" + _END,
        _gallery(thumbnails),
        _histogram(row["num_frames"] for row in report.videos),
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


def show_verification(verification: Verification) -> None:
    """Put the outcome of a check-up into `report.html`, in place of an earlier one.

    Args:
        verification: the outcome; where its folder has no report, nothing happens.
    """
    path = verification.folder / REPORT_HTML
    page = _read(path)
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        page = before + begin + _verification(verification) + end + after
        if is_remote(path):
            write_bytes(path, page.encode("utf-8"))
        else:
            write_text(path, page)


def _read(path: Path | RemotePath) -> str:
    """An earlier page; empty where there is none."""
    if is_remote(path):
        return read_bytes(path).decode("utf-8") if exists(path) else ""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _verification(verification: Verification) -> str:
    """The section on a check-up."""
    sound = verification.is_sound
    text = (
        f"{verification.num_videos:,} videos in {verification.num_shards:,} shards "
        f"read and decoded: {verification.number('error'):,} errors, "
        f"{verification.number('warning'):,} warnings. All in {VERIFICATION_JSON}."
    )
    found = [(*kind, number) for kind, number in verification.found.items()]
    rows = [(f.severity, f.check, f.where, f.message) for f in verification.findings]
    return "".join(
        (
            f'<h2>Verification</h2>\n<p class="{"good" if sound else "bad"}">',
            f"{escape(text)}</p>",
            _section("Found", ("severity", "check", "number"), found),
            _section("Findings", ("severity", "check", "where", "what"), rows),
        )
    )


def _class_table(
    report: PreparationReport,
) -> tuple[Sequence[str], list[list[object]]]:
    """Header and rows: stored videos of each class by split, and failed ones."""
    splits = report.info.splits
    failed = Counter(failure.label for failure in report.failures)
    rows = [
        [name, *(split.counts[name] for split in splits.values()), failed[name]]
        for name in report.info.class_names
    ]
    return ("class", *splits, "failed"), rows


def _gallery(thumbnails: Iterable[Thumbnail]) -> str:
    """Pictures with their names."""
    figures = [
        f'<figure><img src="{item.data_uri}" alt=""><figcaption>'
        f"<b>{escape(item.class_name)}</b> ({escape(item.split)})<br>"
        f"{escape(item.id)}</figcaption></figure>"
        for item in thumbnails
    ]
    if not figures:
        return ""
    title = f"<h2>{len(figures)} of the stored videos: first, middle, last frame</h2>"
    return f'{title}\n<div class="videos">' + "\n".join(figures) + "</div>"


def _histogram(lengths: Iterable[int]) -> str:
    """How many videos have how many frames, as bars."""
    counts = Counter(lengths)
    if not counts:
        return ""
    low = min(counts)
    width = -(-(max(counts) - low + 1) // _BARS)
    bars = Counter()
    for length, number in counts.items():
        bars[(length - low) // width] += number
    tallest = max(bars.values())
    rows = []
    for index in range(max(bars) + 1):
        first, last = low + index * width, low + (index + 1) * width - 1
        name = f"{first}" if width == 1 else f"{first} to {last}"
        bar = f'<span class="bar" style="width:{20 * bars[index] / tallest:.2f}rem">'
        rows.append(f"<tr>{_cell(name)}{_cell(bars[index])}<td>{bar}</span></td></tr>")
    head = "<tr><th>stored frames</th><th>videos</th><th></th></tr>"
    return f"<h2>Lengths</h2>\n<table>{head}\n" + "\n".join(rows) + "</table>"


def _section(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """A heading and a table of at most 500 rows; nothing without rows."""
    rows = iter(rows)
    body = "\n".join(
        f"<tr>{''.join(map(_cell, row))}</tr>" for row in islice(rows, MOST_ROWS)
    )
    if not body:
        return ""
    rest = sum(1 for _ in rows)
    more = f"<p>{rest:,} more rows in {REPORT_JSON}.</p>" if rest else ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    table = f"<table><tr>{head}</tr>\n{body}</table>"
    return f"<h2>{escape(title)}</h2>\n{table}{more}"


def _cell(value: object) -> str:
    """One table cell; numbers to the right."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape('not set' if value is None else str(value))}</td>"
