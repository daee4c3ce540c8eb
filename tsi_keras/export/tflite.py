"""Write classifiers as TFLite files: float32, float16, dynamic-range int8 and int8."""

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import choose_frames
from tsi_keras.data.clips import evaluation_clip
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.records import parse_record
from tsi_keras.evaluation.tensorflow_errors import readable_records
from tsi_keras.export.assets import LABELS
from tsi_keras.export.assets import PREPROCESSING
from tsi_keras.export.assets import labels_text
from tsi_keras.export.assets import preprocessing
from tsi_keras.export.precision import in_float32
from tsi_keras.export.tflite_conversion import KINDS
from tsi_keras.export.tflite_conversion import Conversion
from tsi_keras.export.tflite_conversion import convert
from tsi_keras.layers.export_scope import export_scope
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import write_bytes

CALIBRATION_CLIPS = 64


def tflite_name(kind: str) -> str:
    """`model.tflite` for float32, `model_<kind>.tflite` for the others."""
    return "model.tflite" if kind == "float32" else f"model_{kind}.tflite"


def write_tflite(
    model: VideoClassifier,
    path: str | Path,
    kind: str,
    options: ClipOptions,
    *,
    clips: np.ndarray | None = None,
    batch: int | None = 1,
) -> Path:
    """Write one TFLite file; arguments and errors as for `write_tflite_files`.

    Example:
        ```python
        options = clip_options(model)
        write_tflite(model, "model.tflite", "float32", options)
        TFLiteClassifier("model.tflite").logits(frames)
        ```
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        [flatbuffer] = _flatbuffers(model, folder, (kind,), options, clips, batch)
    return write_bytes(path, flatbuffer)


def write_tflite_files(
    model: VideoClassifier,
    folder: str | Path,
    kinds: Sequence[str],
    options: ClipOptions,
    *,
    clips: np.ndarray | None = None,
    batch: int | None = 1,
) -> dict[str, Path]:
    """Write a classifier as TFLite files with built-in operators only.

    The signature `serving_default` takes `frames`, uint8 `(batch, T, S, S, 3)` cropped
    as in the evaluation (S is the crop size), and gives `logits` and `probabilities`,
    float32 `(batch, classes)`, whatever the numbers inside are:

    - `"float32"`: as the model computes;
    - `"float16"`: weights stored in half the bytes;
    - `"dynamic"`: weights int8 per channel, activations quantized while running;
    - `"int8"`: weights int8 per channel and activations int8, calibrated on `clips`;
      softmax and the products of attention stay float32.

    A file also opens as a ZIP archive that holds `labels.txt` and `preprocessing.json`.
    A model trained in mixed precision is written from its float32 weights.

    Args:
        model: the classifier.
        folder: an existing folder; names are those of `tflite_name`.
        kinds: what to write.
        options: clip length and sizes, from `clip_options(model)`.
        clips: for `"int8"`, uint8 `(n, T, S, S, 3)` as the model will see; see
            `calibration_clips`.
        batch: clips per call, or None to leave it open. A fixed one is faster: XNNPACK
            takes graphs of known shapes.

    Returns:
        The files by kind.

    Raises:
        InputError: an unknown kind, batch below 1, another clip length than the
            model's, or clips that are missing or of another shape.
        TFLiteError: the model cannot be converted; nothing was written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        made = _flatbuffers(model, temporary, kinds, options, clips, batch)
    return {
        kind: write_bytes(Path(folder, tflite_name(kind)), flatbuffer)
        for kind, flatbuffer in zip(kinds, made, strict=True)
    }


def calibration_clips(
    info: DatasetInfo, options: ClipOptions, count: int = CALIBRATION_CLIPS
) -> np.ndarray:
    """Clips of a data set, as the evaluation sees them, to calibrate int8 with.

    Args:
        info: the data set; its split `train` is taken, else the first.
        options: clip length and sizes.
        count: how many; fewer if the split is smaller.

    Returns:
        uint8 `(n, T, S, S, 3)`.

    Raises:
        InputError: a shard is missing or a record is damaged.
    """
    split = "train" if "train" in info.splits else next(iter(info.splits))
    # Spread over the split, which need not be in a random order.
    step = max(1, info.split(split).num_videos // count)
    records = tf.data.TFRecordDataset(info.shard_paths(split)).shard(step, 0)
    videos = records.take(count).map(parse_record)
    clips = videos.map(lambda record: choose_frames(record, options, None))
    clips = clips.map(evaluation_clip(options))
    with readable_records(info, split):
        return np.stack([clip["frames"] for clip in clips.as_numpy_iterator()])


def _flatbuffers(
    model: VideoClassifier,
    folder: str,
    kinds: Sequence[str],
    options: ClipOptions,
    clips: np.ndarray | None,
    batch: int | None,
) -> list[bytes]:
    """The finished files, converted in a temporary folder."""
    _check(model, kinds, options, clips, batch)
    saved_model = Path(folder, "saved_model")
    write_inference_graph(model, saved_model, options, batch)
    calibration = None
    if "int8" in kinds:
        calibration = str(Path(folder, "clips.npy"))
        np.save(calibration, clips)
    jobs = [
        Conversion(
            str(saved_model), kind, str(Path(folder, tflite_name(kind))), calibration
        )
        for kind in kinds
    ]
    return [_with_files(made, model, options) for made in convert(jobs, folder)]


def write_inference_graph(
    model: VideoClassifier,
    folder: str | Path,
    options: ClipOptions,
    batch: int | None = 1,
) -> None:
    """Write the SavedModel a TFLite file is made from.

    Args:
        model: the classifier.
        folder: a new folder.
        options: clip length and sizes.
        batch: clips per call, or None.
    """
    model = in_float32(model)
    size = options.crop_size
    shape = (batch, options.num_frames, size, size, 3)

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.uint8, "frames")], autograph=False
    )
    def serving_default(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        with export_scope():
            logits = model(frames, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", serving_default)
    archive.write_out(
        str(folder),
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        verbose=False,
    )


def _with_files(
    flatbuffer: bytes, model: VideoClassifier, options: ClipOptions
) -> bytes:
    """A flatbuffer followed by a ZIP archive, as TFLite's metadata are stored."""
    facts = json.dumps(preprocessing(model, options), ensure_ascii=False)
    files = {LABELS: labels_text(model), PREPROCESSING: facts}
    # Aligned, so that programs which map the file find the archive as they expect.
    data = io.BytesIO(flatbuffer + bytes(-len(flatbuffer) % 4))
    with zipfile.ZipFile(data, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


def _check(
    model: VideoClassifier,
    kinds: Sequence[str],
    options: ClipOptions,
    clips: np.ndarray | None,
    batch: int | None,
) -> None:
    """Raise InputError for arguments no file can be written from."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(
            f"TFLite kinds are {', '.join(KINDS)}. Received: {list(kinds)}"
        )
    if batch is not None and batch < 1:
        raise InputError(f"`batch` must be at least 1, or None. Received: {batch}")
    if options.num_frames != model.num_frames:
        raise InputError(
            f"The model {model.name!r} takes {model.num_frames} frames; the options say "
            f"{options.num_frames}. Take them from clip_options(model)."
        )
    if "int8" in kinds:
        _check_clips(clips, options)


def _check_clips(clips: np.ndarray | None, options: ClipOptions) -> None:
    """Raise InputError unless int8 can be calibrated on `clips`."""
    size = options.crop_size
    wanted = (options.num_frames, size, size, 3)
    if clips is None or len(clips) == 0:
        raise InputError(
            "TFLite kind 'int8' is calibrated on clips of the data set and none was "
            "given; name the data set, or choose 'dynamic', which needs none."
        )
    if clips.dtype != np.uint8 or clips.shape[1:] != wanted:
        raise InputError(
            f"`clips` must be uint8 (n, {', '.join(map(str, wanted))}). Received: "
            f"{clips.dtype} {clips.shape}"
        )
