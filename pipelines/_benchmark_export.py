"""The topics of `python -m pipelines.benchmark` that measure exports."""

import argparse

from pipelines._benchmark_output import add_common
from pipelines._benchmark_output import claim
from pipelines._benchmark_output import show
from pipelines._benchmark_output import write


def add_export_topics(topics) -> None:
    """Add the sub-commands `tflite`, `serving` and `stream`."""
    _add_tflite(topics)
    _add_serving(topics)
    _add_stream(topics)


def _add_tflite(topics) -> None:
    """Sub-command `tflite`."""
    tflite = topics.add_parser(
        "tflite", help="latency of TFLite files of ResNet-50 networks, TSI's among them"
    )
    tflite.add_argument(
        "--threads",
        nargs="+",
        type=int,
        default=[2, 1],
        metavar="N",
        help="threads of the interpreter; several are measured one after the other "
        "(default: 2 1)",
    )
    tflite.add_argument(
        "--kind",
        default="float32",
        help="float32, float16, dynamic or int8 (default: %(default)s)",
    )
    add_common(tflite, repeats=9)
    tflite.set_defaults(measure=_measure_tflite)


def _add_serving(topics) -> None:
    """Sub-command `serving`."""
    serving = topics.add_parser(
        "serving",
        help="requests per second and latency of a running TF Serving",
        description="Send clips to running servers over several connections at once: "
        "requests per second, median, p95 and p99 of the time of a request, errors, and "
        "whether each answer is that of its video.",
    )
    add = serving.add_argument
    add(
        "--export",
        required=True,
        metavar="DIR",
        help="the export that is served, saved_models/NAME or a version in it",
    )
    add(
        "--server",
        required=True,
        nargs="+",
        metavar="URL",
        help="http://HOST:8501 (REST), grpc://HOST:8500, or both of the same server",
    )
    add("--name", help="of the model on the server (default: that of the folder)")
    add(
        "--signature",
        nargs="+",
        default=["serve_jpeg"],
        help="serve_jpeg, serving_default, serve_example (default: serve_jpeg)",
    )
    add(
        "--videos",
        nargs="+",
        metavar="VIDEO",
        help="files and folders to send (default: 8 synthetic videos)",
    )
    add(
        "--requests",
        type=int,
        default=200,
        metavar="N",
        help="per measurement (default: %(default)s)",
    )
    add(
        "--connections",
        type=int,
        default=8,
        metavar="N",
        help="at the same time (default: %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds to wait for an answer (default: %(default)g)",
    )
    add_common(serving, repeats=3)
    serving.set_defaults(measure=_measure_serving)


def _add_stream(topics) -> None:
    """Sub-command `stream`."""
    stream = topics.add_parser(
        "stream",
        help="windows per second of a video as a stream, with and without reuse",
        description="Classify sliding windows of a video with untrained networks of 8 "
        "frames of 224x224: windows per second when what a network makes of single "
        "frames is computed once, and when every window is computed anew.",
    )
    stream.add_argument("video", metavar="VIDEO", help="file to classify")
    for name in ("window", "hop"):
        stream.add_argument(
            f"--{name}", type=float, metavar="SECONDS", help="as of predict --stream"
        )
    add_common(stream, repeats=3)
    stream.set_defaults(measure=_measure_stream)


def _measure_tflite(args: argparse.Namespace) -> None:
    from tsi_keras.export.benchmark_tflite import benchmark_tflite

    output = claim(args)
    rows = benchmark_tflite(args.repeats, args.threads, kind=args.kind)
    show(rows, "TFLite, one clip of 8 frames of 224x224")
    write(output, "tflite", rows)


def _measure_serving(args: argparse.Namespace) -> int:
    from tsi_keras.evaluation.video_files import find_videos
    from tsi_keras.export.benchmark_serving import benchmark_serving
    from tsi_keras.export.benchmark_serving import print_serving
    from tsi_keras.export.exported_model import read_exported

    output = claim(args)
    rows = benchmark_serving(
        args.server,
        read_exported(args.export),
        find_videos(args.videos or []),
        name=args.name,
        signatures=args.signature,
        requests=args.requests,
        connections=args.connections,
        repeats=args.repeats,
        timeout=args.timeout,
    )
    print_serving(rows)
    write(output, "serving", [{**row, "command": args.command} for row in rows])
    return 1 if any(row["errors"] or row["wrong"] for row in rows) else 0


def _measure_stream(args: argparse.Namespace) -> None:
    from tsi_keras.export.stream_benchmark import benchmark_stream

    output = claim(args)
    rows = benchmark_stream(
        args.video, window=args.window, hop=args.hop, repeats=args.repeats
    )
    hidden = ("window_seconds", "hop_seconds", "windows", "real_time_factor")
    shown = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    show(shown, "Stream")
    write(output, "streaming", rows)
