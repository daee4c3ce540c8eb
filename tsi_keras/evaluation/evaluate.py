"""Score a classifier on a split of a prepared data set."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.evaluation.contact_sheet import ClipCaption
from tsi_keras.evaluation.contact_sheet import draw_predictions
from tsi_keras.evaluation.protocols import Protocol
from tsi_keras.evaluation.protocols import check_class_names
from tsi_keras.evaluation.protocols import check_num_frames
from tsi_keras.evaluation.protocols import clip_options
from tsi_keras.evaluation.protocols import get_protocol
from tsi_keras.evaluation.report import EvaluationReport
from tsi_keras.evaluation.report import write_report
from tsi_keras.evaluation.tensorflow_errors import readable_records
from tsi_keras.models.loading import resolve_classifier
from tsi_keras.models.video_classifier import VideoClassifier
from tsi_keras.utils.console import progress
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.files import check_output
from tsi_keras.utils.files import claim_output
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.versions import versions

# One of these lies in every folder an evaluation wrote.
MARKS = ("metrics.json",)


def evaluate(
    model: VideoClassifier | str | Path,
    data_dir: str | Path,
    split: str = "val",
    *,
    protocol: str = "1x1",
    batch_size: int = 8,
    num_frames: int | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    sheet_clips: int = 6,
) -> EvaluationReport:
    """Score every video of a split, none left out and none twice.

    Args:
        model: a classifier, or a RUN folder or `.keras` file to load one from.
        data_dir: a folder written by `pipelines.prepare`.
        split: "train", "val" or "test".
        protocol: which clips and crops of a video count; a name of
            `protocols.PROTOCOLS`.
        batch_size: clips per step; it does not change the result.
        num_frames: if given, must be the clip length the model was built for.
        output: folder for the report's files; without it nothing is written.
        overwrite: replace what `output` held.
        sheet_clips: how many videos `clips.png` shows, of different classes as far as
            there are so many; 0 for no picture.

    Returns:
        The report; its figures are NumPy float64 computations on the logits.

    Raises:
        InputError: model, data, split, protocol, `num_frames` or `output` do not fit,
            the class names of model and data differ, a record is damaged, or fewer or
            more videos were read than `dataset.json` lists.

    Example:
        ```python
        report = evaluate("runs/demo", "data/demo", "test", output="runs/demo/test")
        print(report.top1, report.classes[0])
        ```
    """
    chosen = get_protocol(protocol)
    if batch_size < 1:
        raise InputError(f"`--batch-size` must be 1 or more. Received: {batch_size}")
    source, model = resolve_classifier(model)
    info = load_dataset_info(data_dir)
    info.split(split)
    check_num_frames(model, num_frames)
    check_class_names(model, info.class_names)
    if sheet_clips < 0:
        raise InputError(f"`--sheet-clips` must be 0 or more. Received: {sheet_clips}")
    if output is not None:
        inputs = [info.folder, *([source] if source else [])]
        check_output(output, overwrite=overwrite, marks=MARKS, inputs=inputs)

    start = time.perf_counter()
    sheet = _Sheet(info.num_classes, sheet_clips if output else 0)
    report = _score(model, info, split, batch_size, sheet)
    _check_complete(report, info, split)
    seconds = time.perf_counter() - start
    report.context.update(_context(model, source, info, split, chosen))
    report.context.update(batch_size=batch_size, seconds=round(seconds, 3))
    if output is not None:
        folder = claim_output(output, overwrite=overwrite, marks=MARKS)
        write_report(report, folder)
        sheet.draw(report, folder / "clips.png")
    return report


class _Sheet:
    """Remembers a few clips on their way through the model, to draw them later.

    The first ones of every class: a choice that knows nothing of the predictions.
    """

    def __init__(self, num_classes: int, wanted: int):
        self.wanted = wanted
        self.per_class = -(-wanted // max(num_classes, 1))
        self.positions: list[int] = []
        self.clips: list[np.ndarray] = []
        self._counts: Counter[int] = Counter()
        self._seen = 0

    def add(self, frames: np.ndarray, labels: np.ndarray) -> None:
        """Look at the next batch, uint8 `(B, T, H, W, 3)`, and its labels `(B,)`."""
        for offset, (clip, label) in enumerate(zip(frames, labels, strict=True)):
            room = len(self.clips) < self.wanted
            if room and self._counts[int(label)] < self.per_class:
                self._counts[int(label)] += 1
                self.positions.append(self._seen + offset)
                self.clips.append(clip)
        self._seen += len(frames)

    def draw(self, report: EvaluationReport, path: Path) -> None:
        """Draw the remembered clips with their scores."""
        if not self.clips:
            return
        names = report.class_names
        captions = [
            ClipCaption(
                predicted=names[report.predictions[i]],
                probability=float(report.probabilities[i].max()),
                truth=names[report.labels[i]],
            )
            for i in self.positions
        ]
        draw_predictions(np.stack(self.clips), captions, path)


def _score(
    model: VideoClassifier,
    info: DatasetInfo,
    split: str,
    batch_size: int,
    sheet: _Sheet,
) -> EvaluationReport:
    """Run the model over the split and collect what it says."""
    dataset = make_dataset(
        info.folder,
        split,
        clip_options(model),
        batch_size=batch_size,
        training=False,
        with_ids=True,
    )
    logits, labels, ids = [], [], []
    with progress("videos") as bar:
        task = bar.add_task(f"scoring {split}", total=info.split(split).num_videos)
        for frames, batch_labels, batch_ids in _batches(dataset, info, split):
            sheet.add(frames.numpy(), batch_labels.numpy())
            logits.append(model.predict_on_batch(frames))
            labels.append(batch_labels.numpy())
            ids += [name.decode("utf-8") for name in batch_ids.numpy()]
            bar.advance(task, len(batch_ids))
    return EvaluationReport(
        class_names=info.class_names,
        ids=ids,
        labels=np.concatenate([np.zeros(0, np.int64), *labels]),
        logits=np.concatenate([np.zeros((0, info.num_classes), np.float32), *logits]),
        notes=_notes(model),
    )


def _batches(
    dataset: tf.data.Dataset, info: DatasetInfo, split: str
) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The batches of a data set; a damaged record becomes an InputError."""
    batches = iter(dataset)
    while True:
        with readable_records(info, split):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _check_complete(report: EvaluationReport, info: DatasetInfo, split: str) -> None:
    """Every listed video scored once, and with usable numbers."""
    expected = info.split(split).num_videos
    distinct = len(set(report.ids))
    if not len(report.ids) == distinct == expected:
        raise InputError(
            f"dataset.json of {info.folder} lists {expected} videos in split "
            f"{split!r}, but {len(report.ids)} were read ({distinct} different ids); "
            "prepare the data set again with --overwrite."
        )
    if not expected:
        raise InputError(f"Split {split!r} of {info.folder} has no videos to score.")
    broken = int((~np.isfinite(report.logits).all(axis=1)).sum())
    if broken:
        raise InputError(
            f"The model's logits are not finite for {broken} of {expected} videos; its "
            "training diverged, so there is nothing to score."
        )


def _notes(model: VideoClassifier) -> list[str]:
    """What a reader should know beyond the figures."""
    if model.class_names:
        return []
    return ["The model carries no class names; those of the data set were taken."]


def _name_of(temporal: Any) -> str | None:
    """A registered name, or that of a callable."""
    if temporal is None or isinstance(temporal, str):
        return temporal
    return getattr(temporal, "__name__", repr(temporal))


def _context(
    model: VideoClassifier,
    source: Path | None,
    info: DatasetInfo,
    split: str,
    protocol: Protocol,
) -> dict[str, Any]:
    """What was evaluated and how, for `metrics.json`."""
    options = clip_options(model)
    return {
        "protocol": {
            "name": protocol.name,
            "clips": protocol.clips,
            "crops": protocol.crops,
            "num_frames": options.num_frames,
            "sampling": options.sampling,
            "short_side": options.short_side,
            "crop_size": options.crop_size,
        },
        "model": {
            "file": source and str(source),
            "sha256": source and file_sha256(source),
            "name": model.name,
            "temporal": _name_of(model.temporal),
        },
        "data": {
            "folder": str(info.folder),
            "split": split,
            "fingerprint": info.fingerprint,
        },
        "versions": versions(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
