"""The registry of temporal modules: what a `temporal` name puts into a residual block."""

import difflib
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

import keras

from tsi_keras.layers import CrossScaleTemporalIntegration
from tsi_keras.layers import SalientMotionExcitation
from tsi_keras.layers import TemporalConv1D

LayerFactory = Callable[..., keras.layers.Layer]


@dataclass(frozen=True)
class TemporalModule:
    """One registered name.

    Attributes:
        description: one line for `list_temporal`.
        parts: layer factories by the short name their layers carry in the network, in
            the order of the paper. Each is called with `num_frames`, `name` and the
            user's options for that part.
    """

    description: str
    parts: Mapping[str, LayerFactory]


_REGISTRY: dict[str, TemporalModule] = {}


def register_temporal(
    name: str, description: str, parts: Mapping[str, LayerFactory]
) -> None:
    """Make `name` known to `TemporalResNet(temporal=name)`.

    Args:
        name: the new name.
        description: one line for `list_temporal`.
        parts: factories `(num_frames, name, **options) -> Layer` by short layer name;
            several parts are joined as the backbone's `fusion` says.

    Raises:
        ValueError: `name` is taken.

    Example:
        ```python
        register_temporal(
            "tim5", "TIM over five frames", {"tim": partial(TemporalConv1D, kernel_size=5)}
        )
        ```
    """
    if name in _REGISTRY:
        raise ValueError(f"The temporal module {name!r} is already registered.")
    _REGISTRY[name] = TemporalModule(description, dict(parts))


def get_temporal(name: str) -> TemporalModule:
    """Look a registered module up.

    Raises:
        ValueError: `name` is not registered; the message lists near matches.
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(str(name), _REGISTRY, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"`temporal` must be a registered name or a callable. Received: {name!r}. "
            f"{hint}Registered: {', '.join(sorted(_REGISTRY))}."
        )
    return _REGISTRY[name]


def list_temporal() -> dict[str, str]:
    """All registered names with one line each."""
    return {name: _REGISTRY[name].description for name in sorted(_REGISTRY)}


register_temporal("none", "no temporal module: TSN, frames are averaged", {})
register_temporal(
    "tim",
    "TEINet's depthwise temporal convolution in CTI's place",
    {"tim": TemporalConv1D},
)
register_temporal(
    "sme", "salient motion excitation alone", {"sme": SalientMotionExcitation}
)
register_temporal(
    "tim+sme",
    "salient motion excitation, then TIM (TSI Tables 4 and 5)",
    {"sme": SalientMotionExcitation, "tim": TemporalConv1D},
)
register_temporal(
    "cti",
    "cross-scale temporal integration alone",
    {"cti": CrossScaleTemporalIntegration},
)
register_temporal(
    "tsi",
    "TSI: salient motion excitation, then cross-scale temporal integration",
    {"sme": SalientMotionExcitation, "cti": CrossScaleTemporalIntegration},
)
