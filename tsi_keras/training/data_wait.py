"""How much of the training time goes by waiting for the next batch."""

import time
from collections.abc import Callable
from itertools import islice

import keras

from tsi_keras.utils.console import console

# Below this share nothing is worth changing in the input pipeline.
_WORTH_A_WORD = 0.1


class DataWait(keras.callbacks.Callback):
    """Measure the share of the training time in which the next batch was not there.

    `fit` fetches batches inside its compiled step, where waiting looks like computing.
    This callback fetches them itself, just before the step, and times that: the number is
    the time from asking the input pipeline for a batch until having it, over the time of
    the epoch's training. It is about 0 when the prefetched batches suffice, and includes
    the milliseconds that handing one over takes. Validation is not counted, nor is the
    first step of a process, which compiles the graph and starts the pipeline (unless
    it is the only one). What is computed does not change. Of several workers one may
    have it alone, with data from `distributed`, which each fetches without the others.

    Each epoch's share comes into its logs as `data_wait`, 0..1. Put it before the
    callbacks that write the logs.

    Args:
        summary: whether to print one line at the end of the training.

    Example:
        ```python
        wait = DataWait()
        model.fit(clips, callbacks=[wait, keras.callbacks.CSVLogger("log.csv")])
        print(f"{wait.total_share:.0%}")
        ```
    """

    def __init__(self, summary: bool = True):
        super().__init__()
        self.summary = summary
        self._warm = False
        self._waited = self._total_waited = self._total_time = 0.0
        self._start = self._last = self._steps = self._total_steps = 0

    @property
    def share(self) -> float:
        """The share in this epoch so far."""
        elapsed = self._last - self._start
        return self._waited / elapsed if elapsed > 0 else 0.0

    @property
    def total_share(self) -> float:
        """The share in all finished epochs of this process."""
        return self._total_waited / self._total_time if self._total_time > 0 else 0.0

    def on_train_begin(self, logs=None):
        # The step that `fit` calls; it exists already unless there is nothing to train.
        self.model.make_train_function()
        step = self.model.train_function
        self._untimed = getattr(step, "untimed", step)
        self.model.train_function = self._timed(self._untimed)

    def on_epoch_begin(self, epoch, logs=None):
        self._restart()

    def on_train_batch_end(self, batch, logs=None):
        if not self._warm and self.params.get("steps") != 1:
            self._warm = True
            self._restart()
            return
        self._last = time.perf_counter()
        self._steps += 1

    def on_epoch_end(self, epoch, logs=None):
        logs["data_wait"] = self.share
        self._total_waited += self._waited
        self._total_time += self._last - self._start
        self._total_steps += self._steps

    def on_train_end(self, logs=None):
        self.model.train_function = self._untimed
        if self.summary and self._total_steps:
            seconds = self._total_time / self._total_steps
            console.print(describe_wait(self.total_share, seconds), soft_wrap=True)

    def _restart(self) -> None:
        """Count from now on."""
        self._start = self._last = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    def _timed(self, step: Callable) -> Callable:
        """The same step, but the batches are fetched and timed here."""

        def train_function(iterator):
            begin = time.perf_counter()
            batches = list(islice(iterator, self.model.steps_per_execution))
            self._waited += time.perf_counter() - begin
            if not batches:
                raise StopIteration
            # Of anything but an iterator of tf.data, Keras takes the batches as they are.
            return step(batches)

        train_function.untimed = step
        return train_function


def describe_wait(share: float, seconds: float) -> str:
    """Say in a line what the waiting cost, and what helps if it is much.

    Args:
        share: of the training time, 0..1.
        seconds: mean duration of a step, waiting included.

    Returns:
        "waited for data ...", one line.
    """
    line = (
        f"waited for data {share:.0%} of the training time "
        f"({1000 * share * seconds:.0f} of {1000 * seconds:.0f} ms per step)"
    )
    if share < _WORTH_A_WORD:
        return line
    return (
        f"{line}; more CPU cores, faster storage, records with a smaller --short-side or, "
        "on GPUs, --data.resize_on=device "
        f"would make training up to {1 / max(1 - share, 0.01):.1f} times as fast"
    )
