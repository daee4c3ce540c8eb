"""Pictures of what a model sees: python -m pipelines.visualize samples --help."""

import argparse

from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._command import parse_with_overrides


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.visualize`."""
    parser = Parser(prog="python -m pipelines.visualize", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    samples = commands.add_parser(
        "samples",
        help="clips as training and evaluation show them",
        description="Draw videos of a prepared data set as a training run shows them: "
        "one row per epoch with its frames, crop, flip and augmentation, and the "
        "evaluation's clip. Keys of the configuration are overridden as "
        "--section.key=value (python -m pipelines.train --help lists them).",
        epilog="Writes samples.png and samples.json. Exit status: 0, or 2 on bad input.",
        allow_abbrev=False,
    )
    add = samples.add_argument
    add("--data", required=True, help="folder written by pipelines.prepare")
    add("--output", required=True, metavar="DIR", help="folder for the picture")
    add("--config", metavar="FILE", help="YAML recipe (default: the built-in one)")
    add("--split", default="train", help="train, val or test (default: %(default)s)")
    add(
        "--videos",
        type=int,
        default=4,
        metavar="N",
        help="videos, of different classes if possible (default: %(default)s)",
    )
    add(
        "--epochs",
        type=int,
        default=3,
        metavar="N",
        help="epochs, counted from the first (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace what --output holds")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw, and say where the picture lies; see `build_parser` for the options."""
    args, overrides = parse_with_overrides(build_parser(), argv)
    # Imported late so that --help answers at once.
    from tsi_keras.data.sample_sheet import draw_samples
    from tsi_keras.training.building import clip_options
    from tsi_keras.training.config_io import load_config
    from tsi_keras.utils.console import console

    config = load_config(args.config, overrides)
    path = draw_samples(
        args.data,
        args.output,
        clip_options(config),
        split=args.split,
        videos=args.videos,
        epochs=args.epochs,
        seed=config.train.seed,
        overwrite=args.overwrite,
    )
    console.print(f"samples: {path}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    exit_with(main)
