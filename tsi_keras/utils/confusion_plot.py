"""A confusion matrix as a figure."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import PercentFormatter

# Up to so many classes the axes carry names, and the cells percentages.
MAX_NAMED = 60
MAX_WRITTEN = 24
MAX_NAME_LENGTH = 36


def confusion_figure(
    confusion: np.ndarray, class_names: list[str], title: str | None = None
) -> Figure:
    """Draw a confusion matrix with normalised rows.

    A cell shows which share of the videos of its row's class was taken for its
    column's class; rows of classes without videos are grey. Up to 60 classes the
    axes carry the names, beyond that the indices; up to 24 classes the cells carry
    percentages.

    Args:
        confusion: numbers `(K, K)`, rows are true classes.
        class_names: the K names in label order.
        title: one line above the matrix.

    Returns:
        The figure; save it with `bbox_inches="tight"`, since constrained layout alone
        may push the axis label of a square matrix off the picture.

    Example:
        ```python
        figure = confusion_figure(np.eye(2), ["left", "right"])
        figure.savefig("confusion.png", bbox_inches="tight")
        ```
    """
    size = _matrix_inches(len(class_names))
    figure = Figure(figsize=(size + 2.0, size + 1.0), layout="constrained")
    axes = figure.add_subplot()
    shares = _row_shares(confusion)
    # In a large matrix single errors are faint specks; the root lifts them.
    norm = PowerNorm(0.5 if len(class_names) > MAX_NAMED else 1.0, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap=_colours(), norm=norm, interpolation="none")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.set_label("share of the class's videos")
    _label_axes(axes, class_names)
    if len(class_names) <= MAX_WRITTEN:
        _write_cells(axes, shares)
    if title:
        axes.set_title(title, loc="left")
    return figure


def _row_shares(confusion: np.ndarray) -> np.ndarray:
    """Rows divided by their sums; NaN where a class has no videos."""
    videos = confusion.sum(axis=1, keepdims=True)
    shares = np.full(confusion.shape, np.nan)
    return np.divide(confusion, videos, out=shares, where=videos > 0)


def _matrix_inches(num_classes: int) -> float:
    """Side of the picture: room for names and numbers, bounded at both ends."""
    if num_classes <= MAX_NAMED:
        return min(max(4.5, 2.5 + 0.36 * num_classes), 15.0)
    return 11.0


def _colours():
    """White to dark blue, grey for "no videos"."""
    return colormaps["Blues"].with_extremes(bad="0.88")


def _label_axes(axes: Axes, class_names: list[str]) -> None:
    """Names on both axes as long as they can be read, else indices."""
    num_classes = len(class_names)
    if num_classes > MAX_NAMED:
        axes.set_xlabel(f"predicted class (index, {num_classes} classes)")
        axes.set_ylabel("true class (index)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=20, integer=True))
        return
    names = [_shortened(name) for name in class_names]
    font = 9 if num_classes <= 30 else 7
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    # `parse_math` off: a dollar sign in a class name is a dollar sign.
    axes.set_yticks(range(num_classes), names, fontsize=font, parse_math=False)
    axes.set_xticks(
        range(num_classes),
        names,
        fontsize=font,
        parse_math=False,
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )


def _shortened(name: str) -> str:
    """A name that leaves room for the matrix."""
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return name[: MAX_NAME_LENGTH - 1] + "…"


def _write_cells(axes: Axes, shares: np.ndarray) -> None:
    """Percentages in the cells that are not empty."""
    for row, column in zip(*np.nonzero(np.nan_to_num(shares)), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.55 else "black",
        )
