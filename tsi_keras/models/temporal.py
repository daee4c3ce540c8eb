"""The registry of temporal modules: what a `temporal` name puts into a network."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

import keras

from tsi_keras.models._arguments import did_you_mean

LayerFactory = Callable[..., keras.layers.Layer]

# In the order in which a residual block meets them.
PLACES = (
    "block",
    "branch_input",
    "before_spatial",
    "beside_spatial",
    "spatial",
    "after_spatial",
    "after_stage",
)


@dataclass(frozen=True)
class Part:
    """One layer of a temporal module and its place in the network.

    Attributes:
        factory: called with `num_frames`, `name` and the user's options for the part.
        place: where the layer sits.

            - `"block"`: on the input of a residual block, shortcut included.
            - `"branch_input"`: on the input of the residual branch; the shortcut keeps
              the unchanged input.
            - `"before_spatial"`: between the first activation and the 3x3 convolution
              (in basic blocks the first 3x3, so the same as `"branch_input"`).
            - `"beside_spatial"`: parallel to the 3x3 convolution, summed after its BN.
              The factory also gets `strides`.
            - `"spatial"`: instead of the 3x3 convolution, its BN and its ReLU. The
              factory also gets `strides` and `block_type`, `"stage"` for the first block
              of a stage and `"normal"` for the others. Bottlenecks only.
            - `"after_spatial"`: after the ReLU that follows the 3x3 convolution.
            - `"after_stage"`: on the output of a stage.
        stages: the stages, 2 to 5, that a part with the place `"after_stage"` follows.
    """

    factory: LayerFactory
    place: str = "after_spatial"
    stages: tuple[int, ...] = (2, 3, 4, 5)

    def __post_init__(self):
        if self.place not in PLACES:
            raise ValueError(
                f"`place` must be one of {list(PLACES)}. Received: place={self.place!r}"
            )


@dataclass(frozen=True)
class TemporalModule:
    """One registered name.

    Attributes:
        description: one line for `list_temporal`.
        parts: the layers by the short name they carry in the network, in the order in
            which they follow one another at the same place.
        branch_width: channels inside the residual branch of a bottleneck, from the
            backbone's width at that stage.
    """

    description: str
    parts: Mapping[str, Part]
    branch_width: Callable[[int], int] = field(default=lambda width: width)


_REGISTRY: dict[str, TemporalModule] = {}


def register_temporal(
    name: str,
    description: str,
    parts: Mapping[str, LayerFactory | Part],
    branch_width: Callable[[int], int] | None = None,
) -> None:
    """Make `name` known to `TemporalResNet(temporal=name)` and `insert_temporal`.

    Args:
        name: the new name.
        description: one line for `list_temporal`.
        parts: by short layer name, `Part`s or bare factories
            `(num_frames, name, **options) -> Layer`, which sit after the spatial
            convolution. Several parts there are joined as the backbone's `fusion` says;
            elsewhere they follow one another.
        branch_width: channels inside the residual branch of a bottleneck from the
            backbone's width (64 to 512); by default the same.

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
    whole = {
        short: part if isinstance(part, Part) else Part(part)
        for short, part in parts.items()
    }
    extra = {} if branch_width is None else {"branch_width": branch_width}
    _REGISTRY[name] = TemporalModule(description, whole, **extra)


def get_temporal(name: str) -> TemporalModule:
    """Look a registered module up.

    Raises:
        ValueError: `name` is not registered; the message lists near matches.
    """
    if name not in _REGISTRY:
        raise ValueError(
            f"`temporal` must be a registered name or a callable. Received: {name!r}. "
            f"{did_you_mean(name, _REGISTRY)}Registered: {', '.join(sorted(_REGISTRY))}."
        )
    return _REGISTRY[name]


def resolve_temporal(temporal) -> TemporalModule:
    """The module of a registered name, or of a callable `(num_frames, name) -> Layer`."""
    if callable(temporal):
        return TemporalModule("", {"temporal": Part(temporal)})
    return get_temporal(temporal)


def list_temporal() -> dict[str, str]:
    """All registered names with one line each."""
    return {name: _REGISTRY[name].description for name in sorted(_REGISTRY)}
