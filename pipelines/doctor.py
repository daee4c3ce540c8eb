"""Describe this installation, or every network the package knows."""

import argparse

from pipelines._command import Parser
from pipelines._command import exit_with


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.doctor`."""
    parser = Parser(
        prog="python -m pipelines.doctor",
        description=__doc__,
        epilog="Exit status: 0 when all is well, 1 when a needed package is broken, 2 on "
        "bad usage.",
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC")
    topics.add_parser(
        "environment",
        help="versions, devices, and why an optional feature is off (the default)",
    )
    models = topics.add_parser(
        "models",
        help="parameters, cost and published accuracy of every registered network",
        description="Build the registered networks with random weights and describe "
        "them; about a second each.",
    )
    models.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="networks to describe (default: all)",
    )
    models.add_argument(
        "--num-classes",
        type=int,
        default=174,
        metavar="N",
        help="classes of the head (default: %(default)s)",
    )
    models.add_argument(
        "--frame-size",
        type=int,
        default=224,
        metavar="PIXELS",
        help="side of the frames (default: %(default)s)",
    )
    models.add_argument(
        "--csv", metavar="FILE", help="also write the table; FILE must not exist"
    )
    models.add_argument(
        "--overwrite", action="store_true", help="replace an existing FILE"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print what was asked for; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    return _models(args) if args.topic == "models" else _environment()


def _environment() -> int:
    from tsi_keras.utils.console import print_table
    from tsi_keras.utils.environment import describe_environment

    findings = describe_environment()
    rows = [(f.name, f.version, f.status, f.detail) for f in findings]
    print_table("Environment", ("", "version", "status", "detail"), rows)
    return 1 if any(finding.status == "broken" for finding in findings) else 0


def _models(args: argparse.Namespace) -> int:
    from tsi_keras.models.model_cards import describe_models

    describe_models(
        args.names,
        num_classes=args.num_classes,
        frame_size=args.frame_size,
        csv_file=args.csv,
        overwrite=args.overwrite,
    )
    return 0


if __name__ == "__main__":
    exit_with(main)
