"""Export a trained model as a SavedModel for TF Serving, checked against Keras."""

import argparse

from pipelines._command import Parser
from pipelines._command import exit_with


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.export`."""
    parser = Parser(
        prog="python -m pipelines.export",
        description=__doc__,
        epilog="Writes OUTPUT/NAME/VERSION/ (signatures serving_default and "
        "serve_jpeg), and labels.txt and parity.json beside it. Exit status: 0 when "
        "the export gives the model's logits, 1 when it does not (nothing is left "
        "behind), 2 on bad input.",
    )
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="RUN_OR_FILE",
        help="folder written by pipelines.train (its best weights) or a .keras file",
    )
    add(
        "--output",
        default="saved_models",
        metavar="DIR",
        help="parent folder of all exports (default: %(default)s)",
    )
    add(
        "--name",
        help="folder of this model below DIR (default: name of the run or file)",
    )
    add(
        "--version",
        type=int,
        default=1,
        metavar="N",
        help="version folder; TF Serving serves the highest (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace the version if it exists")
    add(
        "--data",
        metavar="DATA",
        help="folder written by pipelines.prepare, whose clips export and model are "
        "compared on (default: none, compare on random noise)",
    )
    add(
        "--split",
        default="val",
        help="part of DATA: train, val or test (default: %(default)s)",
    )
    add(
        "--clips",
        type=int,
        default=8,
        metavar="N",
        help="clips to compare on (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Export and print the comparison; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    # Imported late so that --help answers at once.
    from tsi_keras.export.parity import ParityError
    from tsi_keras.export.parity import print_parity
    from tsi_keras.export.saved_model import export_saved_model
    from tsi_keras.utils.console import errors

    try:
        folder = export_saved_model(
            args.model,
            args.output,
            name=args.name,
            version=args.version,
            data_dir=args.data,
            split=args.split,
            clips=args.clips,
            overwrite=args.overwrite,
        )
    except ParityError as error:
        errors.print(f"error: not exported: {error}", markup=False, style="red")
        return 1
    print_parity(folder)
    return 0


if __name__ == "__main__":
    exit_with(main)
