"""The outcome of an evaluation and the files that keep it."""

import csv
import io
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tsi_keras.evaluation.metrics import TOP5
from tsi_keras.evaluation.metrics import ClassRow
from tsi_keras.evaluation.metrics import Metrics
from tsi_keras.evaluation.metrics import class_table
from tsi_keras.evaluation.metrics import compute_metrics
from tsi_keras.evaluation.metrics import confusion_matrix
from tsi_keras.evaluation.metrics import softmax
from tsi_keras.evaluation.plots import draw_confusion
from tsi_keras.utils.console import console
from tsi_keras.utils.console import print_table
from tsi_keras.utils.files import write_bytes
from tsi_keras.utils.files import write_json
from tsi_keras.utils.files import write_text

VIDEO_COLUMNS = (
    "id",
    "label",
    "label_name",
    "predicted",
    "predicted_name",
    "probability",
    "true_probability",
    "correct",
)


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of every video of one split.

    Attributes:
        class_names: K names, position = label.
        ids: N video names in the order of the records.
        labels: int64 `(N,)`, true classes.
        logits: float32 `(N, K)`, per video.
        context: what was evaluated and how (protocol, model, data, versions), as it
            stands in `metrics.json`.
        notes: remarks for the reader, one line each.

    The figures follow from these: `metrics`, `top1`, `top5`, `mean_class_accuracy`,
    `confusion` (int64 `(K, K)`), `predictions`, `probabilities` (float64 `(N, K)`),
    `classes`.
    """

    class_names: list[str]
    ids: list[str]
    labels: np.ndarray
    logits: np.ndarray
    context: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def metrics(self) -> Metrics:
        """The headline figures."""
        return compute_metrics(self.logits, self.labels)

    @property
    def top1(self) -> float:
        """Share of videos whose class has the highest logit."""
        return self.metrics.top1

    @property
    def top5(self) -> float | None:
        """Share of videos whose class is among the five highest logits, or None."""
        return self.metrics.top5

    @property
    def mean_class_accuracy(self) -> float:
        """Mean recall of the classes that have videos."""
        return self.metrics.mean_class_accuracy

    @property
    def predictions(self) -> np.ndarray:
        """Predicted classes, int64 `(N,)`."""
        return self.logits.argmax(axis=1)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 `(N, K)`."""
        return softmax(self.logits)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts by true (row) and predicted (column) class, int64 `(K, K)`."""
        return confusion_matrix(self.labels, self.predictions, len(self.class_names))

    @property
    def classes(self) -> list[ClassRow]:
        """One row per class."""
        return class_table(self.confusion, self.class_names)

    @property
    def top5_note(self) -> str | None:
        """Why there is no top-5, or None when there is one."""
        if self.top5 is not None:
            return None
        count = len(self.class_names)
        return f"top-5 is not given: with {count} classes ({TOP5} or fewer) it is 1."


def write_report(report: EvaluationReport, folder: Path) -> None:
    """Write every file of an evaluation into an existing folder.

    `metrics.json` (figures and context), `classes.csv`, `confusion.csv` and
    `confusion.png`, `videos.csv` (one row per video) and `logits.npz` (`ids`,
    `labels`, `logits`, `class_names`), from which all figures can be computed again.

    Args:
        report: the scores.
        folder: where to write.
    """
    _write_csv(folder / "videos.csv", VIDEO_COLUMNS, _video_rows(report))
    _write_csv(
        folder / "classes.csv", ClassRow.__dataclass_fields__, _class_rows(report)
    )
    names = report.class_names
    rows = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
    _write_csv(folder / "confusion.csv", ["true \\ predicted", *names], rows)
    title = f"top-1 {100 * report.top1:.1f} %, {len(report.ids)} videos"
    draw_confusion(report.confusion, names, folder / "confusion.png", title=title)
    _write_arrays(report, folder / "logits.npz")
    write_json(folder / "metrics.json", summary(report))


def summary(report: EvaluationReport) -> dict[str, Any]:
    """Return what `metrics.json` says about `report`."""
    figures = asdict(report.metrics)
    scored_classes = figures.pop("scored_classes")
    notes = [*report.notes, *filter(None, [report.top5_note])]
    return {
        "metrics": figures,
        "num_videos": len(report.ids),
        "num_classes": len(report.class_names),
        "scored_classes": scored_classes,
        "notes": notes,
        **report.context,
    }


def _video_rows(report: EvaluationReport):
    """Rows of `videos.csv`."""
    names = report.class_names
    columns = (report.ids, report.labels, report.predictions, report.probabilities)
    for video, label, predicted, probabilities in zip(*columns, strict=True):
        yield (
            video,
            label,
            names[label],
            predicted,
            names[predicted],
            f"{probabilities[predicted]:.6f}",
            f"{probabilities[label]:.6f}",
            int(label == predicted),
        )


def _class_rows(report: EvaluationReport):
    """Rows of `classes.csv`; empty cells where a share has no denominator."""
    for row in report.classes:
        shares = ["" if x is None else f"{x:.6f}" for x in (row.recall, row.precision)]
        yield row.index, row.name, row.videos, row.correct, row.predicted, *shares


def _write_csv(path: Path, columns, rows) -> None:
    """Write one CSV file, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _write_arrays(report: EvaluationReport, path: Path) -> None:
    """Keep what the figures are computed from."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        ids=np.array(report.ids, dtype=np.str_),
        labels=report.labels,
        logits=report.logits,
        class_names=np.array(report.class_names, dtype=np.str_),
    )
    write_bytes(path, buffer.getvalue())


def print_report(report: EvaluationReport) -> None:
    """Print the headline figures, the classes and the notes to the terminal."""
    figures = summary(report)
    top5 = "n/a" if report.top5 is None else _percent(report.top5)
    rows = [
        (c.name, c.videos, _percent(c.recall), _percent(c.precision))
        for c in report.classes
    ]
    print_table("Classes", ("class", "videos", "accuracy", "precision"), rows)
    for note in figures["notes"]:
        console.print(f"note: {note}", markup=False)
    print_table(
        "Evaluation",
        ("videos", "classes", "top-1", "top-5", "mean class accuracy"),
        [
            (
                figures["num_videos"],
                f"{figures['scored_classes']} of {figures['num_classes']}",
                _percent(report.top1),
                top5,
                _percent(report.mean_class_accuracy),
            )
        ],
    )


def _percent(share: float | None) -> str:
    """A share for humans."""
    return "n/a" if share is None else f"{100 * share:.2f} %"
