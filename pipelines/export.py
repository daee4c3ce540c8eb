"""Export a trained model for TF Serving, TFLite and ONNX, checked against Keras."""

import argparse
from collections.abc import Callable
from typing import Any

from pipelines._command import Parser
from pipelines._command import exit_with
from tsi_keras.utils.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipelines.export`."""
    parser = Parser(
        prog="python -m pipelines.export",
        description=__doc__,
        epilog="Writes OUTPUT/NAME/VERSION/ (signatures serving_default, serve_jpeg and "
        "serve_example, and warm-up requests), and beside it labels.txt, parity.json, "
        "serving/ with TF Serving's configuration, whose first lines tell how to start "
        "the server, and the files of --tflite and --onnx. Exit status: 0 when all "
        "exports give what the model gives, 1 when one does not or cannot be made "
        "(nothing is left behind), 2 on bad input.",
    )
    _add_places(parser.add_argument)
    _add_comparison(parser.add_argument)
    _add_saved_model_options(parser.add_argument)
    _add_other_formats(parser.add_argument)
    return parser


def _add_places(add: Callable[..., argparse.Action]) -> None:
    """What is exported, and where to."""
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
    add(
        "--overwrite",
        action="store_true",
        help="replace the version and the other files if they exist, and edited files in "
        "serving/",
    )


def _add_comparison(add: Callable[..., argparse.Action]) -> None:
    """What exports are compared on, and within what limits."""
    add(
        "--data",
        metavar="DATA",
        help="folder written by pipelines.prepare, whose clips export and model are "
        "compared on and the server is warmed up with (default: none, compare on random "
        "noise)",
    )
    add(
        "--split",
        default=argparse.SUPPRESS,
        help="part of DATA: train, val or test (default: val)",
    )
    add(
        "--clips",
        type=int,
        metavar="N",
        help="clips to compare on (default: 8; 100 of DATA for rounded or quantized "
        "numbers, which change the best class of a few)",
    )
    add(
        "--min-agreement",
        action="append",
        default=[],
        type=_share,
        metavar="KIND=SHARE",
        help="smallest share of the clips with the model's best class, for float16, "
        "bfloat16, dynamic, int8 or onnx; may be repeated (default: float16=0.99, "
        "bfloat16=0.99, dynamic=0.98, int8=0.95; float32 and onnx must give the logits "
        "to 1e-4)",
    )


def _share(text: str) -> tuple[str, float]:
    """KIND=SHARE."""
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be KIND=SHARE, such as int8=0.9. Received: {text!r}"
        ) from None


def _kinds(text: str) -> tuple[str, ...]:
    """Kinds of TFLite files; all of them by one word, none by an empty text."""
    from tsi_keras.export.tflite_conversion import KINDS

    if text == "all":
        return KINDS
    return tuple(text.split(",")) if text else ()


def _batch(text: str) -> int | None:
    """Clips per call; None for `any`."""
    if text == "any":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number of clips or any. Received: {text!r}"
        ) from None


def _add_other_formats(add: Callable[..., argparse.Action]) -> None:
    """What is written beside the SavedModel."""
    add(
        "--tflite",
        type=_kinds,
        default=(),
        metavar="KINDS",
        help="TFLite files to write, with built-in operators only: float32 "
        "(model.tflite), float16, dynamic (int8 weights), int8 (all int8, calibrated on "
        "--data; model_KIND.tflite); several with commas, or all (default: none)",
    )
    add(
        "--tflite-batch",
        type=_batch,
        default=argparse.SUPPRESS,
        metavar="N",
        help="clips per call of these files, or any; a fixed number is faster (default: 1)",
    )
    add(
        "--onnx",
        action="store_true",
        help="write model.onnx too (needs pip install 'tsi_keras[onnx]')",
    )


def _add_saved_model_options(add: Callable[..., argparse.Action]) -> None:
    """What can be done to the SavedModel."""
    add(
        "--weights",
        default="float32",
        metavar="TYPE",
        help="float16 or bfloat16 store the kernels in half the room and compute in "
        "float32; how far that moves the logits is measured and printed (default: "
        "%(default)s)",
    )
    add(
        "--fold-bn",
        action="store_true",
        help="fold batch normalisation into the convolutions: faster, logits differ by "
        "rounding (about 5e-6 of the largest; more than 1e-4 in all is not exported)",
    )
    add(
        "--no-warmup",
        action="store_true",
        help="leave out the requests that TF Serving replays while it loads the model "
        "(they need pip install 'tsi_keras[serving]')",
    )


def main(argv: list[str] | None = None) -> int:
    """Export and print the comparison; see `build_parser` for the options."""
    args = build_parser().parse_args(argv)
    _check_unused(args)
    # Imported late so that --help answers at once.
    from tsi_keras.export.onnx_file import OnnxError
    from tsi_keras.export.other_formats import OtherFormats
    from tsi_keras.export.parity import ParityError
    from tsi_keras.export.parity_report import print_report
    from tsi_keras.export.saved_model import export_saved_model
    from tsi_keras.export.saved_model import print_export
    from tsi_keras.export.tflite_conversion import TFLiteError
    from tsi_keras.utils.console import errors

    formats = OtherFormats(
        tflite=args.tflite, onnx=args.onnx, **_given(args, "tflite_batch")
    )
    try:
        folder = export_saved_model(
            args.model,
            args.output,
            name=args.name,
            version=args.version,
            data_dir=args.data,
            clips=args.clips,
            weights=args.weights,
            fold_bn=args.fold_bn,
            warmup=not args.no_warmup,
            formats=formats,
            min_agreement=dict(args.min_agreement) or None,
            overwrite=args.overwrite,
            **_given(args, "split"),
        )
    except (ParityError, TFLiteError, OnnxError) as error:
        if getattr(error, "report", None):
            print_report(error.report)
        errors.print(f"error: not exported: {error}", markup=False, style="red")
        return 1
    print_export(folder)
    return 0


def _given(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """An option without default, if it was given."""
    return {name: getattr(args, name)} if hasattr(args, name) else {}


# What exports a kind that --min-agreement can name; float32 is asked of every SavedModel.
_EXPORTED_BY = {
    "float16": "--weights float16 or --tflite float16",
    "bfloat16": "--weights bfloat16",
    "dynamic": "--tflite dynamic",
    "int8": "--tflite int8",
    "onnx": "--onnx",
}


def _check_unused(args: argparse.Namespace) -> None:
    """Raise InputError for an option given without the one it needs."""
    exported = {args.weights, *args.tflite, *(["onnx"] if args.onnx else [])}
    unused = {
        f"--min-agreement {kind}={share:g}": _EXPORTED_BY[kind]
        for kind, share in args.min_agreement
        if kind in _EXPORTED_BY and kind not in exported
    }
    if _given(args, "split") and args.data is None:
        unused[f"--split {args.split}"] = "--data DATA"
    if _given(args, "tflite_batch") and not args.tflite:
        unused["--tflite-batch"] = "--tflite KINDS"
    for option, needed in unused.items():
        raise InputError(
            f"`{option}` changes nothing without {needed}; add that, or leave it out."
        )


if __name__ == "__main__":
    exit_with(main)
