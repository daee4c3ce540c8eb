"""What a mirrored clip shows: class pairs found in the class names.

A mirrored "pulling something from left to right" *is* "pulling something from right
to left". The pairs follow from the names, so they are right for every order of the
labels (published index lists are valid for one order only).
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

FLIP_MODES = ("none", "swap", "all")

_OPPOSITES = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "lefthand": "righthand",
    "lefthanded": "righthanded",
    "leftmost": "rightmost",
    "clockwise": "counterclockwise",
}
_MIRROR = _OPPOSITES | {right: left for left, right in _OPPOSITES.items()}

# One spelling each, so that "counter-clockwise" finds "clockwise" and "CW" "CCW".
_SPELLINGS = {
    r"\b(?:counter|anti) ?clockwise\b": "counterclockwise",
    r"\bccw\b": "counterclockwise",
    r"\bcw\b": "clockwise",
}


def flip_map(class_names: Sequence[str], mode: str) -> np.ndarray | None:
    """Say for each class what its mirrored clips show.

    Args:
        class_names: names in the order of the labels.
        mode: `"none"`: nothing is mirrored. `"all"`: everything is, and keeps its
            label. `"swap"`: left and right (clockwise and counter-clockwise) change
            places; a directional class without a partner is never mirrored, all other
            classes keep their label.

    Returns:
        int32 `(num_classes,)`: the label of the mirrored clip, -1 for "never mirror";
        `None` for mode `"none"`. Without its -1 entries the map is its own inverse.

    Raises:
        ValueError: `mode` is unknown.

    Example:
        ```python
        flip_map(["clap", "turn left", "turn right", "keep right"], "swap")
        # [0, 2, 1, -1]
        ```
    """
    if mode not in FLIP_MODES:
        raise ValueError(f"`mode` must be one of {FLIP_MODES}. Received: {mode!r}")
    if mode == "none":
        return None
    if mode == "all":
        return np.arange(len(class_names), dtype=np.int32)
    return np.array(_mirrored_labels(class_names), np.int32)


def _mirrored_labels(class_names: Sequence[str]) -> list[int]:
    """The swap map as a list."""
    keys = [_normalize(name) for name in class_names]
    count = Counter(keys)
    position = {key: index for index, key in enumerate(keys)}
    labels = []
    for label, key in enumerate(keys):
        mirrored = _mirror_words(key)
        if mirrored == key:
            glued = _mirror_glued(key)
            mirrored = glued if glued in position else key
        if mirrored == key:
            labels.append(label)  # nothing directional in the name
        elif count[key] == 1 and count[mirrored] == 1:
            labels.append(position[mirrored])
        else:
            labels.append(-1)
    return labels


def _normalize(name: str) -> str:
    """Lower-case words separated by single spaces; `MoveLeft`, `move_left` are one."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    key = " ".join(re.findall(r"[^\W_]+", spaced.lower()))
    for pattern, spelling in _SPELLINGS.items():
        key = re.sub(pattern, spelling, key)
    return key


def _mirror_words(key: str) -> str:
    """Exchange the words for left and right."""
    return " ".join(_MIRROR.get(word, word) for word in key.split())


def _mirror_glued(key: str) -> str:
    """Exchange left and right inside words too ("moveleft"); counts only in pairs."""
    return re.sub("left|right", lambda found: _MIRROR[found[0]], key)
