"""Which stage of a network a layer belongs to."""

import re
from collections.abc import Sequence

# Our (and torchvision's) names, and those of the ResNets of keras.applications.
NAMES = (
    (re.compile(r"(?:^|/)layer([1-4])_"), 1),
    (re.compile(r"(?:^|/)conv([2-5])_block"), 0),
)


def find_stages(names: Sequence[str], shapes: Sequence[tuple]) -> list[str]:
    """A stage for every layer, given names and output shapes in order of execution.

    Residual networks whose layers are named as torchvision's (`layer1_0_conv1`) or as in
    keras.applications (`conv2_block1_...`): `"stem"`, `"res2"` to `"res5"`, `"head"`.
    Other networks: the smallest map so far, `"56x56"`, and `"head"` after the last map.
    """
    numbers = [_number(name) for name in names]
    if any(numbers):
        return _by_name(numbers)
    return _by_size(shapes)


def _number(name: str) -> int | None:
    for pattern, offset in NAMES:
        found = pattern.search(name)
        if found:
            return int(found.group(1)) + offset
    return None


def _by_name(numbers):
    named = [i for i, number in enumerate(numbers) if number]
    stages, current = [], "stem"
    for index, number in enumerate(numbers):
        if number:
            current = f"res{number}"
        stages.append("head" if index > named[-1] else current)
    return stages


def _by_size(shapes):
    maps = [_map(shape) for shape in shapes]
    last = max((i for i, size in enumerate(maps) if size), default=-1)
    stages, smallest = [], None
    for index, size in enumerate(maps):
        if size and (smallest is None or size[0] * size[1] < smallest[0] * smallest[1]):
            smallest = size
        stages.append("head" if index > last or not smallest else _label(smallest))
    return stages


def _map(shape) -> tuple[int, int] | None:
    """Height and width of `(..., H, W, C)`; None for vectors and pooled maps."""
    size = shape[-3:-1] if len(shape) >= 4 else None
    return tuple(size) if size and size[0] * size[1] > 1 else None


def _label(size) -> str:
    return f"{size[0]}x{size[1]}"
