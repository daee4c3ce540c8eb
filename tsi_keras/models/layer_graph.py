"""The graph of a functional Keras model: read it, and build it anew on other tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property

import keras


@dataclass(eq=False)
class Value:
    """A tensor of the graph; stands in for the KerasTensor it was read from."""

    shape: tuple


@dataclass(eq=False)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: the layer, or an operation of `keras.ops`.
        name: its name, unique among the operations of the graph.
        args, kwargs: of the call, with `Value`s in the place of tensors.
        outputs: the results.
    """

    operation: keras.Operation
    name: str
    args: tuple
    kwargs: dict
    outputs: list[Value]

    @cached_property
    def inputs(self) -> list[Value]:
        """The tensors among the arguments."""
        return _values((self.args, self.kwargs))


@dataclass(eq=False)
class LayerGraph:
    """The calls of a model in an order in which they can be made.

    Attributes:
        input: the only input.
        output: the results, in the structure of `model.output`.
        calls: all calls; nested models are replaced by what they consist of.
    """

    input: Value
    output: object = None
    calls: list[Call] = field(default_factory=list)

    def names(self) -> list[str]:
        """Names of the operations, each once, in the order of their first calls."""
        return list(dict.fromkeys(call.name for call in self.calls))


def read_graph(model) -> LayerGraph:
    """Read a functional or Sequential model with one input.

    Raises:
        ValueError: another kind of model, one without known layers, or several inputs.
    """
    network = _network(model)
    if network is None:
        raise ValueError(
            "`model` must be a functional or Sequential keras.Model whose layers can be "
            "followed (a subclassed model with its own `call` cannot). "
            f"Received: {_describe(model)}"
        )
    if len(network.inputs) != 1:
        raise ValueError(
            f"`model` must have one input, the images. Received: {_describe(model)} with "
            f"{len(network.inputs)} inputs."
        )
    graph = LayerGraph(Value(tuple(network.inputs[0].shape)))
    graph.output = _Reader(graph).read(network, [graph.input], model.name)
    return graph


def rebuild(graph: LayerGraph, x, feed: Callable, after: Callable):
    """Call copies of all layers on `x`, with changes between them.

    Every layer is copied from its config and gets the values of the original's weights;
    a layer that is called several times remains one layer.

    Args:
        graph: what to build.
        x: the tensor that takes the place of the graph's input.
        feed: `(call, value, tensor) -> tensor`, what a call gets for one of its inputs.
        after: `(value, tensor) -> tensor`, what everyone gets for a result.

    Returns:
        The new results, in the structure of `graph.output`.
    """
    tensors, copies = {graph.input: after(graph.input, x)}, _Copies()
    for call in graph.calls:

        def fill_in(value, call=call):
            return (
                feed(call, value, tensors[value]) if isinstance(value, Value) else value
            )

        args, kwargs = keras.tree.map_structure(fill_in, (call.args, call.kwargs))
        results = keras.tree.flatten(copies.of(call)(*args, **kwargs))
        copies.copy_weights(call.operation)
        for value, tensor in zip(call.outputs, results, strict=True):
            tensors[value] = after(value, tensor)
    return keras.tree.map_structure(tensors.__getitem__, graph.output)


class _Reader:
    def __init__(self, graph):
        self.graph = graph
        self.names = {}  # of the operations met so far

    def read(self, network, inputs, path):
        """Record the calls of `network` on `inputs` and return its output."""
        known = dict(zip(map(id, network.inputs), inputs, strict=True))
        for depth in sorted(network._nodes_by_depth, reverse=True):
            for node in network._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                arguments = (node.arguments.args, node.arguments.kwargs)
                args, kwargs = keras.tree.map_structure(
                    lambda x: known.get(id(x), x), arguments
                )
                results = self._record(node, args, kwargs, path)
                known.update(zip(map(id, node.outputs), results, strict=True))
        return keras.tree.map_structure(lambda x: known[id(x)], network.output)

    def _record(self, node, args, kwargs, path):
        # A `training` argument of the nested call is dropped: fit, evaluate and predict
        # override it anyway.
        nested, inputs = _network(node.operation), _values((args, kwargs))
        if nested is not None and len(inputs) == len(nested.inputs):
            name = node.operation.name
            return keras.tree.flatten(self.read(nested, inputs, name))
        outputs = [Value(tuple(x.shape)) for x in node.outputs]
        name = self._unique_name(node.operation, path)
        self.graph.calls.append(Call(node.operation, name, args, kwargs, outputs))
        return outputs

    def _unique_name(self, operation, path):
        """The operation's name; two of different nested models get the models' names."""
        if operation not in self.names:
            taken = set(self.names.values())
            name = operation.name if operation.name not in taken else None
            name = name or f"{path}_{operation.name}"
            while name in taken:
                name += "_"
            self.names[operation] = name
        return self.names[operation]


class _Copies:
    """New layers for the old ones, made when first asked for."""

    def __init__(self):
        self.made = {}
        self.unfilled = set()

    def of(self, call):
        if call.operation not in self.made:
            self.made[call.operation] = _copy(call.operation, call.name)
            self.unfilled.add(call.operation)
        return self.made[call.operation]

    def copy_weights(self, operation):
        """After its first call, when it has some, give the copy its values."""
        if operation not in self.unfilled:
            return
        self.unfilled.remove(operation)
        if isinstance(operation, keras.layers.Layer):
            self.made[operation].set_weights(operation.get_weights())
            _refresh_statistics(self.made[operation])


def _copy(operation, name):
    config = {**operation.get_config(), "name": name}
    try:
        return type(operation).from_config(config)
    except Exception as error:
        raise ValueError(
            f"The layer {operation.name!r} ({type(operation).__name__}) cannot be copied "
            "from its config. Give its class a complete `get_config` (a Lambda layer of "
            "your own: keras.config.enable_unsafe_deserialization()). Keras says: "
            f"{error}"
        ) from error


def _refresh_statistics(layer):
    """An adapted Normalization computes with values derived from its weights."""
    if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
        layer.finalize_state()
    for inner in getattr(layer, "layers", ()):
        _refresh_statistics(inner)


def _network(model):
    """The functional network a model consists of, or None."""
    if not isinstance(model, keras.Model):
        return None
    if type(model).call.__qualname__ not in ("Functional.call", "Sequential.call"):
        return None
    return model._functional if isinstance(model, keras.Sequential) else model


def _values(structure) -> list[Value]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Value)]


def _describe(model) -> str:
    return f"{type(model).__name__} {getattr(model, 'name', '')!r}"
