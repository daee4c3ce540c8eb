"""Classification metrics in NumPy float64, from logits and integer labels."""

from dataclasses import dataclass

import numpy as np

TOP5 = 5


@dataclass(frozen=True)
class ClassRow:
    """What happened to the videos of one class.

    Attributes:
        index: the label.
        name: the class name.
        videos: scored videos of this class.
        correct: how many of them were recognised (top-1).
        predicted: videos of any class that were taken for this one.
        recall: `correct / videos`, None without videos.
        precision: `correct / predicted`, None when it was never predicted.
    """

    index: int
    name: str
    videos: int
    correct: int
    predicted: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Metrics:
    """The headline figures of one evaluation, as fractions in 0..1.

    Attributes:
        top1: share of videos whose highest logit is that of their class.
        top5: share of videos whose class is among the five highest logits; None
            with five classes or fewer, where it could only be 1.
        mean_class_accuracy: mean of the recalls of the classes that have videos.
        scored_classes: how many classes have videos.
    """

    top1: float
    top5: float | None
    mean_class_accuracy: float
    scored_classes: int


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 `(N, K)`, of `logits` `(N, K)`."""
    logits = np.asarray(logits, dtype=np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def true_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Position of each video's class among its logits, best first.

    Equal logits are ordered by class index, as `argmax` does, so that a model with
    constant output does not look perfect.

    Args:
        logits: `(N, K)` finite numbers.
        labels: `(N,)` integers in 0..K-1.

    Returns:
        int64 `(N,)`; 0 where the class has the highest logit.

    Raises:
        ValueError: shapes do not match, a label is out of range or a logit is not
            finite.

    Example:
        ```python
        true_ranks([[0.1, 0.7, 0.2]], [2])  # array([1])
        ```
    """
    logits, labels = _checked(logits, labels)
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    ahead = (logits > own) | ((logits == own) & earlier)
    return ahead.sum(axis=1)


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of videos whose class is among the `k` highest logits.

    Args:
        logits: `(N, K)` finite numbers, N >= 1.
        labels: `(N,)` integers in 0..K-1.
        k: 1 or more.

    Returns:
        A fraction in 0..1; ties as in `true_ranks`.

    Raises:
        ValueError: as `true_ranks`, or there are no videos.
    """
    ranks = true_ranks(logits, labels)
    if not len(ranks):
        raise ValueError("There are no videos to score.")
    return float(np.mean(ranks < k, dtype=np.float64))


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the videos of each class by predicted class.

    Args:
        labels: `(N,)` integers, the true classes.
        predictions: `(N,)` integers, the predicted classes.
        num_classes: K.

    Returns:
        int64 `(K, K)`; rows are true classes, columns predicted ones.
    """
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predictions)), 1)
    return matrix


def mean_class_accuracy(confusion: np.ndarray) -> float:
    """Mean recall over the classes that have videos; `confusion` is `(K, K)`."""
    videos = confusion.sum(axis=1)
    present = videos > 0
    return float(np.mean(np.diag(confusion)[present] / videos[present]))


def compute_metrics(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Return the headline figures of `logits` `(N, K)` for `labels` `(N,)`.

    Raises:
        ValueError: as `top_k_accuracy`.
    """
    num_classes = np.shape(logits)[1]
    top1 = top_k_accuracy(logits, labels, 1)
    top5 = top_k_accuracy(logits, labels, TOP5) if num_classes > TOP5 else None
    confusion = confusion_matrix(labels, np.argmax(logits, axis=1), num_classes)
    return Metrics(
        top1=top1,
        top5=top5,
        mean_class_accuracy=mean_class_accuracy(confusion),
        scored_classes=int((confusion.sum(axis=1) > 0).sum()),
    )


def class_table(confusion: np.ndarray, class_names: list[str]) -> list[ClassRow]:
    """Return one row per class of `confusion` `(K, K)`, in label order."""
    videos, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        ClassRow(
            index=i,
            name=name,
            videos=int(videos[i]),
            correct=int(confusion[i, i]),
            predicted=int(predicted[i]),
            recall=_share(confusion[i, i], videos[i]),
            precision=_share(confusion[i, i], predicted[i]),
        )
        for i, name in enumerate(class_names)
    ]


def _share(part: int, whole: int) -> float | None:
    """`part / whole`, None where there is no whole."""
    return float(part / whole) if whole else None


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of the right kind, or a ValueError that says what is wrong."""
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "`logits` must be (N, K) and `labels` (N,). "
            f"Received: {logits.shape} and {labels.shape}"
        )
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits).all(axis=1)).sum())
        raise ValueError(f"`logits` of {bad} of {len(logits)} videos are not finite.")
    if labels.size and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise ValueError(
            f"`labels` must lie in 0..{logits.shape[1] - 1}. "
            f"Received: {labels.min()}..{labels.max()}"
        )
    return logits, labels
