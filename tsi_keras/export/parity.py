"""Does the exported model say what the Keras model says? Measured, on real clips."""

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.records import parse_record
from tsi_keras.data.sampling import clip_indices
from tsi_keras.evaluation.protocols import first_sentence
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import read_json

TOLERANCE = 1e-4
_BATCH = 4
_PROGRAM = Path(__file__).with_name("_fresh_process.py")


class ParityError(RuntimeError):
    """The exported model does not do what the Keras model does."""


@dataclass(frozen=True)
class ParityClips:
    """Clips to compare on, as JPEG frames.

    Attributes:
        source: "records" or "random".
        ids: one name per clip.
        jpegs: per clip a list of T JPEG files.
        data: the data set and split the records came from, or None.
    """

    source: str
    ids: list[str]
    jpegs: list[list[bytes]]
    data: dict[str, str] | None = None


def record_clips(
    info: DatasetInfo, split: str, count: int, options: ClipOptions
) -> ParityClips:
    """Return the evaluation's clips of the first `count` videos of a split.

    Args:
        info: the data set.
        split: name of the split.
        count: how many clips; fewer if the split is smaller.
        options: frames per clip and their sampling.

    Raises:
        InputError: the split or a shard is missing, or a record is damaged.
    """
    records = tf.data.TFRecordDataset(info.shard_paths(split)).map(parse_record)
    ids, jpegs = [], []
    try:
        for record in records.take(count).as_numpy_iterator():
            [chosen] = clip_indices(
                len(record["frames"]), options.num_frames, options.sampling
            )
            ids.append(record["id"].decode("utf-8"))
            jpegs.append([record["frames"][i] for i in chosen])
    except tf.errors.OpError as error:
        raise InputError(
            f"The {split!r} records in {info.folder} cannot be read: "
            f"{first_sentence(error)}; prepare the data set again with --overwrite."
        ) from error
    data = {
        "folder": str(info.folder),
        "split": split,
        "fingerprint": info.fingerprint,
    }
    return ParityClips("records", ids, jpegs, data)


def random_clips(options: ClipOptions, count: int, *, seed: int = 0) -> ParityClips:
    """Return clips of uniform noise, for an export without data at hand.

    Args:
        options: clip length and sizes; frames are a third wider than high.
        count: how many clips.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    size = (options.short_side, options.short_side * 4 // 3, 3)

    def frame() -> bytes:
        noise = rng.integers(256, size=size, dtype=np.uint8)
        return tf.io.encode_jpeg(noise, quality=95).numpy()

    jpegs = [[frame() for _ in range(options.num_frames)] for _ in range(count)]
    return ParityClips("random", [f"random {i}" for i in range(count)], jpegs)


def measure_parity(
    model: VideoClassifier, folder: str | Path, clips: ParityClips, options: ClipOptions
) -> dict[str, Any]:
    """Compare a SavedModel, loaded in a fresh process, with its Keras model.

    Both compute on the CPU, so that the comparison is about the export and not about
    the arithmetic of a device. `serve_jpeg` gets the JPEG frames, `serving_default`
    and the Keras model get them decoded, resized and cropped as in the evaluation.

    Args:
        model: the Keras model.
        folder: the SavedModel.
        clips: what to compare on.
        options: clip length and sizes.

    Returns:
        JSON-ready: source and names of the clips, tolerance, and per signature the
        maximum and mean difference of the logits and the top-1 agreement.

    Raises:
        ParityError: the SavedModel cannot be run without tsi_keras, or some logits
            differ by more than `TOLERANCE` or are not finite.
    """
    frames = np.stack([_clip(jpegs, options) for jpegs in clips.jpegs])
    jpegs = np.array(clips.jpegs, dtype=object)
    expected = _keras_logits(model, frames)
    answers = run_in_fresh_process(
        folder, {"serving_default": frames, "serve_jpeg": jpegs}
    )
    signatures = {
        name: _difference(expected, outputs["logits"])
        for name, outputs in answers.items()
    }
    report = {
        "source": clips.source,
        "data": clips.data,
        "clips": clips.ids,
        "tolerance": TOLERANCE,
        "process": "new interpreter that imports TensorFlow only, on the CPU",
        "signatures": signatures,
    }
    _require_parity(report)
    return report


def run_in_fresh_process(
    folder: str | Path, inputs: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Run signatures of a SavedModel in a new interpreter that imports TensorFlow only.

    Args:
        folder: the SavedModel.
        inputs: by signature the argument `frames`: uint8 `(N, T, H, W, 3)`, or JPEG
            bytes `(N, T)` in an object array.

    Returns:
        By signature the outputs, `(N, ...)` each.

    Raises:
        ParityError: the process failed; the message ends with its last words.
    """
    batches = {
        name: [value[i : i + _BATCH] for i in range(0, len(value), _BATCH)]
        for name, value in inputs.items()
    }
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "inputs"), Path(temporary, "outputs")
        source.write_bytes(pickle.dumps(batches))
        # As text, so that nothing beside the program can be imported. No GPU: the
        # present process may hold all of its memory.
        program = [sys.executable, "-c", _PROGRAM.read_text("utf-8")]
        done = subprocess.run(
            [*program, str(Path(folder).absolute()), str(source), str(target)],
            cwd=temporary,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise ParityError(
                f"{folder} cannot be run in a process that imports TensorFlow only "
                f"(exit status {done.returncode}): {last}"
            )
        return pickle.loads(target.read_bytes())


def _clip(jpegs: list[bytes], options: ClipOptions) -> np.ndarray:
    """Evaluation frames uint8 (T, S, S, 3) of JPEG frames."""
    return resize_and_center_crop(
        decode_frames(tf.constant(jpegs)),
        short_side=options.short_side,
        crop_size=options.crop_size,
    ).numpy()


def _keras_logits(model: VideoClassifier, frames: np.ndarray) -> np.ndarray:
    """Logits (N, K) of uint8 clips, computed in a graph on the CPU.

    In a graph as `predict` and `evaluate` do it: eager arithmetic rounds differently,
    by some 3e-6 of the largest logit in a ResNet-50.
    """
    run = tf.function(lambda batch: model(batch, training=False), autograph=False)
    shape = tf.TensorSpec((None, *frames.shape[1:]), tf.uint8)
    batches = [frames[i : i + _BATCH] for i in range(0, len(frames), _BATCH)]
    with tf.device("/CPU:0"):
        logits = run.get_concrete_function(shape)
        return np.concatenate([logits(tf.constant(batch)) for batch in batches])


def _difference(expected: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """How far two sets of logits (N, K) are apart."""
    gap = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    same = expected.argmax(axis=1) == actual.argmax(axis=1)
    return {
        "max_difference": float(gap.max()),
        "mean_difference": float(gap.mean()),
        "top1_agreement": float(same.mean()),
    }


def _require_parity(report: dict[str, Any]) -> None:
    """Raise ParityError unless every signature is within the tolerance."""
    for name, figures in report["signatures"].items():
        gap = figures["max_difference"]
        # Written so that NaN fails.
        if not gap <= TOLERANCE:
            raise ParityError(
                f"the logits of `{name}` differ from those of the Keras model by up to "
                f"{gap:.3g} on {len(report['clips'])} clips ({report['source']}); at "
                f"most {TOLERANCE:g} is allowed"
            )


def print_parity(version_folder: str | Path) -> None:
    """Print what the `parity.json` beside a version folder says about it."""
    folder = Path(version_folder)
    report = read_json(folder.parent / "parity.json")["versions"][folder.name]
    rows = [
        (
            name,
            len(report["clips"]),
            f"{figures['max_difference']:.2e}",
            f"{figures['mean_difference']:.2e}",
            f"{100 * figures['top1_agreement']:.0f} %",
        )
        for name, figures in report["signatures"].items()
    ]
    title = f"SavedModel in a fresh process against Keras ({report['source']} clips)"
    columns = ("signature", "clips", "max difference", "mean", "same top-1")
    print_table(title, columns, rows)
    size = report["saved_model_bytes"] / 1e6
    console.print(f"exported: {folder} ({size:.1f} MB)", markup=False, soft_wrap=True)
