"""What all commands that classify videos share: options, checks and output."""

import argparse
from typing import Any


def add_predictions(parser: argparse.ArgumentParser, json_note: str = "") -> None:
    """Options that say which predictions are shown and written, and where to.

    Args:
        parser: of the command.
        json_note: how the help of --json goes on.
    """
    add = parser.add_argument
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
        help="write the predictions to FILE as JSON; - prints JSON, not a table"
        + json_note,
    )
    add("--overwrite", action="store_true", help="replace FILE if it exists")


def videos_to_classify(args: argparse.Namespace) -> list[Any]:
    """The videos a command was given, once its predictions can be written.

    Raises:
        InputError: a video does not exist, or --json cannot be written.
    """
    from tsi_keras.evaluation.prediction_output import check_json_file
    from tsi_keras.evaluation.video_files import find_videos

    videos = find_videos(args.videos)
    if args.json:
        check_json_file(args.json, overwrite=args.overwrite, videos=videos)
    return videos
