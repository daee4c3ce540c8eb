"""What all topics of `python -m pipelines.benchmark` share: options and files."""

import argparse
from pathlib import Path

# What the topics call their files.
_FIGURES = (
    "input_pipeline",
    "preparation",
    "augmentation",
    "tflite",
    "serving",
    "streaming",
)
_MARKS = [f"{name}.json" for name in _FIGURES]
# Options and arguments that name what is read.
_INPUTS = ("data", "export", "config", "run", "video", "videos")


def add_common(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Options of all sub-commands."""
    parser.add_argument(
        "--repeats",
        type=int,
        default=repeats,
        help="measurements of each kind, in turns (default: %(default)s)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the figures as CSV and JSON"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what --output holds"
    )


def show(rows: list[dict[str, object]], title: str) -> None:
    """Rows as a table on the terminal; what is the same in all stands in its title."""
    from tsi_keras.utils.console import print_table

    # Names of several words, so that narrow terminals can fold them.
    words = {name: name.replace("_", " ") for name in rows[0]}
    same = {name for name in words if len(rows) > 1 and _is_constant(rows, name)}
    parts = [title] + [
        f"{words[name]} {rows[0][name]}" for name in words if name in same
    ]
    columns = [name for name in words if name not in same]
    cells = [[row[name] for name in columns] for row in rows]
    print_table(", ".join(parts), [words[name] for name in columns], cells)


def _is_constant(rows: list[dict[str, object]], name: str) -> bool:
    """Whether all rows have the same in a column."""
    return all(row[name] == rows[0][name] for row in rows)


def check(args: argparse.Namespace) -> None:
    """Refuse an output that must not be written to; nothing is touched.

    All topics do so first, before they look at what else they were given.
    """
    from tsi_keras.utils.files import check_output

    if args.output is None:
        return
    inputs = []
    for name in _INPUTS:
        given = getattr(args, name, None) or []
        inputs += [given] if isinstance(given, str) else given
    check_output(args.output, overwrite=args.overwrite, marks=_MARKS, inputs=inputs)


def claim(args: argparse.Namespace) -> Path | None:
    """The folder to write to, claimed before anything is measured."""
    from tsi_keras.utils.files import claim_output

    if args.output is None:
        return None
    return claim_output(args.output, overwrite=args.overwrite, marks=_MARKS)


def write(output: Path | None, name: str, rows, **details) -> None:
    """The figures, with the machine they are of."""
    if output is None:
        return
    import tensorflow as tf

    from tsi_keras.utils.console import console
    from tsi_keras.utils.cores import available_cores
    from tsi_keras.utils.measurements import write_measurements

    machine = {"cores": available_cores(), "tensorflow": tf.__version__}
    path = write_measurements(output, name, rows, **machine, **details)
    console.print(f"figures in {path}", soft_wrap=True)
