"""Write a classifier as a TensorFlow SavedModel that TF Serving takes as it is."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.sampling import SAMPLING_RULES
from tsi_keras.evaluation.protocols import check_class_names
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.evaluation.report import versions
from tsi_keras.export.parity import ParityClips
from tsi_keras.export.parity import measure_parity
from tsi_keras.export.parity import random_clips
from tsi_keras.export.parity import record_clips
from tsi_keras.models.loading import CHECKPOINTS
from tsi_keras.models.loading import find_model_file
from tsi_keras.models.loading import load_classifier
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.files import read_json
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text

LABELS = "labels.txt"
PREPROCESSING = "preprocessing.json"
PARITY = "parity.json"


def export_saved_model(
    model: VideoClassifier | str | Path,
    output: str | Path = "saved_models",
    *,
    name: str | None = None,
    version: int = 1,
    data_dir: str | Path | None = None,
    split: str = "val",
    clips: int = 8,
    overwrite: bool = False,
) -> Path:
    """Export a classifier and prove that the export does what the model does.

    `<output>/<name>/<version>/` becomes a SavedModel with two signatures, both to
    `logits` and `probabilities`, float32 `(N, num_classes)`:

    - `serving_default`: `frames` uint8 `(N, T, H, W, 3)`, cropped as in the evaluation;
    - `serve_jpeg`: `frames` string `(N, T)`, JPEG files of any size, resized and
      cropped in the graph.

    Its `assets/` hold `labels.txt` and `preprocessing.json`. `labels.txt` and
    `parity.json` (one entry per version) stand beside the version folder. The folder
    appears under its name only after the SavedModel, loaded in a new process that
    imports TensorFlow only, has given the logits of the Keras model.

    Args:
        model: a classifier, or a RUN folder or `.keras` file to load one from.
        output: parent folder of all exports.
        name: folder of this model; by default that of the run, the stem of the file,
            or the name of the model.
        version: version folder, 1 or more; TF Serving serves the highest.
        data_dir: prepared data whose videos the comparison uses; without it the
            comparison uses noise, and `parity.json` says so.
        split: split of `data_dir`.
        clips: how many clips are compared.
        overwrite: replace the version if it exists.

    Returns:
        The version folder.

    Raises:
        InputError: model, data, name or version cannot be used, the version exists,
            or other versions of that name have other labels.
        ParityError: the SavedModel does not reproduce the model's logits; nothing is
            left behind.

    Example:
        ```python
        folder = export_saved_model("runs/demo", data_dir="data/demo")
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
        print(serve(frames=clips)["probabilities"])
        ```
    """
    if version < 1 or clips < 1:
        raise InputError(
            "`--version` and `--clips` must be 1 or more. "
            f"Received: {version} and {clips}"
        )
    source = None
    if isinstance(model, str | Path):
        source, model = find_model_file(model), load_classifier(model)
    options = clip_options(model)
    target = Path(output).expanduser().absolute() / _name(name, source, model)
    _check_target(target, version, _labels(model), overwrite=overwrite)
    chosen = _parity_clips(model, options, data_dir, split, clips)
    with _workshop(target) as workshop:
        folder = workshop / "model"
        write_saved_model(model, folder, options)
        parity = measure_parity(model, folder, chosen, options)
        parity |= _provenance(model, source, folder)
        _install(folder, target / str(version))
        write_text(target / LABELS, _labels(model))
        write_json(target / PARITY, _with_version(target / PARITY, version, parity))
    return target / str(version)


def write_saved_model(
    model: VideoClassifier, folder: str | Path, options: ClipOptions
) -> None:
    """Write the bare SavedModel with its assets; `export_saved_model` also checks it.

    Args:
        model: the classifier.
        folder: a new folder.
        options: clip length and sizes.
    """
    folder = Path(folder)
    archive = keras.export.ExportArchive()
    # Traced functions with their signatures; the archive finds the variables itself.
    for name, function in _endpoints(model, options).items():
        archive.add_endpoint(name, function)
    # Serving needs no gradients; the layers' own would be traced and stored.
    save_options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(str(folder), options=save_options, verbose=False)
    write_text(folder / "assets" / LABELS, _labels(model))
    write_json(folder / "assets" / PREPROCESSING, _preprocessing(model, options))


def _endpoints(
    model: VideoClassifier, options: ClipOptions
) -> dict[str, tf.types.experimental.GenericFunction]:
    """The traced functions behind the signatures; the second calls the first."""
    num_frames, size = options.num_frames, options.crop_size
    height, width = model.input_shape[2:4]
    clips = tf.TensorSpec((None, num_frames, height, width, 3), tf.uint8, "frames")
    files = tf.TensorSpec((None, num_frames), tf.string, "frames")

    @tf.function(input_signature=[clips], autograph=False)
    def serving_default(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(frames, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    def one_frame(jpeg: tf.Tensor) -> tf.Tensor:
        # One by one: the frames of a request need not be equal in size.
        return resize_and_center_crop(
            decode_frames(jpeg[None]), short_side=options.short_side, crop_size=size
        )[0]

    # The traced function: calling the other one here would trace the model again.
    serve_clips = serving_default.get_concrete_function()

    @tf.function(input_signature=[files], autograph=False)
    def serve_jpeg(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.map_fn(
            one_frame,
            tf.reshape(frames, [-1]),
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        return serve_clips(tf.reshape(pixels, (-1, num_frames, size, size, 3)))

    serve_jpeg.get_concrete_function()
    return {"serving_default": serving_default, "serve_jpeg": serve_jpeg}


def _labels(model: VideoClassifier) -> str:
    """One class name per line; plain numbers if the model knows no names."""
    names = model.class_names or map(str, range(model.num_classes))
    return "".join(f"{name}\n" for name in names)


def _preprocessing(model: VideoClassifier, options: ClipOptions) -> dict[str, Any]:
    """What a client must do to frames before it sends them."""
    return {
        **model.preprocessing,
        "num_frames": options.num_frames,
        "sampling": options.sampling,
        "frames": SAMPLING_RULES[options.sampling],
        "serving_default": "RGB uint8 (N, T, H, W, 3): short side resized to "
        "short_side (bilinear, antialiased), centre square of crop_size",
        "serve_jpeg": "JPEG files (N, T) of any size; resized and cropped in the model",
        "normalization": "inside the model",
    }


def _name(name: str | None, source: Path | None, model: VideoClassifier) -> str:
    """Folder name of the model, checked."""
    if name is None:
        name = model.name
        if source is not None:
            is_run = source.name in CHECKPOINTS
            name = source.resolve().parent.name if is_run else source.stem
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InputError(
            "`--name` must consist of letters, digits, '_', '-' and '.' and not begin "
            f"with '.' or '-'. Received: {name!r}"
        )
    return name


def _check_target(target: Path, version: int, labels: str, *, overwrite: bool) -> None:
    """Refuse to replace what exists or to mix label sets; writes nothing."""
    if (target / str(version)).exists() and not overwrite:
        raise InputError(
            f"{target / str(version)} exists; nothing was written. Choose another "
            "--version or --name, or add --overwrite to replace it."
        )
    beside = target / LABELS
    others = [p for p in target.glob("[0-9]*") if p.name != str(version)]
    if others and beside.is_file() and beside.read_text("utf-8") != labels:
        raise InputError(
            f"{beside} belongs to versions with other class names; choose another "
            "--name for this model."
        )


def _parity_clips(
    model: VideoClassifier,
    options: ClipOptions,
    data_dir: str | Path | None,
    split: str,
    count: int,
) -> ParityClips:
    """Clips of the data set if there is one, else noise."""
    if data_dir is None:
        return random_clips(options, count)
    info = load_dataset_info(data_dir)
    check_class_names(model, info.class_names)
    return record_clips(info, split, count, options)


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A folder beside the versions that vanishes, and `target` too if still empty."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=target))
    except OSError as error:
        raise InputError(
            f"`--output` {target} cannot be written: {error.strerror}."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        if not any(target.iterdir()):
            target.rmdir()


def _install(folder: Path, version: Path) -> None:
    """Move a finished SavedModel to its place; an old one steps aside until then."""
    if version.exists():
        version.rename(folder.with_name("replaced"))
    folder.rename(version)


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


def _with_version(path: Path, version: int, parity: dict[str, Any]) -> dict[str, Any]:
    """The parity of all versions, with this one's entry renewed."""
    entries = read_json(path)["versions"] if path.is_file() else {}
    return {"versions": {**entries, str(version): parity}}
