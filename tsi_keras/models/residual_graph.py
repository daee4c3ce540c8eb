"""Residual blocks of any CNN, found in its graph, and the places for temporal modules.

A block is what lies between the addition of a residual branch and the tensor where branch
and shortcut part. Its trunk is what every path through the branch passes; a
squeeze-and-excitation or an attention map beside it is none of it.
"""

from dataclasses import dataclass

import keras

from tsi_keras.models.layer_graph import Call
from tsi_keras.models.layer_graph import LayerGraph
from tsi_keras.models.layer_graph import Value

# What may stand between a convolution and the features it gives: of keras.layers and,
# for activations written as functions, of keras.ops.
FOLLOW_UPS = frozenset(
    "BatchNormalization SyncBatchNormalization GroupNormalization "
    "Activation ReLU LeakyReLU PReLU ELU "
    "Relu Relu6 LeakyRelu Elu Selu Gelu Silu HardSilu HardSwish Sigmoid HardSigmoid "
    "Softplus Tanh".split()
)


@dataclass(frozen=True)
class Point:
    """Where a temporal module goes.

    Attributes:
        prefix: what the names of its layers begin with: the convolution's name, or that
            of the layer the user gave.
        layer: name of the layer behind (for the input of a layer: in front of) which it
            is.
        value: the tensor it takes.
        consumers: the calls that get its result; None for all.
    """

    prefix: str
    layer: str
    value: Value
    consumers: tuple[Call, ...] | None = None


@dataclass(frozen=True)
class ResidualBlock:
    """A residual branch.

    Attributes:
        add: the call that adds it to the shortcut.
        branch: the calls between the fork and the addition.
        trunk: those that every path through the branch passes.
    """

    add: Call
    branch: tuple[Call, ...]
    trunk: tuple[Call, ...]


def residual_blocks(graph: LayerGraph) -> list[ResidualBlock]:
    """All residual branches with a spatial convolution, in order.

    Of blocks within blocks, those on the trunk of another count and the outer one does
    not (a feature pyramid adds whole stages); an addition beside the trunk belongs to
    its block (Res2Net's between the scales).
    """
    found = list(_Search(graph).blocks())
    adds = {block.add for block in found}
    inner = [block for block in found if not adds & set(block.trunk)]
    beside = set().union(*(set(block.branch) - set(block.trunk) for block in inner))
    return [
        block
        for block in inner
        if block.add not in beside and any(map(is_spatial, block.branch))
    ]


def after_spatial(graph: LayerGraph, block: ResidualBlock) -> Point:
    """Behind the spatial convolution's normalisation and activation.

    That is the last spatial convolution that another convolution follows (the 3x3 of a
    bottleneck, the first of a basic block), else the last one. Several in parallel count
    together, at the call that joins them.
    """
    spatial = _spatial_call(block)
    if spatial is None:
        last = max(i for i, call in enumerate(block.branch) if is_spatial(call))
        behind = set(block.branch[last + 1 :])
        spatial = next((c for c in block.trunk if c in behind), block.trunk[-1])
    return _behind_follow_ups(graph, spatial)


def before_spatial(graph: LayerGraph, block: ResidualBlock) -> Point:
    """The input of that convolution (of its zero padding)."""
    spatial = _spatial_call(block)
    if spatial is None:
        raise ValueError(
            f"The residual block that ends at {block.add.name!r} has several spatial "
            "convolutions in parallel, so there is no one input before them; name the "
            "layers in `where`."
        )
    return _input_point(graph, spatial)


def branch_input(graph: LayerGraph, block: ResidualBlock) -> Point:
    """The input of the branch's first convolution; the shortcut keeps its own."""
    first = next(filter(_is_convolution, block.trunk), block.trunk[0])
    return _input_point(graph, first)


PLACE_RULES = {
    "branch_input": branch_input,
    "before_spatial": before_spatial,
    "after_spatial": after_spatial,
}


def is_spatial(call: Call) -> bool:
    """Whether the call is a convolution with a kernel larger than one pixel."""
    sizes = keras.tree.flatten(getattr(call.operation, "kernel_size", 1))
    return max(sizes) > 1


def _is_convolution(call):
    dense = (keras.layers.Dense, keras.layers.EinsumDense)
    return hasattr(call.operation, "kernel_size") or isinstance(call.operation, dense)


def _spatial_call(block):
    convolutions = [call for call in block.trunk if _is_convolution(call)]
    spatial = [call for call in convolutions if is_spatial(call)]
    followed = [call for call in spatial if call is not convolutions[-1]]
    return (followed or spatial or [None])[-1]


def _behind_follow_ups(graph, call):
    """Walk on from a call through what only normalises or activates its result."""
    prefix = call.name
    while True:
        value = call.outputs[0]
        users = consumers(graph, value)
        alone = len(users) == 1 and not _is_output(graph, value)
        if not alone or type(users[0].operation).__name__ not in FOLLOW_UPS:
            return Point(prefix, call.name, value)
        call = users[0]


def _input_point(graph, call):
    name, value = call.name, call.inputs[0]
    padding = _producer(graph, value)
    if padding and isinstance(padding.operation, keras.layers.ZeroPadding2D):
        if len(consumers(graph, value)) == 1:
            call, value = padding, padding.inputs[0]
    return Point(name, name, value, (call,))


def consumers(graph: LayerGraph, value: Value) -> list[Call]:
    """The calls that take `value`."""
    return [call for call in graph.calls if value in call.inputs]


def _producer(graph, value):
    return next((call for call in graph.calls if value in call.outputs), None)


def _is_output(graph, value):
    return value in keras.tree.flatten(graph.output)


class _Search:
    """Ancestry of every call as a bit mask; bit 0 is the input, bit i + 1 call i."""

    def __init__(self, graph):
        self.calls = graph.calls
        self.bit = {graph.input: 0}
        self.ancestors = [1]
        for index, call in enumerate(graph.calls, start=1):
            mask = 1 << index
            for value in call.inputs:
                mask |= self.ancestors[self.bit[value]]
            self.ancestors.append(mask)
            self.bit.update(dict.fromkeys(call.outputs, index))

    def blocks(self):
        for call in self.calls:
            if _is_addition(call):
                yield from self._branches(call)

    def _branches(self, add):
        """The summands' paths from where they part, without the shortcut's."""
        ends = [self.bit[value] for value in add.inputs]
        common = self.ancestors[ends[0]]
        for end in ends[1:]:
            common &= self.ancestors[end]
        if not common or len(set(ends)) < 2:
            return
        fork = common.bit_length() - 1
        paths = [self._between(fork, end) for end in ends]
        paths.sort(key=lambda path: (sum(map(_is_convolution, path)), len(path)))
        for path in paths[1:]:
            if path:
                yield ResidualBlock(add, path, self._trunk(fork, path))

    def _between(self, fork, end):
        return tuple(
            self.calls[i - 1]
            for i in range(fork + 1, end + 1)
            if self.ancestors[end] >> i & 1 and self.ancestors[i] >> fork & 1
        )

    def _trunk(self, fork, path):
        """Calls that lie on all paths: as many lead through them as there are."""
        end = self.bit[path[-1].outputs[0]]
        to = {fork: 1}
        for call in path:
            sources = [self.bit[value] for value in call.inputs]
            to[self._index(call)] = sum(to.get(source, 0) for source in sources)
        onward = dict.fromkeys(to, 0) | {end: 1}
        for call in reversed(path):
            for value in call.inputs:
                if self.bit[value] in onward:
                    onward[self.bit[value]] += onward[self._index(call)]
        through = {index: to[index] * onward[index] for index in to}
        return tuple(call for call in path if through[self._index(call)] == to[end])

    def _index(self, call):
        return self.bit[call.outputs[0]]


def _is_addition(call):
    """`keras.layers.Add`, or `a + b` of two tensors of the same shape."""
    shapes = {value.shape for value in call.inputs}
    name = type(call.operation).__name__
    return name == "Add" and len(call.inputs) > 1 and len(shapes) == 1
