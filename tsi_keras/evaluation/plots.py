"""Pictures of an evaluation."""

from pathlib import Path

import numpy as np

from tsi_keras.utils.confusion_plot import MAX_NAMED
from tsi_keras.utils.confusion_plot import confusion_figure


def draw_confusion(
    confusion: np.ndarray,
    class_names: list[str],
    path: str | Path,
    *,
    title: str | None = None,
) -> Path:
    """Draw a confusion matrix with normalised rows as PNG.

    Args:
        confusion: int `(K, K)`, rows are true classes; see
            `metrics.confusion_matrix`.
        class_names: the K names in label order.
        path: the PNG to write.
        title: one line above the matrix.

    Returns:
        `path`. See `confusion_figure` for what is drawn.
    """
    figure = confusion_figure(confusion, class_names, title)
    dpi = 200 if len(class_names) > MAX_NAMED else 150
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.15)
    return Path(path)
