"""Groups of variables with learning rates and decays of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterGroup:
    """Variables whose path matches a pattern, and how their update differs.

    Attributes:
        name: what to call the group.
        pattern: regular expression, searched in `variable.path`.
        learning_rate: factor on the learning rate.
        weight_decay: factor on the weight decay.
        required: a model without such a variable is an error.
    """

    name: str
    pattern: str
    learning_rate: float = 1.0
    weight_decay: float = 1.0
    required: bool = False


def tsn_groups(
    head: str = "classifier", first_convolution: str = "conv1"
) -> tuple[ParameterGroup, ...]:
    """Return the parameter groups of TSN with TEA's rule for the head.

    The first convolution has the factors of the others, as the sources have it for RGB
    frames (they multiply its rates by 5 for optical flow, which
    `dataclasses.replace(group, learning_rate=...)` can do). Only the classifier gets the
    factors 5 and 10; the Dense layers inside temporal modules do not. What
    `freeze_batch_norm` froze belongs to no group.

    Args:
        head: name of the layer that yields the logits.
        first_convolution: name of the layer that sees the frames; a network without
            such a layer is trained in the same way.

    Source: `get_optim_policies` in TSM's and TEA's `ops/models.py`.

    Example:
        ```python
        optimizer = GroupedSGD(0.01, groups=tsn_groups(first_convolution="conv1_conv"))
        ```
    """
    head, first = re.escape(head), re.escape(first_convolution)
    return (
        ParameterGroup("head weights", rf"(^|/){head}/kernel$", 5.0, 1.0, True),
        ParameterGroup("head biases", rf"(^|/){head}/bias$", 10.0, 0.0, True),
        ParameterGroup("first convolution weights", rf"(^|/){first}/kernel$"),
        ParameterGroup("first convolution biases", rf"(^|/){first}/bias$", 2.0, 0.0),
        ParameterGroup("normalisation", r"/(gamma|beta)$", 1.0, 0.0),
        ParameterGroup("biases", r"/bias$", 2.0, 0.0),
        ParameterGroup("weights", r"", 1.0, 1.0),
    )


def assign_groups(
    groups: Sequence[ParameterGroup], paths: Sequence[str]
) -> list[ParameterGroup]:
    """Return the group of every variable: the first whose pattern occurs in its path.

    Args:
        groups: in the order of their precedence.
        paths: `variable.path` of every variable.

    Raises:
        ValueError: a variable without group, or a required group without variable.
    """
    found = [_find_group(groups, path) for path in paths]
    # A head that no pattern finds would silently train at the body's rate.
    for group in groups:
        if group.required and group not in found:
            raise ValueError(
                f"`groups`: no variable matches {group.pattern!r} (group "
                f"{group.name!r}). Name your head, as in "
                "`GroupedSGD(groups=tsn_groups(head='predictions'))`."
            )
    return found


def _find_group(groups: Sequence[ParameterGroup], path: str) -> ParameterGroup:
    for group in groups:
        if re.search(group.pattern, path):
            return group
    raise ValueError(
        f"`groups` has no group for the variable {path}. End the list with a "
        f"pattern that matches everything. Received: {list(groups)}"
    )
