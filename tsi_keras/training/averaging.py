"""Exponential moving averages of the weights: kept by the optimizer, used to evaluate."""

from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager

import keras
import tensorflow as tf


class WeightAverages:
    """The part of an optimizer that averages the weights it trains.

    After every update, `average = decay * average + (1 - decay) * weight`; the first
    update sets the average to the weights. The averages are variables of the optimizer,
    saved and restored with it, and the same on all replicas.

    (Keras' own `use_ema` would average between accumulated updates too, and `fit` ends
    by writing the averages over the weights.)
    """

    ema_decay: float | None = None

    def _set_ema_decay(self, ema_decay: float | None) -> None:
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ValueError(
                "`ema_decay` must lie between 0 and 1, or be None. "
                f"Received: ema_decay={ema_decay}"
            )
        self.ema_decay = ema_decay

    def _build_averages(self, variables) -> None:
        self._averages = []
        if self.ema_decay is not None:
            self._averages = [
                self.add_variable_from_reference(v, name="average") for v in variables
            ]

    def _move_averages(self, strategy: tf.distribute.Strategy) -> None:
        """Let the averages follow; before the count of updates rises."""
        if self.ema_decay is None:
            return
        first = tf.equal(tf.convert_to_tensor(self.iterations), 0)
        share = tf.where(first, 1.0, 1.0 - self.ema_decay)
        for variable, average in zip(
            self._trainable_variables, self._averages, strict=True
        ):
            strategy.extended.update(
                average.value, _move, args=(native(variable), share), group=False
            )

    def averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Return pairs of a weight and its average; none before the first update."""
        if self.ema_decay is None or not self.built or self.iterations.numpy() == 0:
            return []
        return list(zip(self._trainable_variables, self._averages, strict=True))


def native(variable) -> tf.Variable:
    """Return the TensorFlow variable in a Keras variable, or one that is one."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _move(average, variable, share):
    """average + share * (variable - average), on one device."""
    step = tf.cast(share, average.dtype) * (variable - average)
    average.assign_add(step)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a model its averaged weights inside the block only.

    Afterwards the weights are what they were, to the bit. Without averages (no
    `ema_decay`, or no update yet) the model stays as it is. BatchNormalization's moving
    statistics are taken as they are: they are averages already, of what the raw weights
    saw. Do not train or save the state of training inside the block.

    Args:
        model: compiled with `GroupedSGD` or `ClippedAdamW`, under any strategy, with or
            without loss scaling.

    Example:
        ```python
        with averaged_weights(model):
            save_model(model, "best.keras")
        ```
    """
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    pairs = optimizer.averages() if isinstance(optimizer, WeightAverages) else []
    raw = [variable.numpy() for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(average)
        yield
    finally:
        for (variable, _), value in zip(pairs, raw, strict=True):
            variable.assign(value)


class EvaluateAverages(keras.callbacks.Callback):
    """Evaluate the averaged weights, in `fit` and in `evaluate`.

    Training goes on from the raw weights, to the bit (`keras.callbacks.SwapEMAWeights`
    swaps by adding and subtracting, which rounds). See `averaged_weights`.

    Example:
        ```python
        model.compile(GroupedSGD(0.01, ema_decay=0.999), loss)
        model.fit(clips, validation_data=validation, callbacks=[EvaluateAverages()])
        ```
    """

    def __init__(self):
        super().__init__()
        self._stack = ExitStack()

    def on_test_begin(self, logs=None):
        self.close()
        self._stack.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Put the raw weights back; also needed when an evaluation fails."""
        self._stack.close()
