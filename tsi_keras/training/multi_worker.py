"""What Keras 3 lacks to train on several replicas, and on several workers above all."""

import pickle
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.training.distribution import is_chief
from tsi_keras.training.distribution import place_of
from tsi_keras.utils.errors import InputError

Outcome = TypeVar("Outcome")

# Bytes that travel between workers at a time.
_CHUNK = 2**26


class WorkerLost(RuntimeError):
    """Another worker is gone, and nothing can be trained without it."""


def trainable(model: keras.Model) -> keras.Model:
    """Make a model train and evaluate right under the strategy it was built in.

    On one replica nothing is changed. Otherwise the model becomes one of a subclass: with
    the weights of `make_dataset(fill_last=True)` its evaluation is exact, and `fit` works
    on several workers. Its `from_config` gives a model of the class it had, and so do
    files.

    Args:
        model: built in the scope of the strategy.

    Returns:
        The same model.

    Example:
        ```python
        with strategy.scope():
            model = trainable(build_classifier(config, class_names))
        ```
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync > 1:
        several = place_of(strategy).workers > 1
        steps = _MultiWorkerSteps if several else _WeightedEvaluation
        model.__class__ = _subclass(steps, type(model))
    return model


@cache
def _subclass(steps: type, model: type) -> type:
    """The class of models like `model` with other steps."""
    namespace = {"from_config": model.from_config, "__doc__": model.__doc__}
    return type(model.__name__, (steps, model), namespace)


class _WeightedEvaluation:
    """Evaluates by the mean over the clips with weight 1, of 0 and 1.

    Keras divides the loss by the number of clips whatever their weights.
    """

    def test_step(self, data):
        logs = super().test_step(data)
        *_, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is None:
            return logs
        ignored = tf.reduce_sum(1.0 - tf.cast(weights, "float32"))
        loss = next(metric for metric in self.metrics if metric.name == "loss")
        loss.count.assign_sub(ignored)
        return self.get_metrics_result()


class _MultiWorkerSteps(_WeightedEvaluation):
    """Cures what fails in `fit` under `MultiWorkerMirroredStrategy` (Keras 3.15).

    Keras builds metrics from the mean of a batch over the workers, which TensorFlow does
    not take as a tuple, and reduces logs over an axis that they do not have.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None:
            strategy = self.distribute_strategy
            *_, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0],
                next(batches),
            )
        super()._maybe_symbolic_build(data_batch=data_batch)

    def train_step(self, data):
        return _with_axis(super().train_step(data))

    def test_step(self, data):
        return _with_axis(super().test_step(data))


def _with_axis(logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Scalars as vectors of one."""
    return {name: tf.expand_dims(value, 0) for name, value in logs.items()}


def distributed(
    data: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Hand a worker's share of the batches to its devices.

    Args:
        data: from `make_dataset` with this process's `worker` and `workers`.
        strategy: the run's.

    Returns:
        What `fit` and `evaluate` take; the dataset itself where there is one worker.
    """
    workers = place_of(strategy).workers
    if workers == 1:
        return data
    devices = strategy.num_replicas_in_sync // workers
    if devices > 1:
        size = tf.nest.flatten(data.element_spec)[0].shape[0]
        data = data.rebatch(size // devices, drop_remainder=True)
    # TensorFlow would share the batches, whole ones of its own, once more.
    return strategy.distribute_datasets_from_function(lambda _: data)


def any_worker(strategy: tf.distribute.Strategy, wanted: bool) -> bool:
    """Whether at least one worker says yes; the same answer for all.

    Every worker must ask, and at the same moment of its training. For what one notices
    and all must do, such as to stop, or to save after some minutes.

    Example:
        ```python
        if any_worker(model.distribute_strategy, signal_received):
            model.stop_training = True
        ```
    """
    if place_of(strategy).workers == 1:
        return wanted
    return bool(_sum(strategy, np.array([wanted], "int64"))[0])


def from_chief(
    strategy: tf.distribute.Strategy, make: Callable[[], Outcome]
) -> Outcome:
    """Call `make` in the chief only and return its outcome in all workers.

    Every worker must call this, and at the same moment. Nobody goes on before the
    chief has finished. Without other workers this is `make()`.

    Args:
        strategy: the run's.
        make: takes nothing; its outcome, or the exception it raises, is pickled.

    Raises:
        Exception: what `make` raised, in all workers.

    Example:
        ```python
        run = from_chief(strategy, lambda: open_run(output, config, info))
        ```
    """
    if place_of(strategy).workers == 1:
        return make()
    message = b""
    if is_chief(strategy):
        message = _pickled(make)
    outcome, error = pickle.loads(_broadcast(strategy, message))
    if error is not None:
        raise error
    return outcome


def check_same(strategy: tf.distribute.Strategy, facts: Mapping[str, object]) -> None:
    """Refuse to train together what does not belong together.

    Every worker must call this, and at the same moment; all raise if one must.

    Args:
        strategy: the run's.
        facts: what every worker must have alike, by the name to use in the error.

    Raises:
        InputError: a fact of a worker differs from the chief's.

    Example:
        ```python
        check_same(strategy, {"`--data`": info.fingerprint})
        ```
    """
    chiefs = from_chief(strategy, lambda: dict(facts))
    wrong = [name for name, fact in facts.items() if chiefs.get(name) != fact]
    if not any_worker(strategy, bool(wrong)):
        return
    worker = place_of(strategy).worker
    if not wrong:
        raise InputError("Another worker was given something else; see its messages.")
    raise InputError(
        f"{' and '.join(wrong)} of worker {worker} must be the same as the chief's. "
        f"Received: {facts[wrong[0]]!r} and {chiefs.get(wrong[0])!r}"
    )


def _pickled(make: Callable[[], Outcome]) -> bytes:
    """Outcome and exception of a call."""
    try:
        outcome, error = make(), None
    except Exception as caught:
        outcome, error = None, caught
    try:
        return pickle.dumps((outcome, error))
    except Exception:
        if error is None:
            raise
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))


def _broadcast(strategy: tf.distribute.Strategy, message: bytes) -> bytes:
    """What the chief says; the others must say nothing."""
    size = int(_sum(strategy, np.array([len(message)], "int64"))[0])
    padded = message + bytes(-len(message) % 8)
    received = []
    for start in range(0, size, _CHUNK):
        words = -(-min(_CHUNK, size - start) // 8)
        part = np.frombuffer(padded[start : start + 8 * words] or bytes(8 * words), "q")
        received.append(_sum(strategy, part).tobytes())
    return b"".join(received)[:size]


def _sum(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    """The sum over the workers of an int64 vector."""
    return strategy.reduce("SUM", tf.identity(values), axis=None).numpy()


@contextmanager
def reported_worker_loss(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Say in one line that another worker is gone.

    TensorFlow notices within about ten seconds, when the next values are exchanged.

    Args:
        strategy: the run's; without other workers nothing is done.

    Raises:
        WorkerLost: from the block.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if place_of(strategy).workers == 1 or not _is_loss(error):
            raise
        found = re.search(r"Error reported from /job:worker/task:(\d+)", str(error))
        who = "A worker is gone"
        if found:
            address = strategy.cluster_resolver.cluster_spec().task_address(
                "worker", int(found[1])
            )
            who = f"Worker {found[1]} ({address}) is gone"
        raise WorkerLost(
            f"{who}; see its own messages. The last saved state is whole: start all "
            "workers again with --resume."
        ) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    """Whether an error comes from the connection to other workers."""
    if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
        return True
    return "ollective" in str(error) or "oordination" in str(error)
