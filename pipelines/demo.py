"""The whole job from nothing: videos, records, training, evaluation, export, prediction.

Runs the other commands one after the other, as anyone would type them, and compares a
small TSI with a TSN of the same size and budget.
"""

import argparse
import csv
import json
import os
import shlex
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._command import run
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = ("tsi", "tsn")
SUMMARY = "summary.json"
RESULTS = "results.csv"


class StepFailed(Exception):
    """A command of the demo ended with another status than the demo accepts."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.demo`."""
    parser = Parser(
        prog="python -m pipelines.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Videos in the folder named by the variable TSI_REAL_VIDEOS, if it is "
        "set, are classified\ntoo: a check of the decoder, for the model knows "
        "synthetic classes only.",
    )
    add = parser.add_argument
    add("--output", default="demo", help="folder for everything (default: %(default)s)")
    add(
        "--videos-per-class",
        type=int,
        default=120,
        metavar="N",
        help="synthetic videos of each class (default: %(default)s)",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes for videos (default: all cores)",
    )
    add(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="some of the classes (default: all)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a configuration key of both trainings, as in pipelines.train",
    )
    add(
        "--expect-margin",
        type=float,
        metavar="POINTS",
        help="fail unless TSI beats TSN by so many points of top-1",
    )
    add("--overwrite", action="store_true", help="replace an earlier demo in --output")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo and print its summary."""
    args = build_parser().parse_args(argv)
    start = time.perf_counter()
    root = claim_output(
        args.output, overwrite=args.overwrite, marks=["videos", SUMMARY]
    )
    try:
        seconds = _run_steps(root, args)
    except StepFailed as error:
        console.print(f"error: {error}", markup=False, style="red")
        return 1
    seconds["everything"] = time.perf_counter() - start
    return _summarize(root, seconds, args.expect_margin)


def _run_steps(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """All commands in order; seconds by name."""
    seconds = {}
    for name, module, arguments, accepted in _steps(root, args):
        started = time.perf_counter()
        words = [str(word) for word in arguments]
        command = f"$ python -m {module} {shlex.join(words)}"
        console.print(f"\n{command}", markup=False, style="bold", soft_wrap=True)
        status = run(_main_of(module), words)
        if status not in accepted:
            raise StepFailed(f"{module} ended with status {status}")
        seconds[name] = time.perf_counter() - started
    return seconds


def _main_of(module: str) -> Callable[[list[str] | None], int]:
    """The entry point, imported late: TensorFlow takes seconds."""
    target = f"{module}.__main__" if module == "tsi_keras.data.synthetic" else module
    return import_module(target).main


def _steps(root: Path, args: argparse.Namespace):
    """Name, module, arguments and accepted exit statuses of each command."""
    videos, data = root / "videos", root / "data"
    workers = ["--workers", args.workers] if args.workers else []
    classes = ["--classes", *args.classes] if args.classes else []
    count = ["--videos-per-class", args.videos_per_class]
    overrides = [f"--{text}" for text in args.set]
    yield (
        "videos",
        "tsi_keras.data.synthetic",
        ["--output", videos, *count, *workers, *classes],
        {0},
    )
    split = ["--short-side", 54, "--split", "0.7/0.1/0.2"]
    yield (
        "records",
        "pipelines.prepare",
        ["--input", videos, "--output", data, *split, *workers],
        {0},
    )
    for model in MODELS:
        config = ["--config", CONFIGS / f"demo_{model}.yaml", "--data", data]
        output = ["--output", root / "runs" / model]
        yield (
            f"training {model}",
            "pipelines.train",
            [*config, *output, *overrides],
            {0},
        )
    for model in MODELS:
        chosen = ["--model", root / "runs" / model, "--data", data, "--split", "test"]
        output = ["--output", root / "evaluation" / model]
        yield (
            f"evaluation {model}",
            "pipelines.evaluate",
            [*chosen, *output, "--sheet-clips", 7],
            {0},
        )
    tsi = ["--model", root / "runs" / "tsi"]
    checked = ["--data", data, "--split", "test"]
    yield (
        "export",
        "pipelines.export",
        [*tsi, *checked, "--output", root / "saved_models"],
        {0},
    )
    yield "prediction", "pipelines.predict", [_held_out_clip(root), *tsi], {0}
    real = os.environ.get("TSI_REAL_VIDEOS")
    if real:
        # Status 1 tells of files that cannot be decoded; one of the clips is meant to be.
        arguments = [real, *tsi, "--top-k", 1, "--json", root / "real_videos.json"]
        yield "real videos", "pipelines.predict", arguments, {0, 1}


def _held_out_clip(root: Path) -> Path:
    """The first video of the test split."""
    with open(root / "evaluation" / "tsi" / "videos.csv", encoding="utf-8") as file:
        return root / "videos" / next(csv.DictReader(file))["id"]


def _summarize(root: Path, seconds: dict[str, float], expected: float | None) -> int:
    """Print and write the outcome; 1 when TSI is not ahead as far as expected."""
    metrics = {
        model: json.loads((root / "evaluation" / model / "metrics.json").read_text())
        for model in MODELS
    }
    top1 = {model: 100 * metrics[model]["metrics"]["top1"] for model in MODELS}
    margin = top1["tsi"] - top1["tsn"]
    write_json(
        root / SUMMARY,
        {"top1_percent": top1, "margin_points": margin, "seconds": seconds},
    )
    _write_results(root, top1, seconds)
    print_table(
        "Time", ["step", "seconds"], [(k, round(v, 1)) for k, v in seconds.items()]
    )
    rows = [(model, f"{top1[model]:.1f} %") for model in MODELS]
    print_table("Top-1 on held-out videos", ["model", "top-1"], rows)
    print_table("Where everything lies", ["what", "path"], _places(root))
    console.print(f"TSI is {margin:.1f} points ahead of TSN.")
    if expected is not None and margin < expected:
        console.print(f"error: expected at least {expected:g} points.", style="red")
        return 1
    return 0


def _write_results(
    root: Path, top1: dict[str, float], seconds: dict[str, float]
) -> None:
    """The figures as CSV, in the form of the repository's results/demo.csv."""
    lines = ["model,test_top1_percent,training_seconds,demo_seconds,command"]
    for model in MODELS:
        figures = (top1[model], seconds[f"training {model}"], seconds["everything"])
        shown = ",".join(f"{figure:.1f}" for figure in figures)
        lines.append(f"{model},{shown},make demo")
    write_text(root / RESULTS, "\n".join(lines) + "\n")


def _places(root: Path) -> list[tuple[str, str]]:
    places = {
        "videos, one folder per class": "videos",
        "TFRecords and their report": "data/report.html",
        "training: model, log, TensorBoard": "runs/tsi",
        "evaluation: confusion, per video": "evaluation/tsi",
        "sampled clips with predictions": "evaluation/tsi/clips.png",
        "SavedModel for TF Serving": "saved_models/tsi/1",
        "this summary": SUMMARY,
    }
    return [(what, str(root / path)) for what, path in places.items()]


if __name__ == "__main__":
    exit_with(main)
