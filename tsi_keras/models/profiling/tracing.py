"""Symbolic walk through a model at one frame size: no mathematics is run."""

from dataclasses import dataclass

import keras
from keras import tree

from tsi_keras.models.profiling.costs import Ledger
from tsi_keras.models.profiling.costs import account
from tsi_keras.models.profiling.costs import symbolic_output
from tsi_keras.models.profiling.operation_rules import account_operation


@dataclass
class Call:
    """One call of a layer or operation: who, on what, giving what, at what cost."""

    name: str
    operation: object
    outputs: list
    ledger: Ledger


class Tracer:
    """Calls every layer of a model, nested ones included, on tensors of known shape.

    Attributes:
        calls: what was called, in the order of execution.
    """

    def __init__(self):
        self.calls: list[Call] = []

    def trace(self, operation, name, *args, **kwargs):
        """Record the calls inside `operation` and return its symbolic output.

        Args:
            operation: layer, model or `keras.ops` operation.
            name: its path; `""` for the outermost model.
            *args: its arguments, symbolic.
            **kwargs: further arguments.
        """
        if isinstance(operation, keras.Function) and _call_is_kerases(operation):
            return self._graph(operation, name, args[0])
        if isinstance(operation, keras.Sequential) and _call_is_kerases(operation):
            return self._chain(operation, name, args[0])
        if type(operation) is keras.layers.TimeDistributed:
            return self._per_step(operation, name, args[0])
        return self._record(operation, name or operation.name, args, kwargs)

    def _graph(self, model, name, inputs):
        def enter(operation):
            inner = _join(name, operation)
            return lambda *args, **kwargs: self.trace(operation, inner, *args, **kwargs)

        # What `Function.compute_output_spec` itself calls; the public method does not
        # tell which layer saw what.
        return model._run_through_graph(inputs, operation_fn=enter)

    def _chain(self, model, name, x):
        for layer in model.layers:
            x = self.trace(layer, _join(name, layer), x)
        return x

    def _per_step(self, wrapper, name, x):
        """The wrapped layer on all steps at once."""
        steps = keras.KerasTensor((x.shape[0] * x.shape[1], *x.shape[2:]), x.dtype)
        y = self.trace(wrapper.layer, _join(name, wrapper.layer), steps)
        return keras.KerasTensor((*x.shape[:2], *y.shape[1:]), y.dtype)

    def _record(self, operation, name, args, kwargs):
        output = symbolic_output(operation, *args, **kwargs)
        ledger = Ledger()
        inputs = [
            x for x in tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
        ]
        enter = account if isinstance(operation, keras.Layer) else account_operation
        enter(ledger, operation, inputs, output)
        self.calls.append(Call(name, operation, tree.flatten(output), ledger))
        return output


def _join(name: str, operation) -> str:
    return f"{name}/{operation.name}" if name else operation.name


def _call_is_kerases(model) -> bool:
    """Whether `call` runs the graph; a subclass may do anything."""
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    return owner.__module__.split(".")[0] == "keras"
