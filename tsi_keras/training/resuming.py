"""`fit` from any saved state to the end, as if nothing had happened."""

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress

import keras
import tensorflow as tf

from tsi_keras.training.multi_worker import from_chief
from tsi_keras.training.state import SavedState
from tsi_keras.training.state import TrainingState
from tsi_keras.training.state import load_state
from tsi_keras.training.state import restore_state

MakeData = Callable[[int, int], tf.data.Dataset]


def fit_from(
    model: keras.Model,
    saved: SavedState | None,
    make_data: MakeData,
    *,
    steps_per_epoch: int,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    validation_data: tf.data.Dataset | None = None,
) -> keras.callbacks.History:
    """Train like `fit`, going on exactly where a state was saved.

    Keras can only begin with a whole epoch. Here an epoch begun is finished with the
    steps it lacks, from the metrics it had, and the callbacks see one `fit` of one run:
    true numbers of epochs and steps, one begin and one end. With a
    deterministic model on the same devices, weights and metrics are bit for bit those
    of a run that was never interrupted.

    Args:
        model: compiled; its optimizer is built.
        saved: from `latest_state`, or None to train from the first step.
        make_data: `(first_epoch, first_step) -> dataset` of endless batches, as by
            `make_dataset(repeat=True, ...)`.
        steps_per_epoch: steps of a whole epoch.
        epochs: epochs of the whole run.
        callbacks: with a `SaveState` among them.
        validation_data: batches to evaluate after every epoch, or None.

    Returns:
        The history of the epochs ended here.

    Raises:
        InputError: the state is damaged or belongs to another network.

    Example:
        ```python
        fit_from(
            model,
            latest_state("run/backup"),
            lambda epoch, step: make_dataset(
                ..., repeat=True, first_epoch=epoch, first_step=step
            ),
            steps_per_epoch=100,
            epochs=50,
            callbacks=[SaveState("run/backup", minutes=10)],
        )
        ```
    """
    run = _OneRun(
        callbacks, add_history=True, model=model, epochs=epochs, steps=steps_per_epoch
    )
    options = {
        "epochs": epochs,
        "validation_data": validation_data,
        "callbacks": run,
        "shuffle": False,
        "verbose": 0,
    }
    epoch, step = (0, 0) if saved is None else saved[1:]
    if saved is not None:
        run.resume(from_chief(model.distribute_strategy, lambda: load_state(saved)))
    if step:
        data = make_data(epoch, step)
        run.build_metrics = lambda: _build_metrics(model, data)
        with suppress(_EpochFinished):
            if missing := steps_per_epoch - step:
                model.fit(data, initial_epoch=epoch, steps_per_epoch=missing, **options)
            else:
                _validate(model, epoch, run, validation_data)
        epoch += 1
    # A number of steps keeps one iterator over all epochs.
    data = make_data(epoch, 0)
    model.fit(data, initial_epoch=epoch, steps_per_epoch=steps_per_epoch, **options)
    return model.history


def _validate(
    model: keras.Model,
    epoch: int,
    run: "_OneRun",
    validation_data: tf.data.Dataset | None,
) -> None:
    """End an epoch all of whose steps are made, as `fit` does."""
    run.on_train_begin()
    run.on_epoch_begin(epoch)
    logs = dict(model.get_metrics_result())
    if validation_data is not None:
        found = model.evaluate(
            validation_data, callbacks=run, return_dict=True, verbose=0
        )
        logs |= {f"val_{name}": value for name, value in found.items()}
    run.on_epoch_end(epoch, logs)


def _build_metrics(model: keras.Model, data: tf.data.Dataset) -> None:
    """Have Keras build the compiled metrics, which it puts off to the first step."""

    def zeros(spec) -> tf.Tensor:
        return tf.zeros([1, *(size or 1 for size in spec.shape[1:])], spec.dtype)

    # Of several replicas the first.
    labels = zeros(tf.nest.flatten(data.element_spec[1], expand_composites=True)[0])
    logits = tf.nest.map_structure(zeros, model.output)
    strategy = model.distribute_strategy
    strategy.run(model.compute_metrics, args=(None, labels, logits))


class _EpochFinished(Exception):
    """Leaves the `fit` of the rest of an epoch.

    Its regular end would overwrite the weights with their moving average (`use_ema`).
    """


class _OneRun(keras.callbacks.CallbackList):
    """Callbacks to which several `fit`s look like one.

    In the epoch that is resumed, the batches are counted from where it had come, and
    the state is restored once Keras has reset the metrics and the callbacks have begun
    the epoch. These see the optimizer as it was when the epoch began.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.build_metrics = lambda: None
        self._state: TrainingState | None = None
        self._offset = 0
        self._begun = False

    def resume(self, state: TrainingState) -> None:
        """Restore `state` now, and again inside the epoch it was taken in."""
        restore_state(self.model, state)
        if state.step:
            self._state = state
            self.model.optimizer.iterations.assign(state.begin)

    def on_train_begin(self, logs=None):
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self._state is not None:
            self.build_metrics()
            restore_state(self.model, self._state)
            self._offset = self._state.step

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch + self._offset, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch + self._offset, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self._state is not None:
            self._state, self._offset = None, 0
            raise _EpochFinished
