"""What a model says about a video: its most probable classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

from tsi_keras.evaluation.metrics import softmax


@dataclass(frozen=True)
class Candidate:
    """One class a video may belong to.

    Attributes:
        rank: 1 for the most probable.
        index: the label.
        label: the class name.
        probability: softmax of the logits, 0..1.
    """

    rank: int
    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says about one video file.

    Attributes:
        path: the file.
        candidates: the most probable classes, best first; empty after an error.
        error: why the file could not be classified, or None.
        logits: float32 `(K,)`, or None after an error.
    """

    path: Path
    candidates: list[Candidate] = field(default_factory=list)
    error: str | None = None
    logits: np.ndarray | None = field(default=None, repr=False, compare=False)


def best_classes(
    path: Path, logits: np.ndarray, class_names: Sequence[str], top_k: int
) -> Prediction:
    """Return what the scores of one video say.

    Args:
        path: the video.
        logits: `(K,)`.
        class_names: K names.
        top_k: candidates, at most K.

    Returns:
        The prediction; an `error` where a score is not finite.
    """
    if not np.isfinite(logits).all():
        return Prediction(path, error="the model's scores are not finite numbers")
    candidates = rank_classes(class_names, softmax(logits), top_k)
    return Prediction(path, candidates, logits=logits)


def rank_classes(
    class_names: Sequence[str], probabilities: np.ndarray, top_k: int
) -> list[Candidate]:
    """Return the most probable classes, best first; of equal ones the lower label.

    Args:
        class_names: K names.
        probabilities: `(K,)`.
        top_k: how many; at most K.
    """
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        Candidate(rank, int(i), class_names[i], float(probabilities[i]))
        for rank, i in enumerate(best, start=1)
    ]
