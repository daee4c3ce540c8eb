"""A picture of the clips that a model will see in training, and in evaluation."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.clips import Element
from tsi_keras.data.clips import choose_frames
from tsi_keras.data.clips import clip_seed
from tsi_keras.data.clips import epoch_number
from tsi_keras.data.clips import evaluation_clip
from tsi_keras.data.clips import mixed_batch
from tsi_keras.data.clips import training_clip
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.flip_labels import flip_map
from tsi_keras.data.records import parse_record
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.errors import check_positive
from tsi_keras.utils.files import check_output
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import write_json

# One of these lies in every folder a sheet was written to.
MARKS = ("samples.json",)

_CAPTION_WIDTH = 470


def draw_samples(
    data_dir: str | Path,
    output: str | Path,
    options: ClipOptions,
    *,
    split: str = "train",
    videos: int = 4,
    epochs: int = 3,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Draw some videos of a split as training and evaluation show them.

    For each video one row per epoch, with exactly the frames, crop, flip, colours and
    boxes that `make_dataset(repeat=True, seed=seed)` gives it in that epoch, and a last
    row with the evaluation's clip. With MixUp or CutMix a video is mixed with the one
    above or below it, in training with whichever comes next to it; whether and how is
    the same.

    Args:
        data_dir: a folder written by `pipelines.prepare`.
        output: folder for `samples.png` and `samples.json`, which lists the rows.
        options: clips and augmentation.
        split: of the data set.
        videos: how many, of different classes as far as there are so many; even with
            MixUp or CutMix.
        epochs: draws per video.
        seed: `train.seed` of the run.
        overwrite: replace what an earlier call wrote.

    Returns:
        The picture.

    Raises:
        InputError: data set, split or output cannot be used, a number is out of range,
            or a record is damaged.

    Example:
        ```python
        draw_samples("data/demo", "samples", ClipOptions(flip="swap"), epochs=5)
        ```
    """
    check_positive("videos", videos)
    check_positive("epochs", epochs)
    if options.augmentation.mixes and videos % 2:
        raise InputError(
            f"`videos` must be even with `mixup` or `cutmix`. Received: {videos}"
        )
    info = load_dataset_info(data_dir)
    check_output(output, overwrite=overwrite, marks=MARKS, inputs=[info.folder])
    records = _first_of_classes(info, split, videos)
    if options.augmentation.mixes:
        records = records[: len(records) // 2 * 2]
    if not records:
        raise InputError(
            f"Split {split!r} of {info.folder} has too few videos for a sheet; choose "
            "another `split`, or switch `mixup` and `cutmix` off if it has one."
        )
    rows = _rows(info, records, options, epochs, seed)
    folder = claim_output(output, overwrite=overwrite, marks=MARKS)
    path = _draw(rows, folder / "samples.png")
    listed = [{k: v for k, v in row.items() if k != "frames"} for row in rows]
    write_json(folder / MARKS[0], {"split": split, "seed": seed, "rows": listed})
    return path


def _first_of_classes(info: DatasetInfo, split: str, wanted: int) -> list[bytes]:
    """Records of the first videos, equally many of each class."""
    records = tf.data.TFRecordDataset(info.shard_paths(split))
    labelled = records.map(lambda record: (parse_record(record)["label"], record))
    per_class = -(-wanted // max(info.num_classes, 1))
    found, counts = [], Counter()
    try:
        for label, record in labelled.as_numpy_iterator():
            if counts[label] < per_class:
                counts[label] += 1
                found.append(record)
            if len(found) == wanted:
                break
    except tf.errors.OpError as error:
        raise InputError(
            f"The {split!r} records in {info.folder} cannot be read: "
            f"{str(error.message).splitlines()[0]}; prepare the data set again."
        ) from error
    return found


def _rows(
    info: DatasetInfo,
    records: list[bytes],
    options: ClipOptions,
    epochs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Every video's clips: frames, id, epoch and the shares of the classes."""
    batches = [
        _training_batch(info, records, options, epoch_number(seed, epoch))
        for epoch in range(epochs)
    ]
    batches.append(_evaluation_batch(records, options))
    names = [*(f"epoch {epoch + 1}" for epoch in range(epochs)), "evaluation"]
    return [
        {
            "video": batch["id"][number].decode("utf-8"),
            "shown_in": name,
            "classes": class_shares(info.class_names, batch["label"][number]),
            "frames": batch["frames"][number],
        }
        for number in range(len(records))
        for name, batch in zip(names, batches, strict=True)
    ]


def _training_batch(
    info: DatasetInfo, records: list[bytes], options: ClipOptions, number: tf.Tensor
) -> dict[str, np.ndarray]:
    """The videos as one epoch has them."""
    to_clip = training_clip(options, flip_map(info.class_names, options.flip))

    def augment(serialized: tf.Tensor) -> Element:
        record = parse_record(serialized)
        seed = clip_seed(number, record["id"])
        return to_clip(choose_frames(record, options, seed))

    batch = tf.data.Dataset.from_tensor_slices(records).map(augment)
    batch = batch.batch(len(records), drop_remainder=True)
    mix = mixed_batch(options, info.num_classes)
    if mix is not None:
        batch = batch.map(mix)
    return next(batch.as_numpy_iterator())


def _evaluation_batch(
    records: list[bytes], options: ClipOptions
) -> dict[str, np.ndarray]:
    """The videos as the evaluation has them."""
    to_clip = evaluation_clip(options)

    def prepare(serialized: tf.Tensor) -> Element:
        return to_clip(choose_frames(parse_record(serialized), options, None))

    batch = tf.data.Dataset.from_tensor_slices(records).map(prepare)
    return next(batch.batch(len(records)).as_numpy_iterator())


def class_shares(names: Sequence[str], label: np.ndarray) -> dict[str, float]:
    """Name the classes of a training clip and their shares, the largest first.

    Args:
        names: of all classes, in the order of the labels.
        label: an integer, or the shares of all classes, float `(K,)`.
    """
    if np.ndim(label) == 0:
        return {names[label]: 1.0}
    present = sorted(np.flatnonzero(label), key=lambda index: -label[index])
    return {names[index]: round(float(label[index]), 4) for index in present}


def _draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """The sheet: what a row shows at its left, then its frames."""
    # matplotlib, for its font; training does not need it.
    from tsi_keras.utils.clip_sheet import FAINT
    from tsi_keras.utils.clip_sheet import INK
    from tsi_keras.utils.clip_sheet import MARGIN
    from tsi_keras.utils.clip_sheet import draw_clips
    from tsi_keras.utils.clip_sheet import fitted

    def paint(drawing, number, top, height):
        row = rows[number]
        lines = [(row["shown_in"], 26, True), (row["video"], 20, False)]
        mixed = len(row["classes"]) > 1
        for name, share in row["classes"].items():
            text = f"{100 * share:.0f} % {name}" if mixed else name
            lines.append((text, 24, False))
        for line, (text, size, bold) in enumerate(lines):
            text, face = fitted(text, _CAPTION_WIDTH - 34, size, bold=bold)
            place = (MARGIN, top + height / 2 + 38 * (line - (len(lines) - 1) / 2))
            drawing.text(place, text, INK if line != 1 else FAINT, face, anchor="lm")

    clips = np.stack([row["frames"] for row in rows])
    return draw_clips(clips, paint, path, caption_width=_CAPTION_WIDTH)
