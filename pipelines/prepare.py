"""Turn a folder or a list of labelled videos into TFRecords."""

import argparse
from collections.abc import Callable
from textwrap import shorten
from typing import Any

from pipelines._command import Parser
from pipelines._command import exit_with
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_report import SPLIT_COLUMNS
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_report import parse_max_failures
from tsi_keras.data.preparation_report import too_many_failures
from tsi_keras.data.shards import PreparationError
from tsi_keras.utils.console import console
from tsi_keras.utils.console import errors
from tsi_keras.utils.console import print_table

_SHOWN = 10  # failures printed; the report lists all
_EXIT_STATUS = """\
exit status: 0 when all videos were prepared, or no more failed than --max-failures
allows; 1 when more failed (the data set is complete with the others and usable,
unless none could be prepared) or the run broke off (go on with --resume); 2 for bad
usage or input."""


def main(argv: list[str] | None = None) -> int:
    """Prepare a data set and return the exit status."""
    options = vars(_parser().parse_args(argv))
    allowed = parse_max_failures(options.pop("max_failures"))
    try:
        report = prepare(options.pop("input"), options.pop("output"), **options)
    except PreparationError as error:
        errors.print(f"error: {error}", markup=False, style="red")
        return 1
    _print_summary(report)
    return int(too_many_failures(report, allowed))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m pipelines.prepare", description=__doc__, epilog=_EXIT_STATUS
    )
    add = parser.add_argument
    # fmt: off
    add("--input", required=True, metavar="DIR_OR_CSV", help="folder of class folders (class_name/video.mp4; also avi, mkv, mov, webm, ...) or CSV with a header: path,label and optionally split,group,id; its relative paths count from the CSV's folder")  # noqa: E501
    add("--output", required=True, metavar="DATA", help="folder for the data set, new or empty")  # noqa: E501
    add("--split", default="0.8/0.1/0.1", metavar="TRAIN/VAL/TEST", help="shares of the splits; groups (UCF101-style names _gNN_, identical files, the CSV's group) stay together; not used where the CSV gives the splits (default: %(default)s)")  # noqa: E501
    add("--seed", type=int, default=0, help="decides the split and the order (default: %(default)s)")  # noqa: E501
    add("--fps", type=_or_none(float, "all"), default=12.0, metavar="FPS|all", help="frames per second to store, by timestamps; 'all' stores every frame (default: %(default)s)")  # noqa: E501
    add("--short-side", type=_or_none(int, "source"), default=256, metavar="PIXELS|source", help="shorter side of the stored frames, smaller videos are enlarged; 'source' keeps each file's size (default: %(default)s)")  # noqa: E501
    add("--quality", type=int, default=90, help="JPEG quality, 1 to 100 (default: %(default)s)")  # noqa: E501
    add("--min-frames", type=int, default=2, metavar="N", help="shorter videos count as failed (default: %(default)s)")  # noqa: E501
    add("--videos-per-shard", type=int, metavar="N", help="most videos in one file (default: 16 to 128 by the size of the split)")  # noqa: E501
    add("--workers", type=int, metavar="N", help="processes; the result does not depend on it (default: number of CPUs)")  # noqa: E501
    add("--max-failures", default="0", metavar="N|FRACTION", help="failed videos to tolerate in the exit status: a number (3) or a fraction of all (0.05); they are left out and reported in any case (default: %(default)s)")  # noqa: E501
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="finish an interrupted run with the same input and options; finished shards are kept")  # noqa: E501
    group.add_argument("--overwrite", action="store_true", help="replace the data set in --output")  # noqa: E501
    # fmt: on
    return parser


def _or_none(number: Callable[[str], Any], word: str) -> Callable[[str], Any]:
    """An argparse type: `number`, or `None` for `word`."""

    def parse(text: str) -> Any:
        return None if text == word else number(text)

    parse.__name__ = f"number or '{word}'"
    return parse


def _print_summary(report: PreparationReport) -> None:
    """One table, then what went wrong."""
    folder = report.info.folder
    print_table(f"Data set {folder}", SPLIT_COLUMNS, report.split_rows())
    for note in report.notes[:_SHOWN]:
        errors.print(f"note: {shorten(note, 240)}", markup=False)
    for failure in report.failures[:_SHOWN]:
        errors.print(f"failed: {failure.id}: {failure.reason}", markup=False)
    text = f"prepared {report.num_prepared} of {report.num_videos} videos"
    if report.failures:
        text += "; failures listed in"
    else:
        text += "; report in"
    console.print(f"{text} {report.html_path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    exit_with(main)
