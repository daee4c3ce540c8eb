"""What Keras 3 lacks to train on several replicas, and on several workers above all."""

import pickle
import re
import zlib
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
# What another worker's end looks like: these errors, or its name in any of them.
_CONNECTION = (tf.errors.UnavailableError, tf.errors.AbortedError)
_REPORTED = re.compile(r"Error reported from /job:worker(?:/replica:\d+)?/task:(\d+)")
# Numbers that workers add up at a time, the first of which says what they are.
_WORDS = 4


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
    batches = data.cardinality()
    if devices > 1:
        size = tf.nest.flatten(data.element_spec)[0].shape[0]
        data = data.rebatch(size // devices, drop_remainder=True)
        if batches == tf.data.INFINITE_CARDINALITY:
            # Of data that may end TensorFlow asks all workers in every step whether
            # it did, wherever they fetch it; see `DataWait`.
            data = data.apply(tf.data.experimental.assert_cardinality(batches))
    # TensorFlow would share the batches, whole ones of its own, once more.
    shares = strategy.distribute_datasets_from_function(lambda _: data)
    # What Keras takes for the number of steps; TensorFlow counts every device's part.
    shares._cardinality = batches.numpy()
    return shares


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
    return exchanged(strategy, "any_worker", wanted)[0] > 0


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
        InputError: a worker is somewhere else in the program.

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
    outcome, error = pickle.loads(_broadcast(strategy, _place_of_code(make), message))
    if error is not None:
        raise error
    return outcome


def exchanged(
    strategy: tf.distribute.Strategy, purpose: str, *numbers: int
) -> list[int]:
    """Add numbers up over the workers.

    Every worker must call this, and at the same moment.

    Args:
        strategy: the run's, with several workers.
        purpose: what the numbers are; the same in all workers.
        *numbers: of this worker, up to three.

    Returns:
        The sums.

    Raises:
        InputError: in all workers, when one came with another purpose.
    """
    tag = zlib.crc32(purpose.encode())
    padding = [0] * (_WORDS - 1 - len(numbers))
    tags, *sums = _sum(strategy, np.array([tag, *numbers, *padding], "int64")).tolist()
    if tags != tag * place_of(strategy).workers:
        raise InputError(
            "The workers are not at the same point of the program; start all of them "
            "with the same arguments, such as --resume, and the same version. Worker "
            f"{place_of(strategy).worker} is at: {purpose}"
        )
    return sums[: len(numbers)]


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


def _place_of_code(function: Callable) -> str:
    """A function's place in the program; the same in all workers."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None)
    return name if code is None else f"{name}, line {code.co_firstlineno}"


def _broadcast(strategy: tf.distribute.Strategy, purpose: str, message: bytes) -> bytes:
    """What the chief says; the others must say nothing."""
    (size,) = exchanged(strategy, f"from_chief, {purpose}", len(message))
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
    Errors of this worker's own stay what they are.

    Args:
        strategy: the run's; without other workers nothing is done.

    Raises:
        WorkerLost: from the block.
    """
    try:
        yield
    except tf.errors.OpError as error:
        place = place_of(strategy)
        reporters = {int(task) for task in _REPORTED.findall(str(error))}
        others = sorted(reporters - {place.worker})
        if place.workers == 1 or not (others or isinstance(error, _CONNECTION)):
            raise
        who = "A worker is gone"
        if others:
            cluster = strategy.cluster_resolver.cluster_spec()
            address = cluster.task_address("worker", others[0])
            who = f"Worker {others[0]} ({address}) is gone"
        raise WorkerLost(
            f"{who}; see its own messages. The last saved state is whole: start all "
            f"workers again with --resume. TensorFlow says: {_gist(str(error))}"
        ) from error


def _gist(text: str) -> str:
    """The line of a TensorFlow error that says what happened."""
    frame = re.compile(r"Graph execution error|Detected at|File |<stack|\[\[|$")
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if not frame.match(line)]
    return (telling or lines or [""])[0][:300]
