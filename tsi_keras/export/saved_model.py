"""Write a classifier as a TensorFlow SavedModel that TF Serving takes as it is."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.export.assets import LABELS
from tsi_keras.export.assets import labels_text
from tsi_keras.export.assets import write_assets
from tsi_keras.export.comparison import Comparison
from tsi_keras.export.comparison import choose_clips
from tsi_keras.export.other_formats import NO_OTHERS
from tsi_keras.export.other_formats import OtherFormats
from tsi_keras.export.other_formats import check_formats
from tsi_keras.export.other_formats import write_formats
from tsi_keras.export.parity import print_parity
from tsi_keras.export.precision import in_float32
from tsi_keras.export.serving_files import FOLDER as SERVING
from tsi_keras.export.serving_files import MODELS
from tsi_keras.export.serving_files import write_serving_files
from tsi_keras.export.signatures import build_signatures
from tsi_keras.export.stored_weights import check_weights
from tsi_keras.export.stored_weights import stored_network
from tsi_keras.export.version_folder import PARITY
from tsi_keras.export.version_folder import check_target
from tsi_keras.export.version_folder import installed
from tsi_keras.export.version_folder import model_name
from tsi_keras.export.version_folder import record_parity
from tsi_keras.export.version_folder import workshop
from tsi_keras.export.warmup import check_warmup
from tsi_keras.export.warmup import plain_clips
from tsi_keras.export.warmup import write_warmup
from tsi_keras.models.folding import fold_batch_norm
from tsi_keras.models.folding import foldable_layers
from tsi_keras.models.loading import resolve_classifier
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import console
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_text
from tsi_keras.utils.versions import versions

# Clips to compare on; shares of the best classes need more.
_FEW, _MANY = 8, 100


def export_saved_model(
    model: VideoClassifier | str | Path,
    output: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int = 1,
    data_dir: str | Path | None = None,
    split: str = "val",
    clips: int | None = None,
    weights: str = "float32",
    fold_bn: bool = False,
    warmup: bool = True,
    formats: OtherFormats = NO_OTHERS,
    min_agreement: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Export a classifier and prove that the export does what the model does.

    `<output>/<name>/<version>/` becomes a SavedModel with three signatures, all to
    `logits` and `probabilities`, float32 `(N, num_classes)`:

    - `serving_default`: `frames` uint8 `(N, T, H, W, 3)`, cropped as in the evaluation;
    - `serve_jpeg`: `frames` string `(N, T)`, JPEG files of any size, resized and
      cropped in the graph;
    - `serve_example`: `examples` string `(N,)`, records of the prepared data or any
      `tf.train.SequenceExample` with a video's JPEG files in `image/encoded`; T of them
      are chosen in the graph as the evaluation does.

    Requests that do not fit, an empty batch and broken files are errors that name the
    problem; the next request is answered as ever.

    Its `assets/` hold `labels.txt` and `preprocessing.json`, its `assets.extra/` the
    warm-up requests. `labels.txt`, `parity.json` (one entry per version) and `serving/`
    with the configuration files of TF Serving stand beside the version folder, and so
    do TFLite and ONNX files if they are asked for. All appear under their names only
    after each, loaded in a new process that imports its runtime only, has given what
    the Keras model gives, within the limits of `parity_rules.THRESHOLDS`.

    A model of mixed precision is exported as it computes in float32; how far that is
    from what it computed so far stands in `parity.json` under `mixed_precision`.

    Args:
        model: a classifier, or a RUN folder or `.keras` file to load one from.
        output: parent folder of all exports.
        name: folder of this model; by default that of the run, the stem of the file,
            or the name of the model.
        version: version folder, 1 or more; TF Serving serves the highest.
        data_dir: prepared data whose videos the comparison and the warm-up use; without
            it the comparison uses noise, and `parity.json` says so.
        split: split of `data_dir`.
        clips: how many clips are compared; by default 8, or 100 of a data set where
            rounded numbers may change the best class of a few.
        weights: `"float16"` and `"bfloat16"` store the kernels in half the room; they
            become float32 in the graph. The export is then compared with the model of
            rounded weights, and `parity.json` says under `rounding` how far that one is
            from the original.
        fold_bn: fold BN into the convolutions, see `models.folding`. Faster, but the
            logits differ by rounding, which models of large logits may not pass.
        warmup: write requests that TF Serving replays while it loads the version.
        formats: which TFLite and ONNX files to write beside the versions.
        min_agreement: other limits for the top-1 agreement, see `measure_parity`.
        overwrite: replace the version and the other files if they exist, and edited
            files in `serving/`.

    Returns:
        The version folder.

    Raises:
        InputError: model, data, name, version or weights cannot be used, the version
            or another file exists, other versions of that name have other labels, a
            package is missing for the warm-up requests or ONNX, int8 has no data, or
            another export of that name is under way.
        ParityError: an export is not what the model is; nothing is left behind.
        TFLiteError, OnnxError: the model cannot be written so; likewise.

    Example:
        ```python
        folder = export_saved_model("runs/demo", data_dir="data/demo")
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
        print(serve(frames=clips)["probabilities"])
        ```
    """
    if clips is None:
        clips = _clips_needed(data_dir, {weights, *formats.tflite})
    _check_options(version, clips, weights, warmup)
    source, trained = resolve_classifier(model)
    model = in_float32(trained)
    options = clip_options(model)
    name = model_name(name, source, model)
    target = Path(output).expanduser().absolute() / name
    info = None if data_dir is None else load_dataset_info(data_dir)
    check = partial(_check_places, target, version, model, formats, info, overwrite)
    check()
    comparison = Comparison(
        model, options, choose_clips(model, options, info, split, clips), min_agreement
    )
    served = _folded(model) if fold_bn else model
    with workshop(target) as (shop, lock):
        check()  # Another export may have ended since.
        folder = shop / str(version)
        facts = _write_version(served, folder, name, comparison, weights, warmup)
        files = write_formats(served, shop, options, formats, info)
        parity = comparison.of_all(served, folder, weights, files)
        parity |= _provenance(model, source, folder) | {"export": facts}
        if trained is not model:
            parity["mixed_precision"] = comparison.effect_of(trained)
        moves = {path: target / path.name for path in (folder, *files.values())}
        lock.check()
        with installed(moves, overwrite=overwrite):
            write_text(target / LABELS, labels_text(model))
            write_serving_files(target, name, overwrite=overwrite)
            record_parity(target, version, parity)
    return target / str(version)


def write_saved_model(
    model: VideoClassifier,
    folder: str | Path,
    options: ClipOptions,
    *,
    weights: str = "float32",
) -> None:
    """Write the bare SavedModel with its assets; `export_saved_model` also checks it.

    Args:
        model: the classifier.
        folder: a new folder.
        options: clip length, sizes and sampling.
        weights: see `export_saved_model`.

    Raises:
        InputError: unknown `weights`, or float16 cannot hold one.
    """
    network = stored_network(model, weights)
    signatures = build_signatures(network, options, model.input_shape[2:4])
    root = tf.Module()
    for name, function in signatures.items():
        setattr(root, name, function)
    # What the network computes with and nothing else, be it the model's or smaller.
    used = signatures["serving_default"].get_concrete_function().variables
    root.network_variables = list(used)
    # Serving needs no gradients; the layers' own would be traced and stored.
    save_options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in write_assets(model, Path(temporary), options).items():
            setattr(root, name, tf.saved_model.Asset(str(path)))
        tf.saved_model.save(root, str(folder), signatures, save_options)


def _clips_needed(data_dir: str | Path | None, kinds: set[str]) -> int:
    """How many clips to compare exports of some kinds on."""
    return _FEW if data_dir is None or kinds == {"float32"} else _MANY


def _check_options(version: int, clips: int, weights: str, warmup: bool) -> None:
    """Raise InputError for what no model can be exported with."""
    check_weights(weights)
    if version < 1 or clips < 1:
        raise InputError(
            "`--version` and `--clips` must be 1 or more. "
            f"Received: {version} and {clips}"
        )
    if warmup:
        check_warmup()


def _check_places(
    target: Path,
    version: int,
    model: VideoClassifier,
    formats: OtherFormats,
    info: DatasetInfo | None,
    overwrite: bool,
) -> None:
    """Raise InputError for what may not be written beside what is there."""
    check_target(target, version, labels_text(model), overwrite=overwrite)
    has_data = info is not None
    check_formats(formats, target, version, has_data=has_data, overwrite=overwrite)


def _folded(model: VideoClassifier) -> VideoClassifier:
    """The model with BN in its convolutions."""
    try:
        if foldable_layers(model):
            return fold_batch_norm(model)
    except ValueError as error:
        raise InputError(
            f"`--fold-bn` cannot be done with {model.name!r}: {error} Export it without "
            "the option."
        ) from error
    raise InputError(
        f"`--fold-bn`: {model.name!r} has no BN right behind a convolution in float32; "
        "export it without the option."
    )


def _write_version(
    served: VideoClassifier,
    folder: Path,
    name: str,
    comparison: Comparison,
    weights: str,
    warmup: bool,
) -> dict[str, Any]:
    """Write the SavedModel; tells what was done to the model for it."""
    model = comparison.model
    write_saved_model(served, folder, comparison.options, weights=weights)
    return {
        "weights": weights,
        "warmup_requests": _write_warmup(folder, name, comparison) if warmup else 0,
        "folded_batch_norms": 0 if served is model else len(foldable_layers(model)),
    }


def _write_warmup(folder: Path, name: str, comparison: Comparison) -> int:
    """Requests of the real clips if there are some, for noise would be large."""
    chosen, options = comparison.clips, comparison.options
    is_real = chosen.source == "records"
    jpegs = chosen.jpegs if is_real else plain_clips(options)
    return write_warmup(folder, name, jpegs, options)


def _provenance(
    model: VideoClassifier, source: Path | None, folder: Path
) -> dict[str, Any]:
    """Where the export came from and how large it is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "model": {
            "file": source and str(source),
            "sha256": source and file_sha256(source),
            "name": model.name,
        },
        "saved_model_bytes": sum(path.stat().st_size for path in files),
        "versions": versions(),
    }


def print_export(version_folder: str | Path) -> None:
    """Print the comparison of an export, and what was done to the model for it."""
    folder = Path(version_folder)
    print_parity(folder)
    report = read_json(folder.parent / PARITY)["versions"][folder.name]
    facts, lines = report["export"], []
    if facts["folded_batch_norms"]:
        lines.append(f"folded: {facts['folded_batch_norms']} BN into convolutions")
    if "mixed_precision" in report:
        effect = report["mixed_precision"]
        lines.append(
            "exported in float32; logits of the mixed precision differ by up to "
            f"{effect['max_difference']:.2e}"
        )
    if "rounding" in report:
        effect = report["rounding"]
        lines.append(
            f"{facts['weights']} weights change the logits by up to "
            f"{effect['max_difference']:.2e}; the top-1 class stays in "
            f"{100 * effect['top1_agreement']:.0f} % of the clips ({report['source']})"
        )
    lines.append(f"warm-up requests: {facts['warmup_requests'] or 'none'}")
    lines.append(f"to serve it: {folder.parent / SERVING / MODELS}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
