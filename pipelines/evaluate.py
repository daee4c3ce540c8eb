"""Score a trained model on a split of a prepared data set."""

import argparse

from pipelines._command import Parser
from pipelines._command import exit_with


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.evaluate`."""
    parser = Parser(
        prog="python -m pipelines.evaluate",
        description=__doc__,
        epilog="Writes metrics.json, classes.csv, confusion.csv, confusion.png, "
        "videos.csv, logits.npz and clips.png. Exit status: 0 when every video was "
        "scored, 2 on bad input.",
    )
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="RUN_OR_FILE",
        help="folder written by pipelines.train (its best weights) or a .keras file",
    )
    add(
        "--data",
        required=True,
        metavar="DATA",
        help="folder written by pipelines.prepare",
    )
    add(
        "--split",
        default="val",
        help="which part of the data: train, val or test (default: %(default)s)",
    )
    add(
        "--protocol",
        default="1x1",
        help="clips x crops per video; 1x1 is the middle clip, sampled as in the "
        "training, with the centre crop (default: %(default)s)",
    )
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for the report; must be new or empty",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace the report that --output holds",
    )
    add(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="clips per step; does not change the result (default: %(default)s)",
    )
    add(
        "--num-frames",
        type=int,
        metavar="T",
        help="frames per clip you expect; an error when the model was built for "
        "another number (default: that of the model)",
    )
    add(
        "--sheet-clips",
        type=int,
        default=6,
        metavar="N",
        help="videos shown in clips.png, 0 for no picture (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Evaluate and print the figures; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    # Imported late so that --help answers at once.
    from tsi_keras.evaluation.evaluate import evaluate
    from tsi_keras.evaluation.report import print_report
    from tsi_keras.utils.console import console

    report = evaluate(
        args.model,
        args.data,
        args.split,
        protocol=args.protocol,
        batch_size=args.batch_size,
        num_frames=args.num_frames,
        output=args.output,
        overwrite=args.overwrite,
        sheet_clips=args.sheet_clips,
    )
    print_report(report)
    console.print(f"report: {args.output}", markup=False)
    return 0


if __name__ == "__main__":
    exit_with(main)
