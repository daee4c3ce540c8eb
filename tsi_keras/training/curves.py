"""Loss, accuracy and learning rate against the epoch, as one picture."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import PercentFormatter

from tsi_keras.training.whole_files import whole_file

_TRAIN, _VAL = "#4878a8", "#c44e38"

Row = Mapping[str, float]


class DrawCurves(keras.callbacks.Callback):
    """Draw the run so far after every epoch; the file is whole at any moment.

    Put it after the callbacks that add to an epoch's logs.

    Args:
        path: the PNG to write and replace.
        past: earlier epochs of the run, each as in its `log.csv`.

    Raises:
        InputError: from `fit`: the disk does not take the file.

    Example:
        ```python
        model.fit(data, validation_data=val, callbacks=[DrawCurves("curves.png")])
        ```
    """

    def __init__(self, path: str | Path, past: Sequence[Row] = ()):
        super().__init__()
        self.path = Path(path)
        self.rows = [dict(row) for row in past]

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch, **(logs or {})})
        draw_curves(self.rows, self.path)


def draw_curves(rows: Sequence[Row], path: str | Path) -> Path:
    """Draw a training as PNG: loss, top-1 and learning rate against the epoch.

    Args:
        rows: per epoch its metrics, `epoch` counted from 0; see `RunFolder.history`.
            What a row lacks is a gap in its curve.
        path: the PNG to write or replace; epochs on it are counted from 1.

    Returns:
        `path`.

    Raises:
        InputError: the disk does not take the file.
    """
    figure = Figure(figsize=(13.0, 3.6), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _plot(loss, rows, {"loss": ("train", _TRAIN), "val_loss": ("val", _VAL)})
    loss.set_title("loss", loc="left")
    _plot(accuracy, rows, {"top1": ("train", _TRAIN), "val_top1": ("val", _VAL)})
    accuracy.set_title(_accuracy_title(rows), loc="left")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    _plot(rate, rows, {"learning_rate": ("learning rate", _TRAIN)})
    rate.set_title("learning rate", loc="left")
    if all(row.get("learning_rate", 1.0) > 0 for row in rows):
        rate.set_yscale("log")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return Path(path)


def _plot(axes: Axes, rows: Sequence[Row], curves: dict[str, tuple[str, str]]) -> None:
    """Curves of some keys, each with a label and a colour."""
    for key, (label, colour) in curves.items():
        points = [(row["epoch"] + 1, row[key]) for row in rows if key in row]
        if points:
            # A single epoch is no line yet.
            style = {"color": colour, "marker": "o", "markersize": 3}
            axes.plot(*zip(*points, strict=True), label=label, **style)
    if len(axes.lines) > 1:
        axes.legend(frameon=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _accuracy_title(rows: Sequence[Row]) -> str:
    """What the middle panel shows, with the best epoch so far."""
    validated = [row for row in rows if "val_top1" in row]
    if not validated:
        return "top-1"
    best = max(validated, key=lambda row: row["val_top1"])
    return f"top-1: best val {best['val_top1']:.1%} in epoch {best['epoch'] + 1:.0f}"
