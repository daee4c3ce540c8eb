"""`profile`: what a video network costs per clip."""

import math
from collections.abc import Sequence

import keras

from tsi_keras.models.profiling.costs import tensor_bytes
from tsi_keras.models.profiling.report import Figures
from tsi_keras.models.profiling.report import LayerRow
from tsi_keras.models.profiling.report import Profile
from tsi_keras.models.profiling.stages import find_stages
from tsi_keras.models.profiling.tracing import Call
from tsi_keras.models.profiling.tracing import Tracer

DEFAULT_FRAME_SIZE = 224


def profile(model, input_shape=None, *, frame_size=None) -> Profile:
    """Parameters, multiply-adds and training memory of a model, for one clip.

    The layers are walked through symbolically, at one frame size: nothing is computed,
    and the figures do not depend on the backend.

    **Multiply-adds** (`macs`): one per product that a convolution, a Dense layer or a
    matrix product sums, those without weights included: the two products of SME's
    attention over all pairs of positions, TCM's correlation, ATA's similarities.
    Biases, normalisations, activations, pooling, gates and other elementwise work are
    not counted, as in the papers; shifts, permutations and padding are free. Temporal
    modules cost what their formulas cost, not what our evaluation of them may save:
    SME's pyramid counts as five convolutions of every frame, although it is evaluated by
    its adjoint. Where an option chooses between equal orders (`pool_first`), the chosen
    one is counted.

    **thop** (`thop`): the operations that thop 0.1.1, the tool behind most published
    GFLOPs, counts for a PyTorch port of the model. Convolution and linear layers: their
    multiply-adds. Batch and layer normalisation: 4 per element (2 without scale and
    offset). Average pooling: 1 per output; global average pooling: 1 per input and 1 per
    output, but none inside temporal modules, unless their official code has a module
    for it (TEA, TCM). Softmax: 3 per element less 1 per row. Products of two computed
    tensors, biases, other activations, max pooling and padding: none.

    **Activations** (`activation_bytes`): an estimate of what training keeps per clip
    between the forward and the backward pass: every tensor that the derivative of a
    layer needs, once, in the type it has under the model's dtype policy (the input of a
    convolution, the input of a normalisation, the output of a ReLU, one byte per element
    of a dropout mask), as if all layers were trained. Weights, gradients, optimizer
    state and temporary buffers come on top; SME's attention maps are not kept, but
    computed again. Memory is attributed to the layer that makes the tensor.

    A layer class without a rule that has a method `cost(input_shape) -> dict` states its
    own: `{"macs": ..., "thop": ..., "kept_elements": ...}` (`thop` defaults to `macs`,
    `kept_elements` beyond the input to 0); `register_cost` gives a rule to classes of
    others. What has neither is listed in `Profile.not_counted`, and in the table.

    Args:
        model: a functional `keras.Model` (nested ones too), a `Sequential`, or a layer.
        input_shape: shape of one input, with or without the batch axis: of one clip
            `(T, H, W, 3)` for a video model; of a whole batch `(T, H, W, C)` for a layer
            on frame maps, whose batch axis holds the frames. By default the model's own.
            A list of shapes for several inputs.
        frame_size: an int or `(H, W)` for frames whose size the model leaves open; 224
            by default.

    Returns:
        A `Profile`; printing it shows one line per stage.

    Raises:
        ValueError: an input shape that the model does not take, a `frame_size` beside an
            `input_shape` or other than the fixed size of the model's frames, a layer
            without `input_shape`, or a `cost` method that returns something else.

    Example:
        ```python
        cost = profile(TSIResNet50(num_classes=174))
        print(cost)  # total 34.840 GMACs, 33.893 G in thop's convention
        ```

    Reference: TSI, arXiv 2106.01088, whose 33, 34 and 68 GFLOPs are thop's.
    """
    inputs = _inputs(model, input_shape, frame_size)
    tracer = Tracer()
    tracer.trace(model, "", inputs[0] if len(inputs) == 1 else inputs)
    rows = _rows(tracer.calls, inputs)
    shapes = [x.shape for x in inputs]
    return Profile(model.name, shapes[0] if len(shapes) == 1 else tuple(shapes), rows)


def _inputs(model, input_shape, frame_size) -> list:
    """Symbolic inputs of fully known shape, for one clip."""
    if not isinstance(model, (keras.Function, keras.Sequential)):
        return _layer_inputs(model, input_shape)
    references = model.inputs
    if input_shape is None:
        shapes = [_fill(x.shape, frame_size) for x in references]
    else:
        shapes = _given(input_shape, references, frame_size)
    return [
        keras.KerasTensor(_check(shape, x.shape), dtype=x.dtype)
        for shape, x in zip(shapes, references, strict=True)
    ]


def _layer_inputs(layer, input_shape) -> list:
    if input_shape is None:
        raise ValueError(
            "`input_shape` is needed to profile a layer: the shape of its whole input, "
            "such as (8, 56, 56, 64) for the frame maps of one clip."
        )
    several = not isinstance(input_shape[0], (int, type(None)))
    inputs = [
        keras.KerasTensor(_check(shape, shape), dtype=layer.input_dtype)
        for shape in (input_shape if several else [input_shape])
    ]
    if not layer.built:
        layer(*inputs)
    return inputs


def _given(input_shape, references, frame_size) -> list[tuple]:
    if frame_size is not None:
        raise ValueError("Give either `input_shape` or `frame_size`, not both.")
    several = not isinstance(input_shape[0], (int, type(None)))
    shapes = list(input_shape) if several else [input_shape]
    if len(shapes) != len(references):
        raise ValueError(
            f"The model has {len(references)} inputs. Received: input_shape={input_shape}"
        )
    return [
        tuple(shape) if len(shape) == len(x.shape) else (1, *shape)
        for shape, x in zip(shapes, references, strict=True)
    ]


def _fill(shape, frame_size) -> tuple:
    """One clip (batch 1) with frames of `frame_size` where the model leaves them open."""
    batch, *rest = shape
    if len(rest) < 3:
        return (batch or 1, *rest)
    size = rest[-3:-1]
    wanted = _frame_size(frame_size)
    for have, want in zip(size, wanted, strict=True):
        if frame_size is not None and have not in (None, want):
            raise ValueError(
                f"The model takes frames of {tuple(size)} only. "
                f"Received: frame_size={frame_size}"
            )
    filled = [have or want for have, want in zip(size, wanted, strict=True)]
    return (batch or 1, *rest[:-3], *filled, rest[-1])


def _frame_size(frame_size) -> Sequence[int]:
    if frame_size is None:
        frame_size = DEFAULT_FRAME_SIZE
    size = (
        (frame_size, frame_size) if isinstance(frame_size, int) else tuple(frame_size)
    )
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(
            "`frame_size` must be a positive int or (height, width). "
            f"Received: frame_size={frame_size!r}"
        )
    return size


def _check(shape, reference) -> tuple:
    fits = len(shape) == len(reference) and all(
        have is not None and want in (None, have)
        for have, want in zip(shape, reference, strict=True)
    )
    if not fits:
        raise ValueError(
            "`input_shape` must give every axis of an input that the model takes, "
            f"{tuple(reference)}. Received: {tuple(shape)}"
        )
    return tuple(shape)


def _rows(calls: list[Call], inputs) -> tuple[LayerRow, ...]:
    memory = _memory(calls, inputs)
    shapes = [tuple(call.outputs[0].shape) for call in calls]
    stages = find_stages([call.name for call in calls], shapes)
    seen: set[int] = set()
    return tuple(
        _row(call, stage, memory[index], seen)
        for index, (call, stage) in enumerate(zip(calls, stages, strict=True))
    )


def _row(call: Call, stage: str, memory: int, seen: set[int]) -> LayerRow:
    layer, ledger = call.operation, call.ledger
    trainable, non_trainable = _parameters(layer, seen)
    return LayerRow(
        name=call.name,
        class_name=type(layer).__name__,
        stage=stage,
        output_shape=tuple(call.outputs[0].shape),
        figures=Figures(trainable, non_trainable, ledger.macs, ledger.thop, memory),
        temporal=_is_temporal(layer),
        not_counted=tuple(ledger.not_counted),
    )


def _parameters(layer, seen: set[int]) -> tuple[int, int]:
    """Trainable and other parameters, those of a layer called twice once."""
    counts = [0, 0]
    for weight in getattr(layer, "weights", ()):
        if id(weight) not in seen:
            seen.add(id(weight))
            counts[not weight.trainable] += math.prod(weight.shape)
    return counts[0], counts[1]


def _is_temporal(layer) -> bool:
    """Layers that mix frames know how many there are; unfolding does not mix them."""
    return hasattr(layer, "num_frames") and type(layer).__name__ != "UnfoldFrames"


def _memory(calls: list[Call], inputs) -> list[int]:
    """Kept bytes by call: of the outputs it makes, and of what it keeps inside."""
    maker = {id(x): i for i, call in enumerate(calls) for x in call.outputs}
    given = {id(x) for x in inputs}
    memory, seen = [0] * len(calls), set()
    for index, call in enumerate(calls):
        for key, tensor in call.ledger.kept.items():
            identity, dtype = key
            if key in seen or identity in given and dtype == tensor.dtype:
                continue
            seen.add(key)
            memory[maker.get(identity, index)] += tensor_bytes(tensor, dtype)
    return memory
