"""Write a synthetic action data set: `python -m tsi_keras.data.synthetic --help`."""

import argparse
import sys
import textwrap
import time
from dataclasses import fields

from tsi_keras.data.synthetic.motions import CLASSES
from tsi_keras.data.synthetic.motions import MOTIONS
from tsi_keras.data.synthetic.options import SyntheticOptions
from tsi_keras.data.synthetic.writing import write_dataset
from tsi_keras.utils.command import run
from tsi_keras.utils.console import console
from tsi_keras.utils.cores import available_cores

_DESCRIPTION = """\
Write a folder of short H.264 videos (OUTPUT/class_name/class_name_00000.mp4) in which
a textured object acts before a textured background while the camera moves. Looks are
independent of the class, and single frames look alike in all classes: only the order
of the frames tells what happens.

classes:
"""


def main(argv: list[str] | None = None) -> int:
    """Parse `argv`, write the data set and print where it lies.

    Args:
        argv: arguments without the program's name; those of the process when `None`.

    Returns:
        0.

    Raises:
        InputError: an argument is out of range or the output folder is in use.
    """
    arguments = vars(_parser().parse_args(argv))
    options = SyntheticOptions(
        **{f.name: arguments.pop(f.name) for f in fields(SyntheticOptions)}
    )
    start = time.perf_counter()
    folder = write_dataset(arguments.pop("output"), options, **arguments)
    seconds = time.perf_counter() - start
    count = len(options.classes) * arguments["videos_per_class"]
    console.print(
        f"{count} videos of {len(options.classes)} classes in {folder} "
        f"({seconds:.1f} s, {count / seconds:.0f} videos/s)",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    """The command line; option names are those of `SyntheticOptions`."""
    parser = argparse.ArgumentParser(
        prog="python -m tsi_keras.data.synthetic",
        description=_DESCRIPTION + textwrap.indent(_class_list(), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_set_arguments(parser)
    _add_clip_arguments(parser.add_argument_group("clips"), SyntheticOptions())
    return parser


def _add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments about the set as a whole."""
    add = parser.add_argument
    add("--output", required=True, metavar="DIR", help="folder to fill")
    add("--videos-per-class", type=int, default=100, metavar="N", help="default: 100")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="another seed gives other videos; the same one the same (default: 0)",
    )
    add(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="processes; the videos do not depend on it (default: one per core)",
    )
    add("--overwrite", action="store_true", help="remove what DIR holds first")


def _add_clip_arguments(
    group: argparse._ArgumentGroup, default: SyntheticOptions
) -> None:
    """Arguments about each clip."""
    add = group.add_argument
    add(
        "--width",
        type=int,
        default=default.width,
        metavar="PIXELS",
        help=f"frame width, even, at least 32 (default: {default.width})",
    )
    add(
        "--height",
        type=int,
        default=default.height,
        metavar="PIXELS",
        help=f"frame height, even, at least 32 (default: {default.height})",
    )
    add(
        "--num-frames",
        type=int,
        default=default.num_frames,
        metavar="N",
        help=f"frames per clip, at least 8 (default: {default.num_frames})",
    )
    add(
        "--fps",
        type=float,
        default=default.fps,
        metavar="RATE",
        help=f"frames per second in the files (default: {default.fps:g})",
    )
    add(
        "--camera-motion",
        type=float,
        default=default.camera_motion,
        metavar="RATIO",
        help="largest camera travel relative to a moving object's mean travel, 0 to 1 "
        f"(default: {default.camera_motion:g})",
    )
    add(
        "--classes",
        nargs="+",
        default=CLASSES,
        metavar="NAME",
        help="write these classes only (default: all)",
    )
    add(
        "--crf",
        type=int,
        default=default.crf,
        metavar="N",
        help=f"H.264 quality, 0 (lossless) to 51 (default: {default.crf})",
    )


def _class_list() -> str:
    """One line per class."""
    return "\n".join(f"{name:25}{m.description}" for name, m in MOTIONS.items())


if __name__ == "__main__":
    sys.exit(run(main))
