"""Classify videos with a trained model."""

import argparse
from functools import partial

from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._predictions import add_predictions
from pipelines._predictions import videos_to_classify
from tsi_keras.utils.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.predict`."""
    parser = Parser(
        prog="python -m pipelines.predict",
        description=__doc__,
        epilog="Exit status: 0 when every video was classified, 1 when some could not "
        "be (the table says why; the others are still classified) or a stream failed on "
        "its way, 2 on bad input, 130 and 143 when Ctrl-C and SIGTERM ended a stream.",
    )
    add = parser.add_argument
    add(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="video files, or folders: all videos below them; with --stream one file, "
        "camera number or address",
    )
    add(
        "--model",
        required=True,
        metavar="RUN_OR_FILE",
        help="folder written by pipelines.train (its best weights) or a .keras file",
    )
    add_predictions(
        parser, ". With --stream one JSON object per line, each written at once"
    )
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="clips per step; does not change the result (default: 8)",
    )
    _add_stream(parser)
    return parser


def _add_stream(parser: argparse.ArgumentParser) -> None:
    """Options of --stream; those not given are not in the result."""
    group = parser.add_argument_group("streams")
    group.add_argument(
        "--stream",
        action="store_true",
        help="classify sliding windows of one video, camera (0 is /dev/video0) or "
        "address (rtsp://, http://, ...) while it is read",
    )
    add = partial(group.add_argument, default=argparse.SUPPRESS)
    add(
        "--window",
        type=float,
        metavar="SECONDS",
        help="length of a window, rounded so that windows share their sampled frames "
        "(default: 4; of models with dense sampling 64 stored frames)",
    )
    add(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="from window to window, rounded likewise (default: a quarter of a window)",
    )
    add(
        "--smooth",
        type=int,
        metavar="N",
        help="mean of the probabilities of N windows (default: 1)",
    )
    add(
        "--min-probability",
        type=float,
        metavar="P",
        help="the label is null where the best class is less probable (default: 0)",
    )
    add("--segments", action="store_true", help="merge windows of equal label")
    add("--overlay", metavar="FILE", help="write an annotated MP4, without sound")
    add(
        "--live",
        action="store_true",
        help="take an http(s) address for a live source: drop windows when the model is "
        "too slow, connect again when it ends (other addresses and cameras are live)",
    )


def main(argv: list[str] | None = None) -> int:
    """Predict and print a table or JSON; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    if args.stream:
        return _stream(args)
    if given := _STREAM_OPTIONS & set(vars(args)):
        raise InputError(f"`--{min(given).replace('_', '-')}` is for --stream only.")
    # Imported late so that --help answers at once.
    from tsi_keras.evaluation.predict import predict_videos
    from tsi_keras.evaluation.prediction_output import deliver
    from tsi_keras.models.loading import load_classifier

    videos = videos_to_classify(args)
    predictions = predict_videos(
        load_classifier(args.model),
        videos,
        top_k=args.top_k,
        batch_size=8 if args.batch_size is None else args.batch_size,
    )
    return deliver(predictions, args.json)


_STREAM_OPTIONS = {
    "window",
    "hop",
    "smooth",
    "min_probability",
    "segments",
    "overlay",
    "live",
}


def _stream(args: argparse.Namespace) -> int:
    """`--stream`: lines instead of a table."""
    if args.batch_size is not None:
        raise InputError("`--batch-size` is not for --stream: windows come one by one.")
    if len(args.videos) > 1:
        raise InputError(
            f"`--stream` takes one video, camera or address. Received {len(args.videos)}."
        )
    from tsi_keras.export.stream_command import StreamCommand
    from tsi_keras.export.stream_command import run_stream

    shared = {"top_k", "json", "overwrite"}
    given = {k: v for k, v in vars(args).items() if k in _STREAM_OPTIONS | shared}
    return run_stream(args.model, args.videos[0], StreamCommand(**given))


if __name__ == "__main__":
    exit_with(main)
