"""Cost rules of `keras.ops` used in a functional model between layers.

Their classes are not public: they are known here by name.
"""

import math

from tsi_keras.models.profiling.costs import size

# The derivative needs no tensor.
FREE = frozenset(
    "Add ArraySplit BroadcastTo Cast Concatenate ConvertToTensor Copy Dsplit Equal "
    "ExpandDims Flip Full FullLike GetItem Greater GreaterEqual Hsplit Less LessEqual "
    "LogicalAnd LogicalNot LogicalOr Mean Moveaxis Negative NotEqual OneHot OnesLike Pad "
    "Ravel Repeat Reshape Roll Rot90 Slice Split Squeeze Stack StopGradient Subtract Sum "
    "Swapaxes Take Tile Transpose Unstack Vsplit ZerosLike".split()
)
OUTPUT = frozenset(
    "Elu Exp LeakyRelu Relu Relu6 Rsqrt Sigmoid Softmax Sqrt Tanh".split()
)
INPUTS = frozenset(
    "Abs Absolute Amax Amin Average Clip Divide Erf Gelu HardSigmoid HardSilu Log "
    "LogSoftmax Logsumexp Max Maximum Min Minimum Multiply Normalize Power Prod Silu "
    "Softplus Square Std TakeAlongAxis TrueDivide Var Where".split()
)


def account_operation(ledger, operation, inputs: list, output) -> None:
    """Enter one call of an operation into `ledger`."""
    name = type(operation).__name__
    if name in ("Matmul", "Einsum") and len(inputs) == 2:
        ledger.spend(macs=_products(operation, inputs, output))
        ledger.keep(*inputs)
    elif name in OUTPUT:
        ledger.keep(output)
    elif name in INPUTS:
        ledger.keep(*inputs)
    elif name not in FREE:
        ledger.not_counted.append(name)
    if name == "Mean" and _pools_maps(operation.axis, len(inputs[0].shape)):
        ledger.spend(thop=size(inputs[0]) + size(output))


def _products(operation, inputs, output) -> int:
    """Multiply-adds of a product of two tensors: the output times what is summed."""
    if type(operation).__name__ == "Matmul":
        return size(output) * inputs[0].shape[-1]
    terms, result = operation.subscripts.replace(" ", "").split("->")
    lengths = {}
    for term, x in zip(terms.split(","), inputs, strict=True):
        letters = term.split("...")[-1]
        lengths.update(zip(reversed(letters), reversed(x.shape)))  # noqa: B905
    summed = [length for letter, length in lengths.items() if letter not in result]
    return size(output) * math.prod(summed)


def _pools_maps(axis, rank: int) -> bool:
    """Whether a mean pools maps `(..., H, W, C)`, as an average pooling layer would."""
    if axis is None or isinstance(axis, int) or rank < 4:
        return False
    return {a % rank for a in axis} == {rank - 3, rank - 2}
