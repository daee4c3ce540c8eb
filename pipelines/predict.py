"""Classify videos with a trained model."""

import argparse

from pipelines._command import Parser
from pipelines._command import exit_with


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.predict`."""
    parser = Parser(
        prog="python -m pipelines.predict",
        description=__doc__,
        epilog="Exit status: 0 when every video was classified, 1 when some could not "
        "be (the table says why; the others are still classified), 2 on bad input.",
    )
    add = parser.add_argument
    add(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="video files, or folders: all videos below them",
    )
    add(
        "--model",
        required=True,
        metavar="RUN_OR_FILE",
        help="folder written by pipelines.train (its best weights) or a .keras file",
    )
    add(
        "--top-k",
        type=int,
        default=5,
        metavar="K",
        help="most probable classes to show per video (default: %(default)s)",
    )
    add(
        "--json",
        metavar="FILE",
        help="write the predictions to FILE as JSON; - prints JSON, not a table",
    )
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    add(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="clips per step; does not change the result (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict and print a table or JSON; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    # Imported late so that --help answers at once.
    from tsi_keras.evaluation.predict import check_json_file
    from tsi_keras.evaluation.predict import deliver
    from tsi_keras.evaluation.predict import find_videos
    from tsi_keras.evaluation.predict import predict_videos
    from tsi_keras.models.loading import load_classifier

    if args.json:
        check_json_file(args.json, overwrite=args.overwrite)
    videos = find_videos(args.videos)
    predictions = predict_videos(
        load_classifier(args.model),
        videos,
        top_k=args.top_k,
        batch_size=args.batch_size,
    )
    return deliver(predictions, args.json)


if __name__ == "__main__":
    exit_with(main)
