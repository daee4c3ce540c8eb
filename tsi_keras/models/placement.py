"""Where temporal modules sit in a residual network, and how several are joined."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from tsi_keras.models.temporal import get_temporal

FUSIONS = ("cascade", "sum", "concat")


class TemporalPlacement:
    """Builds the temporal layers of one block, for the blocks that get some.

    Args:
        temporal: registered name or callable `(num_frames, name) -> Layer`.
        num_frames: frames per clip.
        fusion: how the parts of a module are joined: `"cascade"` (one after the other),
            `"sum"` (of their outputs on the same input) or `"concat"` (of their outputs
            along the channels, which widens the next convolution). TSI Table 7.
        options: keyword arguments by short layer name, `{"sme": {"gate": "centered"}}`.
    """

    def __init__(self, temporal, num_frames, fusion="cascade", options=None):
        if fusion not in FUSIONS:
            raise ValueError(
                f"`fusion` must be one of {list(FUSIONS)}. Received: fusion={fusion!r}"
            )
        self.num_frames = num_frames
        self.fusion = fusion
        self.parts = _parts(temporal)
        self.options = _check_options(options or {}, self.parts)

    def __call__(self, x, prefix: str):
        """Apply the layers, named `prefix_part`, to the frame maps `x`."""
        layers = [self._layer(part, prefix) for part in self.parts]
        if self.fusion == "cascade" or len(layers) < 2:
            for layer in layers:
                x = layer(x)
            return x
        outputs = [layer(x) for layer in layers]
        if self.fusion == "sum":
            return keras.layers.Add(name=f"{prefix}_sum")(outputs)
        return keras.layers.Concatenate(name=f"{prefix}_concat")(outputs)

    def _layer(self, part, prefix):
        options = self.options.get(part, {})
        return self.parts[part](
            num_frames=self.num_frames, name=f"{prefix}_{part}", **options
        )


def _parts(temporal) -> Mapping[str, Callable]:
    if callable(temporal):
        return {"temporal": temporal}
    return get_temporal(temporal).parts


def _check_options(options, parts):
    unknown = set(options) - set(parts)
    if unknown:
        raise ValueError(
            f"`temporal_options` has entries for {sorted(unknown)}, but this temporal "
            f"module consists of {sorted(parts) or 'nothing'}."
        )
    return {part: dict(values) for part, values in options.items()}


def chosen_blocks(
    stages: Sequence[int], blocks, counts: Sequence[int]
) -> dict[int, frozenset[int]]:
    """The block indices, by stage 2 to 5, that get temporal modules.

    Args:
        stages: stages with temporal modules, numbered 2 to 5 as in the papers.
        blocks: `"all"`, `"first"` (TSI Table 6), or one list of indices per stage.
        counts: blocks of the four stages.

    Raises:
        ValueError: a stage outside 2 to 5, lists that do not match `stages`, or an index
            outside its stage.
    """
    if not set(stages) <= {2, 3, 4, 5} or len(set(stages)) != len(list(stages)):
        raise ValueError(
            "`stages` must be distinct numbers from 2 to 5 (res2 to res5). "
            f"Received: stages={tuple(stages)}"
        )
    if blocks in ("all", "first"):
        return {
            stage: frozenset(range(counts[stage - 2] if blocks == "all" else 1))
            for stage in stages
        }
    if isinstance(blocks, str) or len(blocks) != len(stages):
        raise ValueError(
            '`blocks` must be "all", "first", or one list of block indices per stage in '
            f"`stages`={tuple(stages)}. Received: blocks={blocks!r}"
        )
    return {
        stage: _check_indices(stage, indices, counts[stage - 2])
        for stage, indices in zip(stages, blocks, strict=True)
    }


def _check_indices(stage, indices, count) -> frozenset[int]:
    outside = [i for i in indices if not 0 <= i < count]
    if outside:
        raise ValueError(
            f"res{stage} has the blocks 0 to {count - 1}. Received in `blocks`: {outside}"
        )
    return frozenset(int(i) for i in indices)
