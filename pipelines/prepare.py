"""Turn a folder or a list of labelled videos into TFRecords."""

import argparse
from collections.abc import Callable
from textwrap import shorten
from typing import Any

from pipelines._command import Parser
from pipelines._command import exit_with
from tsi_keras.data.annotations import FORMATS
from tsi_keras.data.annotations import FrameFiles
from tsi_keras.data.annotations import write_manifest
from tsi_keras.data.preparation import prepare
from tsi_keras.data.preparation_estimate import SAMPLE
from tsi_keras.data.preparation_estimate import estimate
from tsi_keras.data.preparation_options import PreparationOptions
from tsi_keras.data.preparation_page import show_verification
from tsi_keras.data.preparation_report import SPLIT_COLUMNS
from tsi_keras.data.preparation_report import PreparationReport
from tsi_keras.data.preparation_report import parse_max_failures
from tsi_keras.data.preparation_report import too_many_failures
from tsi_keras.data.shards import PreparationError
from tsi_keras.data.verification import VERIFICATION_JSON
from tsi_keras.data.verification import verify
from tsi_keras.utils.console import console
from tsi_keras.utils.console import errors
from tsi_keras.utils.console import print_table

_DEFAULTS = PreparationOptions()
_SHOWN = 10  # failures printed; the report lists all
_EXIT_STATUS = """\
exit status: 0 when all videos were prepared, or no more failed than --max-failures
allows; 1 when more failed (the data set is complete with the others and usable,
unless none could be prepared), --verify found errors, or the run broke off (go on
with --resume); 2 for bad usage or input. --verify without --input checks the finished
data set in --output; --dry-run is 0 unless the input cannot be used."""


def main(argv: list[str] | None = None) -> int:
    """Prepare a data set and return the exit status."""
    parser = _parser()
    args, args.runner_options = parser.parse_known_args(argv)
    if args.runner_options and args.runner is None:
        parser.error(f"unrecognized arguments: {' '.join(args.runner_options)}")
    args.frame_files = _frame_files(args)
    must_list = args.write_manifest is not None or not args.verify
    if args.input is None and must_list:
        parser.error("the following arguments are required: --input")
    if args.write_manifest is not None:
        return _write_manifest(args)
    if args.output is None:
        parser.error("the following arguments are required: --output")
    allowed = parse_max_failures(args.max_failures)
    if args.dry_run is not None:
        return _dry_run(args)
    try:
        failed = args.input is not None and _prepare(args, allowed)
        sound = not args.verify or _verify(args)
    except PreparationError as error:
        errors.print(f"error: {error}", markup=False, style="red")
        return 1
    return int(failed or not sound)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m pipelines.prepare",
        description=__doc__,
        epilog=_EXIT_STATUS,
        allow_abbrev=False,  # what is left over goes to Beam
    )
    add = parser.add_argument
    # fmt: off
    add("--input", metavar="DIR_OR_CSV", help="folder of class folders (class_name/video.mp4; also avi, mkv, mov, webm, ...), or CSV with a header: path,label and optionally split,group,id,start,end (seconds), whose relative paths count from its folder, or the folder of the videos of a published data set")  # noqa: E501
    add("--output", metavar="DATA", help="folder for the data set, new or empty; may be s3://, gs:// or hdfs://")  # noqa: E501
    add("--format", choices=FORMATS, help="format of the annotations (default: %(default)s, where it can be told safely)")  # noqa: E501
    add("--annotations", nargs="+", metavar="FILE_OR_DIR", help="annotation files of a published data set, or their folder; --input is then the folder of its videos; or a CSV or .jsonl manifest whose paths count from --input (default: looked for in --input)")  # noqa: E501
    add("--labels", metavar="FILE", help="list of the classes in the order of the labels: one per line, numbered as in classInd.txt, or JSON (default: the official one, else sorted)")  # noqa: E501
    add("--split-number", type=int, metavar="1-3", help="official split of UCF-101 and HMDB-51 (default: 1)")  # noqa: E501
    add("--frame-pattern", metavar="PATTERN", help="name of raw frames, such as img_{:05d}.jpg or img_%%05d.jpg (default: the one numbered series of images in each folder)")  # noqa: E501
    add("--first-frame", type=int, metavar="N", help="number of the first raw frame; a gap after it is a failure (default: the lowest there is)")  # noqa: E501
    add("--frame-fps", type=float, metavar="FPS", help="frames per second of raw frames, which do not tell it (default: 12 for Something-Something V1 and Jester)")  # noqa: E501
    add("--write-manifest", metavar="FILE", help="write the list of videos that was read to FILE (.csv or .jsonl), to be inspected, edited and given as --input, and stop; --output is not needed")  # noqa: E501
    add("--split", metavar="TRAIN/VAL/TEST", help="shares of the splits; groups (UCF101-style names _gNN_, identical files, the CSV's group) stay together; not used where the CSV gives the splits (default: %(default)s)")  # noqa: E501
    add("--seed", type=int, help="decides the split and the order (default: %(default)s)")  # noqa: E501
    add("--fps", type=_or_none(float, "all"), metavar="FPS|all", help="frames per second to store, by timestamps; 'all' stores every frame (default: %(default)s)")  # noqa: E501
    add("--frames", type=int, metavar="N", help="number of frames to store of each video, spread evenly, in place of --fps; shorter videos keep all theirs")  # noqa: E501
    add("--short-side", type=_or_none(int, "source"), metavar="PIXELS|source", help="shorter side of the stored frames, smaller videos are enlarged; 'source' keeps each file's size (default: %(default)s)")  # noqa: E501
    add("--quality", type=int, help="JPEG quality, 1 to 100 (default: %(default)s)")  # noqa: E501
    add("--min-frames", type=int, metavar="N", help="shorter videos count as failed (default: %(default)s)")  # noqa: E501
    add("--videos-per-shard", type=int, metavar="N", help="most videos in one file (default: 16 to 128 by the size of the split)")  # noqa: E501
    add("--workers", type=int, metavar="N", help="processes; the result does not depend on it (default: usable cores)")  # noqa: E501
    add("--runner", metavar="NAME", help="write the shards with this Apache Beam runner (DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ...) in place of --workers; all arguments not listed here are then options of the Beam pipeline, such as --direct_num_workers 8 or --region europe-west4")  # noqa: E501
    add("--max-failures", default="0", metavar="N|FRACTION", help="failed videos to tolerate in the exit status: a number (3) or a fraction of all (0.05); they are left out and reported in any case (default: %(default)s)")  # noqa: E501
    add("--dry-run", type=int, nargs="?", const=SAMPLE, metavar="N", help="try N videos (default: %(const)s) in memory, tell about how long all take and how large they get, and write nothing")  # noqa: E501
    add("--verify", action="store_true", help="read the finished data set whole: does every frame decode, do counts and checksums agree, is a video there twice or in two splits; goes to verification.json and report.html")  # noqa: E501
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="finish an interrupted run with the same input and options; finished shards are kept")  # noqa: E501
    group.add_argument("--retry-failed", action="store_true", help="try the videos that failed in --output again, with the same input and options, and add those that work now in shards of their own")  # noqa: E501
    group.add_argument("--overwrite", action="store_true", help="replace the data set in --output")  # noqa: E501
    # fmt: on
    parser.set_defaults(**vars(_DEFAULTS))
    return parser


def _frame_files(args: argparse.Namespace) -> FrameFiles | None:
    """Options on raw frames; `None` where none is given."""
    if args.frame_pattern is args.first_frame is args.frame_fps is None:
        return None
    return FrameFiles(args.frame_pattern, args.first_frame, fps=args.frame_fps)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What shapes the data set, as `prepare` calls it."""
    return {name: getattr(args, name) for name in vars(_DEFAULTS)}


def _write_manifest(args: argparse.Namespace) -> int:
    """Write the list of videos instead of preparing them."""
    found = PreparationOptions(**_options(args)).scan(args.input)
    path = write_manifest(found, args.write_manifest, overwrite=args.overwrite)
    for what, why in found.skipped[:_SHOWN]:
        errors.print(f"left out: {shorten(f'{what}: {why}', 240)}", markup=False)
    for note in found.notes:
        errors.print(f"note: {shorten(note, 240)}", markup=False)
    text = f"{len(found.entries)} videos of {len(found.class_names)} classes"
    if found.skipped:
        text += f" ({len(found.skipped)} entries left out)"
    text += f", read as {found.format}, classes {found.class_order}, in {path}"
    console.print(text, markup=False, soft_wrap=True)
    return 0


def _prepare(args: argparse.Namespace, allowed: int | float) -> bool:
    """Prepare and print; whether more videos failed than allowed."""
    report = prepare(
        args.input,
        args.output,
        workers=args.workers,
        runner=args.runner,
        runner_options=args.runner_options,
        overwrite=args.overwrite,
        resume=args.resume,
        retry_failed=args.retry_failed,
        **_options(args),
    )
    _print_summary(report)
    return too_many_failures(report, allowed)


def _dry_run(args: argparse.Namespace) -> int:
    """Print what the preparation would cost."""
    cost = estimate(
        args.input,
        args.output,
        sample=args.dry_run,
        workers=args.workers,
        **_options(args),
    )
    print_table("Dry run: nothing was written", ("what", "about"), cost.rows())
    for note in cost.notes[:_SHOWN]:
        errors.print(f"note: {shorten(note, 240)}", markup=False)
    for failure in cost.unreadable[:_SHOWN]:
        errors.print(f"failed: {failure.id}: {failure.reason}", markup=False)
    if cost.free_bytes is not None and cost.bytes.high > cost.free_bytes:
        errors.print("note: the shards may not fit on the disk", markup=False)
    return 0


def _verify(args: argparse.Namespace) -> bool:
    """Check the data set and print; whether it is sound."""
    outcome = verify(args.output, workers=args.workers)
    show_verification(outcome)
    for (severity, kind), number in sorted(outcome.found.items()):
        first = next(
            f for f in outcome.findings if (f.severity, f.check) == (severity, kind)
        )
        text = f"{severity}: {kind} ({number} times): {first.where}: {first.message}"
        errors.print(shorten(text, 240), markup=False)
    text = (
        f"verified {outcome.num_videos} videos in {outcome.num_shards} shards: "
        f"{outcome.number('error')} errors, {outcome.number('warning')} warnings; "
        f"listed in {outcome.folder / VERIFICATION_JSON}"
    )
    console.print(text, markup=False, soft_wrap=True)
    return outcome.is_sound


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
