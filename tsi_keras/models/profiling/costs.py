"""What one call of a layer costs: the ledger, and the rules by layer class."""

import math
from collections.abc import Callable

import keras

Rule = Callable[..., None]

_RULES: dict[type | str, Rule] = {}
STATED = ("macs", "thop", "kept_elements")


class Ledger:
    """Adds up the cost of one layer call.

    A rule says what the layer's mathematics costs (`spend`), which tensors its
    derivative needs (`keep`), and applies sub-layers by calling the ledger on them.

    Attributes:
        macs: multiply-adds of convolutions, Dense layers and matrix products.
        thop: operations as thop 0.1.1 counts them.
        kept: tensors needed by the backward pass, by identity and type.
        not_counted: classes of the layers without a rule.
    """

    def __init__(self):
        self.macs = 0
        self.thop = 0
        self.kept: dict[tuple, keras.KerasTensor] = {}
        self.not_counted: list[str] = []

    def spend(self, macs: int = 0, thop: int = 0) -> None:
        """Add multiply-adds, and operations as thop counts them."""
        self.macs += int(macs)
        self.thop += int(thop)

    def keep(self, *tensors, dtype: str | None = None) -> None:
        """The backward pass needs these tensors (in `dtype`); each counts once."""
        for tensor in tensors:
            self.kept[id(tensor), dtype or tensor.dtype] = tensor

    def keep_elements(self, count: int, dtype: str) -> None:
        """The backward pass needs `count` further numbers of this type."""
        self.keep(keras.KerasTensor((int(count),), dtype=dtype))

    def __call__(self, layer, *inputs):
        """Apply a layer to symbolic tensors of known shape; returns its output."""
        output = symbolic_output(layer, *inputs)
        account(self, layer, list(inputs), output)
        return output


def symbolic_output(operation, *args, **kwargs):
    """What `operation` returns for symbolic tensors of known shape."""
    output = operation.compute_output_spec(*args, **kwargs)
    if _is_known(output):
        return output
    # Some layers (EinsumDense) know their output only as far as they were built for.
    output = keras.Operation.compute_output_spec(operation, *args, **kwargs)
    if _is_known(output):
        return output
    raise ValueError(
        f"The layer {operation.name!r} does not say what shape it returns; its class "
        f"{type(operation).__name__} needs a `compute_output_shape` method."
    )


def _is_known(output) -> bool:
    return all(None not in x.shape for x in keras.tree.flatten(output))


def register_cost(*classes: type | str):
    """Decorator: the cost rule of layer classes that cannot state their own.

    The rule is called as `rule(ledger, layer, inputs, output)` with a list of input
    tensors and the output, all symbolic and of known shape. It holds for subclasses
    that do not override `call`. A name stands for a class of Keras that is not public.

    Example:
        ```python
        @register_cost(SpectralGate)
        def spectral_gate(ledger, layer, inputs, output):
            (x,) = inputs
            ledger.spend(macs=x.shape[-1] ** 2, thop=x.shape[-1] ** 2)
            ledger.keep(x)
        ```
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def account(ledger: Ledger, layer, inputs: list, output) -> None:
    """Enter one call into `ledger`: what the layer states, else its rule, else nothing."""
    if callable(getattr(layer, "cost", None)):
        _enter_stated(ledger, layer, inputs)
        return
    rule = find_rule(layer)
    if rule is None:
        ledger.not_counted.append(type(layer).__name__)
    else:
        rule(ledger, layer, inputs, output)


def find_rule(layer) -> Rule | None:
    """The rule of the layer's class, or of the parent whose `call` it inherits."""
    for cls in type(layer).__mro__:
        if cls in _RULES:
            return _RULES[cls] if type(layer).call is cls.call else None
    package, name = type(layer).__module__.split(".")[0], type(layer).__name__
    return _RULES.get(name) if package == "keras" else None


def _enter_stated(ledger: Ledger, layer, inputs: list) -> None:
    """The protocol `layer.cost(input_shape) -> dict`."""
    shapes = [tuple(x.shape) for x in inputs]
    stated = layer.cost(shapes[0] if len(shapes) == 1 else shapes)
    if (
        not isinstance(stated, dict)
        or set(stated) - set(STATED)
        or "macs" not in stated
    ):
        raise ValueError(
            f"`{type(layer).__name__}.cost` must return a dict with `macs` and, if "
            f"wanted, {', '.join(STATED[1:])}. Received: {stated!r}"
        )
    ledger.spend(stated["macs"], stated.get("thop", stated["macs"]))
    keep_inputs(ledger, layer, inputs)
    if stated.get("kept_elements"):
        ledger.keep_elements(stated["kept_elements"], layer.compute_dtype)


def keep_inputs(ledger: Ledger, layer, inputs: list) -> None:
    """Keep the inputs in the type the layer computes in (autocast makes a copy)."""
    for x in inputs:
        ledger.keep(x, dtype=_cast_dtype(layer, x))


def _cast_dtype(layer, x) -> str:
    floating = keras.backend.is_float_dtype(x.dtype)
    return layer.compute_dtype if floating and layer.autocast else x.dtype


def size(tensor) -> int:
    """Number of elements."""
    return math.prod(tensor.shape)


def tensor_bytes(tensor, dtype: str) -> int:
    """Bytes of the tensor's elements in `dtype`."""
    return size(tensor) * BYTES.get(dtype, 4)


BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
}
