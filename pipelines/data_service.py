"""Decode clips on other hosts: python -m pipelines.data_service --help."""

import argparse
import signal
import threading

from pipelines._command import Parser
from pipelines._command import exit_with


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.data_service`."""
    parser = Parser(
        prog="python -m pipelines.data_service",
        description="Servers that decode the clips of trainings on CPU hosts: one "
        "dispatcher, and one worker on each host. They run until SIGTERM or Ctrl-C. The "
        "data set must have the same path on all of them and on the training's host. A "
        "training gets the batches it would make itself, in the same order; when it "
        "loses a server it says which and ends (exit status 75), to be resumed when "
        "that is there again.",
        epilog="Exit status: 0 when a signal ended it, 2 on bad usage.",
    )
    roles = parser.add_subparsers(dest="role", metavar="ROLE", required=True)
    dispatcher = roles.add_parser("dispatcher", help="what trainings are pointed to")
    dispatcher.add_argument(
        "--port", type=int, default=5000, help="to listen on (default: %(default)s)"
    )
    dispatcher.add_argument(
        "--workers",
        nargs="+",
        required=True,
        metavar="HOST:PORT",
        help="every worker there will be",
    )
    worker = roles.add_parser("worker", help="what decodes")
    worker.add_argument(
        "--dispatcher", required=True, metavar="HOST:PORT", help="the dispatcher"
    )
    worker.add_argument(
        "--address",
        required=True,
        metavar="HOST:PORT",
        help="under which trainings reach this worker, as the dispatcher was told",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal comes; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    from tsi_keras.data.data_service import start_dispatcher
    from tsi_keras.data.data_service import start_worker
    from tsi_keras.utils.console import console

    ended = threading.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: ended.set())
    if args.role == "dispatcher":
        server = start_dispatcher(args.port, args.workers)
        console.print(f"dispatcher on {server.target}", soft_wrap=True)
    else:
        server = start_worker(args.dispatcher, args.address)
        console.print(f"worker on {args.address}", soft_wrap=True)
    console.file.flush()
    while not ended.wait(1.0):  # seconds; signals are seen in between
        pass
    del server
    return 0


if __name__ == "__main__":
    exit_with(main)
