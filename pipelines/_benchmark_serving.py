"""The options of `python -m pipelines.benchmark serving`."""

import argparse


def add_serving(topics) -> argparse.ArgumentParser:
    """Add the sub-command `serving` and return its parser."""
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
    return serving
