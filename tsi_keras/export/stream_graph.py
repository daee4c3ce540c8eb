"""The part of a network that looks at single frames, found in its graph.

A layer is taken for one that treats every frame alone only if it is known to: the layers
of Keras do, on frames as samples of a batch, and so do a few of ours. All others, the
temporal layers among them, count as mixing frames. A wrong guess would change results;
a missed one only costs time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from tsi_keras.layers import BatchNormalization
from tsi_keras.layers import FoldFrames
from tsi_keras.layers import UnfoldFrames
from tsi_keras.models.image_preprocessing import ImagePreprocessing
from tsi_keras.models.layer_graph import Call
from tsi_keras.models.layer_graph import LayerGraph
from tsi_keras.models.layer_graph import Value
from tsi_keras.models.layer_graph import read_graph

# How a tensor holds frames: as samples `(N*T, ...)`, or in clips `(N, T, ...)`.
FRAMES, CLIPS = "frames", "clips"

_OURS = (BatchNormalization, ImagePreprocessing)
# Layers of Keras that run code of others, or that remember.
_FOREIGN = frozenset(
    "Lambda TFSMLayer JaxLayer FlaxLayer TorchModuleWrapper RNN LSTM GRU SimpleRNN "
    "ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional".split()
)
_ELEMENTWISE = frozenset(
    "Abs Add Cast Clip Divide Elu Exp Gelu HardSigmoid HardSilu HardSwish LeakyRelu Log "
    "Maximum Minimum Multiply Negative Power Relu Relu6 Selu Sigmoid Silu Sqrt Square "
    "Subtract Tanh TrueDivide".split()
)
_REDUCTIONS = frozenset("Amax Amin Max Mean Min Sum".split())
# Layers that work on the last axis or on elements, whatever the others mean.
_ANY_RANK = frozenset(
    "Activation Add Average Dense Dropout ELU Identity LeakyReLU Maximum Minimum "
    "Multiply ReLU Rescaling Subtract".split()
)


@dataclass(frozen=True)
class SplitGraph:
    """A network in two parts.

    Attributes:
        graph: the whole network.
        per_frame: calls that need nothing but one frame.
        rest: the other calls.
        cut: the tensors that the rest takes from the first part.
        kinds: how each of these holds frames.
    """

    graph: LayerGraph
    per_frame: tuple[Call, ...]
    rest: tuple[Call, ...]
    cut: tuple[Value, ...]
    kinds: tuple[str, ...]


def split_graph(model: keras.Model, *, reuse: bool = True) -> SplitGraph:
    """Part a network over clips at the first calls that mix frames.

    Args:
        model: a functional model with one input `(N, T, ...)`.
        reuse: False leaves everything to the second part.

    Raises:
        ValueError: the model is not functional, or has several inputs.
    """
    graph = read_graph(model)
    kinds = {graph.input: CLIPS}
    per_frame, rest = [], []
    for call in graph.calls:
        kind = _kind_of_result(call, kinds) if reuse else None
        if kind is None:
            rest.append(call)
            continue
        per_frame.append(call)
        kinds.update(dict.fromkeys(call.outputs, kind))
    taken = [value for call in rest for value in call.inputs]
    taken += keras.tree.flatten(graph.output)
    cut = tuple(value for value in dict.fromkeys(taken) if value in kinds)
    return SplitGraph(
        graph, tuple(per_frame), tuple(rest), cut, tuple(kinds[value] for value in cut)
    )


def run_calls(
    calls: Iterable[Call], tensors: dict[Value, object], *, single_frames: bool
) -> None:
    """Make the calls of a graph with the layers of the model itself.

    Args:
        calls: in an order in which they can be made.
        tensors: what is known; the results are added.
        single_frames: every clip has one frame, whatever the layers say.
    """
    for call in calls:

        def known(x):
            return tensors[x] if isinstance(x, Value) else x

        args, kwargs = keras.tree.map_structure(known, (call.args, call.kwargs))
        operation = call.operation
        if "training" in kwargs:  # whatever the model was built with, as in `predict`
            kwargs["training"] = False
        if single_frames and isinstance(operation, UnfoldFrames):
            operation = _clips_of_one
            kwargs = {"dtype": call.operation.compute_dtype}
        results = keras.tree.flatten(operation(*args, **kwargs))
        tensors.update(zip(call.outputs, results, strict=True))


def _clips_of_one(x, dtype):
    """`(N, ...)` to `(N, 1, ...)`, in the type in which the layer would give it."""
    return keras.ops.expand_dims(keras.ops.cast(x, dtype), axis=1)


def _kind_of_result(call: Call, kinds: dict[Value, str]) -> str | None:
    """How the result holds frames, or None if it is not one frame's alone."""
    found = {kinds.get(value) for value in call.inputs}
    if len(found) != 1 or None in found:
        return None
    [kind] = found
    operation = call.operation
    if isinstance(operation, FoldFrames):
        return FRAMES if kind == CLIPS else None
    if isinstance(operation, UnfoldFrames):
        return CLIPS if kind == FRAMES else None
    if isinstance(operation, keras.layers.Layer):
        separate = _layer_separates(operation, kind, len(call.inputs[0].shape))
    else:
        separate = _function_separates(call, kind)
    return kind if separate else None


def _layer_separates(layer: keras.layers.Layer, kind: str, rank: int) -> bool:
    """Whether a layer computes every frame of tensors of this rank from it alone."""
    name = type(layer).__name__
    if kind == CLIPS:
        return _is_kerases(layer) and name in _ANY_RANK
    if not (_is_kerases(layer) or type(layer) in _OURS) or name in _FOREIGN:
        return False
    axes = getattr(layer, "axis", None)
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    return all(axis is None or axis % rank != 0 for axis in axes)


def _is_kerases(operation) -> bool:
    return type(operation).__module__.split(".")[0] == "keras"


def _function_separates(call: Call, kind: str) -> bool:
    """The same of a function of `keras.ops`."""
    operation, name = call.operation, type(call.operation).__name__
    if not _is_kerases(operation):
        return False
    rank = len(call.inputs[0].shape)
    if name in _REDUCTIONS and len(call.inputs) == 1:
        return _reduces_inside(operation, rank, 1 if kind == FRAMES else 2)
    if name not in _ELEMENTWISE or any(len(x.shape) != rank for x in call.inputs):
        return False
    constants = keras.tree.flatten((call.args, call.kwargs))
    return all(_is_small(x, rank) for x in constants if not isinstance(x, Value))


def _reduces_inside(operation, rank: int, outer: int) -> bool:
    """Whether a sum or mean leaves the `outer` leading axes alone."""
    axes = getattr(operation, "axis", None)
    if axes is None:
        return False
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    return all(axis % rank >= outer for axis in axes)


def _is_small(constant, rank: int) -> bool:
    """Whether a constant has no axis that could tell frames apart."""
    shape = np.shape(constant) if hasattr(constant, "shape") else ()
    return len(shape) < rank - 1 or all(size == 1 for size in shape[: 2 - rank])
