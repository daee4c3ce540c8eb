"""Measure speed: python -m pipelines.benchmark data --help."""

import argparse
import shlex
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path

from pipelines._benchmark_export import add_export_topics
from pipelines._benchmark_output import add_common
from pipelines._benchmark_output import check
from pipelines._benchmark_output import claim
from pipelines._benchmark_output import show
from pipelines._benchmark_output import write
from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._command import parse_with_overrides
from tsi_keras.utils.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.benchmark`."""
    parser = Parser(
        prog="python -m pipelines.benchmark",
        description="Measure speed; medians after a warm-up.",
        epilog="Exit status: 0 when it was measured, 1 when requests to a server "
        "failed or were answered wrongly, 2 on bad usage or input.",
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    _add_data(topics)
    _add_prepare(topics)
    _add_augmentation(topics)
    add_export_topics(topics)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure what was asked for; see `build_parser` for the options."""
    args, args.overrides = parse_with_overrides(build_parser(), argv)
    if args.overrides and (args.topic != "data" or args.config is None):
        raise InputError(
            "Keys of a configuration are for `benchmark data --config FILE`. Received: "
            f"{args.overrides[0]}"
        )
    words = sys.argv[1:] if argv is None else argv
    args.command = shlex.join(["python", "-m", "pipelines.benchmark", *words])
    check(args)
    return args.measure(args) or 0


def _add_data(topics) -> None:
    """Sub-command `data`."""
    data = topics.add_parser(
        "data",
        help="clips per second of the training input, and where the time goes",
        description="Measure the training input of a prepared data set: clips per "
        "second, what reading, parsing, decoding, augmenting and the transfer to a GPU "
        "take, how it compares with tf.io.decode_jpeg alone, and whether a training "
        "will wait for data.",
    )
    source = data.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DATA", help="output of pipelines.prepare")
    source.add_argument(
        "--synthetic",
        action="store_true",
        help="measure with 128 synthetic videos of 340x256 (made anew, as for "
        "results/input_pipeline.csv)",
    )
    data.add_argument(
        "--grain",
        nargs="+",
        type=float,
        default=[3.0],
        metavar="LEVELS",
        help="with --synthetic: noise of the frames in grey levels; several are measured "
        "one after the other (default: 3, frames of 19 KB)",
    )
    data.add_argument(
        "--resize-on",
        nargs="+",
        metavar="WHERE",
        help="host, device or both, one after the other: who resizes the crops (default: "
        "as in --config, else host)",
    )
    data.add_argument(
        "--config",
        metavar="FILE",
        help="take clips and batch size from this recipe; "
        "--section.key=value changes one of its keys",
    )
    data.add_argument(
        "--batch-size", type=int, metavar="N", help="clips per batch (default: 8)"
    )
    data.add_argument(
        "--cache",
        default="none",
        metavar="WHERE",
        help="none, memory or a folder to copy the shards to (default: %(default)s)",
    )
    needed = data.add_mutually_exclusive_group()
    needed.add_argument(
        "--clips-per-second",
        type=float,
        metavar="N",
        help="what the training takes; says whether it will wait for data",
    )
    needed.add_argument(
        "--measure-training",
        action="store_true",
        help="measure that, with a few steps of the model in --config",
    )
    needed.add_argument(
        "--run", metavar="RUN", help="read that from the log of this training"
    )
    data.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="duration of a measurement (default: %(default)s)",
    )
    add_common(data, repeats=5)
    data.set_defaults(measure=_measure_data)


def _add_prepare(topics) -> None:
    """Sub-command `prepare`."""
    prepare = topics.add_parser(
        "prepare", help="preparation of videos against a bare decode loop"
    )
    prepare.add_argument("videos", nargs="+", metavar="VIDEO", help="files to decode")
    prepare.add_argument(
        "--workers", type=int, default=2, help="processes (default: %(default)s)"
    )
    add_common(prepare, repeats=5)
    prepare.set_defaults(measure=_measure_preparation)


def _add_augmentation(topics) -> None:
    """Sub-command `augmentation`."""
    augmentation = topics.add_parser(
        "augmentation", help="what each augmentation costs beside a multi-scale crop"
    )
    add_common(augmentation, repeats=15)
    augmentation.set_defaults(measure=_measure_augmentation)


def _measure_data(args: argparse.Namespace) -> None:
    from tsi_keras.data.benchmark_input import describe_wait_for_data
    from tsi_keras.utils.console import console

    if args.measure_training and (args.config is None or args.data is None):
        raise InputError("`--measure-training` needs --config FILE and --data DATA.")
    choices, batch_size = _clips(args)
    needs = {clips.resize_on: _needed(args, clips.resize_on) for clips in choices}
    output = claim(args)
    rows = []
    for grain in args.grain if args.synthetic else [None]:
        with _records(args.data, grain) as (folder, name):
            for options in choices:
                place = options.resize_on
                speed = _input_speed(args, folder, options, batch_size)
                rows += [_row(step, name, place, speed) for step in speed.steps]
                _print_speed(speed, f"{name}, crops resized on the {place}")
                if needs[place] is not None:
                    verdict = describe_wait_for_data(
                        speed.clips_per_second, needs[place]
                    )
                    console.print(verdict, soft_wrap=True)
    write(output, "input_pipeline", rows, needed_clips_per_second=needs)


@contextmanager
def _records(data: str | None, grain: float | None):
    """The data set to measure, and how to call it."""
    from tsi_keras.data.benchmark_records import BenchmarkRecords
    from tsi_keras.data.benchmark_records import write_benchmark_records

    if data is not None:
        yield data, Path(data).name
        return
    with tempfile.TemporaryDirectory() as folder:
        options = BenchmarkRecords(grain=grain)
        yield write_benchmark_records(folder, options), f"synthetic, grain {grain:g}"


def _clips(args: argparse.Namespace):
    """The clips to measure with, one by one, and how many make a batch."""
    from tsi_keras.data.clip_options import ClipOptions

    options, batch_size = ClipOptions(), 8
    if args.config is not None:
        from tsi_keras.training.building import clip_options

        config = _config(args)
        options, batch_size = clip_options(config), config.train.batch_size
    places = args.resize_on or [options.resize_on]
    choices = [replace(options, resize_on=place) for place in places]
    return choices, args.batch_size or batch_size


def _config(args: argparse.Namespace, *overrides: str):
    """The configuration that was named, with other values."""
    from tsi_keras.training.config_io import load_config

    return load_config(args.config, [*args.overrides, *overrides])


def _input_speed(args: argparse.Namespace, folder: str, options, batch_size: int):
    """Measure one data set."""
    from tsi_keras.data.benchmark_input import benchmark_input

    return benchmark_input(
        folder,
        options,
        batch_size=batch_size,
        cache=args.cache,
        seconds=args.seconds,
        repeats=args.repeats,
    )


def _needed(args: argparse.Namespace, place: str) -> float | None:
    """Clips per second of the training in question."""
    if args.run is not None:
        from tsi_keras.training.speed import logged_training_speed

        return logged_training_speed(args.run)
    if args.measure_training:
        from tsi_keras.data.dataset_info import load_dataset_info
        from tsi_keras.training.speed import measure_training_speed

        config = _config(args, f"data.resize_on={place}")
        return measure_training_speed(config, load_dataset_info(args.data))
    return args.clips_per_second


def _row(step, records: str, place: str, speed) -> dict[str, object]:
    """One line of the CSV."""
    return {
        "records": records,
        "resize_on": place,
        "kb_per_frame": speed.frame_bytes / 1000,
        **asdict(step),
        "pipeline_to_bare_decode": speed.ratio,
        "the_same_in_cpu_time": speed.cpu_ratio,
    }


def _print_speed(speed, name: str) -> None:
    """The table on the terminal."""
    from tsi_keras.data.benchmark_input import BARE
    from tsi_keras.utils.console import console
    from tsi_keras.utils.console import print_table

    rows = [
        (
            step.step,
            step.clips_per_second,
            step.cpu_ms_per_clip,
            "" if step.share is None else f"{step.share:.0%}",
        )
        for step in speed.steps
    ]
    columns = ("up to and with", "clips/s", "CPU ms/clip", "share of the time")
    print_table(f"Input pipeline: {name}", columns, rows)
    console.print(
        f"{speed.clips_per_second:.0f} clips/s; without the transfer {speed.ratio:.2f} "
        f"of {BARE} ({speed.cpu_ratio:.2f} by processor time)",
        soft_wrap=True,
    )


def _measure_preparation(args: argparse.Namespace) -> None:
    from tsi_keras.data.benchmark_preparation import benchmark_preparation
    from tsi_keras.data.benchmark_preparation import check_measurable

    numbers = {"workers": args.workers, "repeats": args.repeats}
    check_measurable(args.videos, **numbers)  # --overwrite must remove nothing before
    output = claim(args)
    rows = benchmark_preparation(args.videos, **numbers)
    show(rows, "Preparation")
    write(output, "preparation", rows)


def _measure_augmentation(args: argparse.Namespace) -> None:
    from tsi_keras.data.benchmark_augmentation import benchmark_augmentation

    output = claim(args)
    rows = benchmark_augmentation(args.repeats)
    show(rows, "Augmentation")
    write(output, "augmentation", rows)


if __name__ == "__main__":
    exit_with(main)
