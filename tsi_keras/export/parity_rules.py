"""How far an export may be from its Keras model, by kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsi_keras.utils.errors import InputError


class ParityError(RuntimeError):
    """An exported model does not do what the Keras model does.

    Attributes:
        report: what was measured, as `measure_parity` returns it, or None.
    """

    report: dict[str, Any] | None = None


@dataclass(frozen=True)
class Threshold:
    """What is asked of a kind of export; None where nothing is.

    Attributes:
        max_difference: largest difference of any logit; of a file that another library
            than TensorFlow runs, in units of the largest logit if that is above 1.
        min_agreement: smallest share of clips with the same best class.
    """

    max_difference: float | None = None
    min_agreement: float | None = None


# Weights in float32 change nothing; rounded ones change logits, but hardly classes.
THRESHOLDS = {
    "float32": Threshold(max_difference=1e-4),
    "float16": Threshold(min_agreement=0.99),
    "bfloat16": Threshold(min_agreement=0.99),
    "dynamic": Threshold(min_agreement=0.98),
    "int8": Threshold(min_agreement=0.95),
    "onnx": Threshold(max_difference=1e-4),
}


def thresholds_for(
    source: str, min_agreement: Mapping[str, float] | None
) -> dict[str, Threshold]:
    """Return the threshold of every kind.

    Args:
        source: of the clips. On noise ("random") no agreement is asked for: the best
            classes of a trained model are near-ties there.
        min_agreement: other shares (0 to 1) for some kinds; the largest difference that
            float32 allows stays.

    Raises:
        InputError: an unknown kind, a share out of range, or shares for noise.
    """
    if source == "random" and not min_agreement:
        return {k: Threshold(t.max_difference) for k, t in THRESHOLDS.items()}
    changed = {}
    for kind, share in (min_agreement or {}).items():
        if kind not in THRESHOLDS or not 0 <= share <= 1:
            raise InputError(
                f"`min_agreement` maps {', '.join(THRESHOLDS)} to a share from 0 to 1. "
                f"Received: {kind}={share}"
            )
        changed[kind] = Threshold(THRESHOLDS[kind].max_difference, share)
    if source == "random":
        raise InputError(
            "`min_agreement` needs real clips: on noise no class is right. Give a data "
            f"set, or leave it out. Received: {dict(min_agreement)}"
        )
    return {**THRESHOLDS, **changed}


def compare_logits(
    expected: np.ndarray, actual: np.ndarray, ids: list[str]
) -> dict[str, Any]:
    """How far two sets of logits are apart.

    Args:
        expected: those of the Keras model, `(N, K)`.
        actual: those of the export.
        ids: names of the clips.

    Returns:
        `max_difference`, `mean_difference` of the logits; `top1_agreement`, the share
        of clips with the same best class, strictly; `disagreeing`: the names of the
        others; `near_ties`: how many of those the Keras model itself decided by less
        than this export usually moves a logit (the median over the clips of the largest
        difference in a clip).
    """
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    gap = np.abs(expected - actual)
    # No order among NaN: such a clip agrees with nothing.
    same = expected.argmax(axis=1) == actual.argmax(axis=1)
    same &= np.isfinite(gap).all(axis=1)
    close = top1_margins(expected) < np.median(gap.max(axis=1))
    return {
        "max_difference": float(gap.max()),
        "mean_difference": float(gap.mean()),
        "top1_agreement": float(same.mean()),
        "disagreeing": [
            name for name, agrees in zip(ids, same, strict=True) if not agrees
        ],
        "near_ties": int((close & ~same).sum()),
    }


def top1_margins(logits: np.ndarray) -> np.ndarray:
    """By how much the best logit beats the second, `(N,)`; infinite for one class."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    second, best = np.partition(logits, -2, axis=1)[:, -2:].T
    return best - second


def complaint(
    name: str, figures: Mapping[str, Any], threshold: Threshold, clips: int
) -> str | None:
    """What is wrong with an export, in one sentence, or None."""
    gap, share = figures["max_difference"], figures["top1_agreement"]
    most, least = threshold.max_difference, threshold.min_agreement
    if most is not None:
        most *= figures.get("unit", 1.0)
    # Written so that NaN fails.
    if not np.isfinite(gap):
        return f"{name} gives logits that are not finite"
    if most is not None and not gap <= most:
        return (
            f"the logits of {name} differ from those of the Keras model by up to "
            f"{gap:.3g} on {clips} clips; at most {most:g} is allowed"
        )
    if least is not None and not share >= least:
        different = figures["disagreeing"]
        some = ", ".join(different[:3]) + (", ..." if len(different) > 3 else "")
        return (
            f"the best class of {name} is that of the Keras model in {share:.1%} of "
            f"{clips} clips; {least:.1%} is asked for. It differs in {some} "
            f"({figures['near_ties']} of {len(different)} are near-ties of the Keras "
            f"model; logits differ by up to {gap:.3g})"
        )
    return None
