"""Which temporal layers go where in an image network."""

from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set

import keras

from tsi_keras.models._arguments import did_you_mean
from tsi_keras.models.layer_graph import LayerGraph
from tsi_keras.models.placement import TemporalPlacement
from tsi_keras.models.residual_graph import PLACE_RULES
from tsi_keras.models.residual_graph import Point
from tsi_keras.models.residual_graph import residual_blocks
from tsi_keras.models.temporal import PLACES

# Places inside a block that no other layer's output stands for.
INSIDE_BLOCKS = ("spatial", "beside_spatial")


def plan_insertions(
    graph: LayerGraph, placement: TemporalPlacement, where=None
) -> list[tuple[Point, list[str]]]:
    """The points, each with the short names of the parts it gets, in their order.

    Args:
        graph: of the image network.
        placement: the temporal module.
        where: as for `insert_temporal`.

    Raises:
        ValueError: a part that has no place here, no residual block, an unknown layer.
    """
    if not isinstance(where, Mapping):
        return _plan_parts(graph, placement, list(placement.parts), where)
    unknown = set(where) - set(placement.parts)
    if unknown:
        raise ValueError(
            f"`where` has entries for {sorted(unknown)}, but this temporal module "
            f"consists of {sorted(placement.parts) or 'nothing'}."
        )
    rest = [part for part in placement.parts if part not in where]
    plan = _plan_parts(graph, placement, rest, None)
    for part, chosen in where.items():
        plan += _plan_parts(graph, placement, [part], chosen)
    return plan


def _plan_parts(graph, placement, parts, where):
    # In the order in which a block meets them.
    parts = [p for place in PLACES for p in placement.at(place) if p in parts]
    if not parts:
        return []
    places = {part: placement.parts[part].place for part in parts}
    if where is not None:
        _refuse(places, set(INSIDE_BLOCKS))
        return [(point, parts) for point in _chosen_points(graph, where)]
    _refuse(places, set(PLACES) - set(PLACE_RULES))
    return _residual_plan(graph, places)


def _residual_plan(graph, places):
    blocks = residual_blocks(graph)
    if not blocks:
        raise ValueError(
            "The model has no residual branch with a spatial convolution; say in `where` "
            f"behind which layers the modules go. {_examples(graph)}"
        )
    return [
        (PLACE_RULES[place](graph, block), [part])
        for block in blocks
        for part, place in places.items()
    ]


def _refuse(places, refused):
    for part, place in places.items():
        if place in refused:
            way_out = (
                "or take another module"
                if place in INSIDE_BLOCKS
                else f'or name in `where={{"{part}": [...]}}` the layers behind which it '
                "goes"
            )
            raise ValueError(
                f"The part {part!r} of this temporal module belongs at the place "
                f'"{place}", which is not looked for in image models. Use '
                f"TemporalResNet, {way_out}."
            )


def _chosen_points(graph, where):
    """One point per call of the chosen layers."""
    chosen = _chosen_names(graph, where)
    calls = [call for call in graph.calls if call.name in chosen]
    for call in calls:
        if len(call.outputs) > 1:
            raise ValueError(
                f"`where` names {call.name!r}, which has {len(call.outputs)} results; "
                "choose a layer with one."
            )
    return [Point(call.name, call.name, call.outputs[0]) for call in calls]


def _chosen_names(graph, where):
    if not callable(where) and not isinstance(where, str | Sequence | Set):
        raise ValueError(
            "`where` must be names of layers, a function `layer -> bool`, or a "
            f"dictionary of these by part. Received: where={where!r}"
        )
    if not callable(where):
        return _check_names(graph, [where] if isinstance(where, str) else list(where))
    chosen = {
        call.name
        for call in graph.calls
        if isinstance(call.operation, keras.layers.Layer) and where(call.operation)
    }
    if not chosen:
        raise ValueError(f"`where` chose no layer of the model. {_examples(graph)}")
    return chosen


def _check_names(graph, names):
    known = graph.names()
    for name in names:
        if name not in known:
            raise ValueError(
                f"`where` names {name!r}, which is no layer of the model. "
                f"{did_you_mean(name, known, 0.5)}{_examples(graph)}"
            )
    if not names:
        raise ValueError(f"`where` is empty. {_examples(graph)}")
    return set(names)


def _examples(graph):
    names = graph.names()
    shown = names[:: max(1, len(names) // 6)][1:7]
    return f"Layers are, for example: {', '.join(map(repr, shown or names))}."
