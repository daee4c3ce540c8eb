"""Where temporal modules sit in a residual network, and how several are joined."""

from collections.abc import Sequence

import keras

from tsi_keras.models.temporal import resolve_temporal

FUSIONS = ("cascade", "sum", "concat")


class TemporalPlacement:
    """Builds the temporal layers of a block or stage, place by place.

    Args:
        temporal: registered name or callable `(num_frames, name) -> Layer`.
        num_frames: frames per clip.
        fusion: how the parts after the spatial convolution are joined: `"cascade"` (one
            after the other), `"sum"` (of their outputs on the same input) or `"concat"`
            (of their outputs along the channels, which widens the next convolution). TSI
            Table 7.
        options: keyword arguments by short layer name, `{"sme": {"gate": "centered"}}`.
    """

    def __init__(self, temporal, num_frames, fusion="cascade", options=None):
        if fusion not in FUSIONS:
            raise ValueError(
                f"`fusion` must be one of {list(FUSIONS)}. Received: fusion={fusion!r}"
            )
        module = resolve_temporal(temporal)
        self.num_frames = num_frames
        self.fusion = fusion
        self.parts = module.parts
        self.branch_width = module.branch_width
        self.options = _check_options(options or {}, self.parts)
        if fusion != "cascade" and len(self.at("after_spatial")) < 2:
            raise ValueError(
                f"`fusion={fusion!r}` joins parts that follow the spatial convolution, "
                f"of which this temporal module has {len(self.at('after_spatial'))}; "
                'leave it at "cascade".'
            )

    def cascade(self, x, prefix: str, place: str):
        """Apply the layers of a place one after the other; none leaves `x` as it is."""
        for part in self.at(place):
            x = self._apply(x, part, prefix)
        return x

    def after_spatial(self, x, prefix: str):
        """Apply the layers after the spatial convolution, joined by `fusion`."""
        parts = self.at("after_spatial")
        if self.fusion == "cascade" or len(parts) < 2:
            return self.cascade(x, prefix, "after_spatial")
        outputs = [self._apply(x, part, prefix) for part in parts]
        if self.fusion == "sum":
            return keras.layers.Add(name=f"{prefix}_sum")(outputs)
        return keras.layers.Concatenate(name=f"{prefix}_concat")(outputs)

    def beside_spatial(self, x, prefix: str, strides: int) -> list:
        """Outputs of the layers parallel to the spatial convolution."""
        return [
            self._apply(x, part, prefix, strides=strides)
            for part in self.at("beside_spatial")
        ]

    def spatial(self, x, prefix: str, **block):
        """Apply the layers that replace the spatial convolution, or return None."""
        parts = self.at("spatial")
        for part in parts:
            x = self._apply(x, part, prefix, **block)
        return x if parts else None

    def after_stage(self, x, stage: int):
        """Apply the layers that follow a stage, 2 to 5."""
        for part in self.at("after_stage"):
            if stage in self.parts[part].stages:
                x = self._apply(x, part, f"layer{stage - 1}")
        return x

    def at(self, place: str) -> list[str]:
        """Short names of the parts at a place."""
        return [name for name, part in self.parts.items() if part.place == place]

    def check_stages(self, stages: Sequence[int]) -> None:
        """Raise when a part that follows certain stages would have none of them."""
        for name in self.at("after_stage"):
            wanted = self.parts[name].stages
            if stages and not set(wanted) & set(stages):
                raise ValueError(
                    f"`{name}` follows {_stage_names(wanted)}, none of which is in "
                    f"`stages`. Received: stages={tuple(stages)}"
                )

    def _apply(self, x, part, prefix, **extra):
        """Make a layer and call it; an error tells which layer of the network it is."""
        layer = self.parts[part].factory(
            num_frames=self.num_frames,
            name=f"{prefix}_{part}",
            **extra,
            **self.options.get(part, {}),
        )
        try:
            return layer(x)
        except ValueError as error:
            raise ValueError(
                f"{prefix}_{part}, on {x.shape[-1]} channels: {str(error).rstrip('.')}. "
                f"Its options are `temporal_options={{{part!r}: {{...}}}}`, its width "
                "`base_width`."
            ) from error


def _stage_names(stages) -> str:
    return " and ".join(f"res{stage}" for stage in stages)


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
        blocks: `"all"`, `"first"` (TSI Table 6), `"alternate"` (every second, from the
            first: TSM's official code with ResNet-101), or one list of indices per
            stage.
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
    if blocks in ("all", "first", "alternate"):
        return {stage: _named_blocks(blocks, counts[stage - 2]) for stage in stages}
    if isinstance(blocks, str) or len(blocks) != len(stages):
        raise ValueError(
            '`blocks` must be "all", "first", "alternate", or one list of block indices '
            f"per stage in `stages`={tuple(stages)}. Received: blocks={blocks!r}"
        )
    return {
        stage: _check_indices(stage, indices, counts[stage - 2])
        for stage, indices in zip(stages, blocks, strict=True)
    }


def _named_blocks(blocks, count) -> frozenset[int]:
    ranges = {
        "all": range(count),
        "first": range(1),
        "alternate": range(0, count, 2),
    }
    return frozenset(ranges[blocks])


def _check_indices(stage, indices, count) -> frozenset[int]:
    outside = [i for i in indices if not 0 <= i < count]
    if outside:
        raise ValueError(
            f"res{stage} has the blocks 0 to {count - 1}. Received in `blocks`: {outside}"
        )
    return frozenset(int(i) for i in indices)
