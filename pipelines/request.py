"""Classify videos with a model that a running TF Serving serves."""

import argparse
from collections.abc import Callable

from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._predictions import add_predictions
from pipelines._predictions import videos_to_classify


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.request`."""
    parser = Parser(
        prog="python -m pipelines.request",
        description=__doc__,
        epilog="Exit status: 0 when every video was classified, 1 when some could not "
        "be (the table says why; the others are still classified), 2 on bad input, or "
        "when the server or its model is not ready.",
    )
    add = parser.add_argument
    add(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="video files, or folders: all videos below them",
    )
    _add_server(add)
    add_predictions(parser)
    return parser


def _add_server(add: Callable[..., argparse.Action]) -> None:
    """Which model is asked, and how."""
    add(
        "--server",
        required=True,
        metavar="URL",
        help="http://HOST:8501 (REST) or grpc://HOST:8500 (pip install "
        "'tsi_keras[serving]')",
    )
    add(
        "--export",
        required=True,
        metavar="DIR",
        help="folder written by pipelines.export, saved_models/NAME or a version in "
        "it; only its labels and preprocessing are read",
    )
    add("--name", help="of the model on the server (default: that of the folder)")
    add(
        "--version",
        type=int,
        metavar="N",
        help="of the model on the server (default: the one it prefers, the highest)",
    )
    add(
        "--signature",
        default="serve_jpeg",
        help="serve_jpeg sends the JPEG files of the clip's frames, serving_default "
        "its pixels, serve_example the whole record (default: %(default)s)",
    )
    add(
        "--quality",
        type=int,
        default=90,
        metavar="Q",
        help="of the JPEG frames, 1 to 100; as in pipelines.prepare "
        "(default: %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds to wait for an answer (default: %(default)g)",
    )


def main(argv: list[str] | None = None) -> int:
    """Request and print a table or JSON; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    # Imported late so that --help answers at once.
    from tsi_keras.evaluation.prediction_output import deliver
    from tsi_keras.export.exported_model import read_exported
    from tsi_keras.export.serving_client import connect
    from tsi_keras.export.serving_requests import request_videos

    videos = videos_to_classify(args)
    exported = read_exported(args.export)
    name = exported.name if args.name is None else args.name
    with connect(
        args.server, name, version=args.version, timeout=args.timeout
    ) as client:
        predictions = request_videos(
            client,
            exported,
            videos,
            signature=args.signature,
            top_k=args.top_k,
            quality=args.quality,
        )
    return deliver(predictions, args.json)


if __name__ == "__main__":
    exit_with(main)
