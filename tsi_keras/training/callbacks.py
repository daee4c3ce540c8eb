"""What happens around the steps: clocks, progress, random state and alarms."""

import math
import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tsi_keras.training.data_wait import DataWait
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.run_lock import RunLock
from tsi_keras.training.state import latest_state
from tsi_keras.utils.console import console
from tsi_keras.utils.console import progress


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the message says where and what to try."""


class StopWhenNotFinite(keras.callbacks.Callback):
    """Stop with an error as soon as a loss is not finite, in the validation too.

    (`keras.callbacks.TerminateOnNaN` ends training as if it had succeeded.) Put it
    first, so that nothing of that step or epoch is saved.

    Args:
        states: folder of the run's `SaveState`, to name the last state; or None.
        batch_ids: `(epoch, step) -> ids` of the videos of a batch, both counted from
            0, to name those of the bad one; or None.
        exact: whether `batch_ids` gives the same videos as the training got.
        weights: model file of the last epoch that ended well, to name it as a beginning
            of another run; it need not exist; or None.

    Raises:
        TrainingDiverged: from `fit`, with epoch, step, learning rate, videos and the
            last state.
    """

    def __init__(
        self,
        states: str | Path | None = None,
        batch_ids: Callable[[int, int], Sequence[str]] | None = None,
        exact: bool = True,
        weights: str | Path | None = None,
    ):
        super().__init__()
        self.states = states
        self.batch_ids = batch_ids
        self.exact = exact
        self.weights = weights

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise TrainingDiverged(
                f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1} "
                f"(learning rate {rate:g}){self._videos(batch)}. Lower "
                "`train.learning_rate`, warm up with `train.warmup_epochs` or clip with "
                f"`train.clip_norm` {self._how_to_go_on()}; {self._last_state()}."
            )

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("val_loss", 0.0)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The validation loss became {loss} after epoch {epoch + 1}. Lower "
                "`train.learning_rate` or warm up with `train.warmup_epochs` "
                f"{self._how_to_go_on()}; {self._last_state()}."
            )

    def _videos(self, batch: int) -> str:
        """The videos of a batch, as part of a sentence."""
        if self.batch_ids is None:
            return ""
        ids = ", ".join(self.batch_ids(self._epoch, batch))
        if self.exact:
            return f", with the videos {ids}"
        return (
            f", with about the videos {ids} (only train.deterministic=true reads them "
            "in the same order every time)"
        )

    def _how_to_go_on(self) -> str:
        """Where another recipe is taken, as part of a sentence."""
        text = "in a new run (--resume keeps the recipe): take another --output"
        if self.weights is None or not Path(self.weights).is_file():
            return text
        return (
            f"{text} and --model.weights={self.weights}, the last finished epoch but for "
            "the head"
        )

    def _last_state(self) -> str:
        """Where the last finite state lies, as part of a sentence."""
        saved = None if self.states is None else latest_state(self.states)
        if saved is None:
            return "no state was saved before"
        return (
            f"the last finite state, after {saved.epoch} epochs and {saved.step} steps, "
            f"is {saved.path}"
        )


class StopWhenTaken(keras.callbacks.Callback):
    """Stop when another machine's process has taken the run's folder over.

    Put it first, so that nothing is written to the folder then.

    Args:
        lock: the run's.

    Raises:
        InputError: from `fit`.
    """

    def __init__(self, lock: RunLock):
        super().__init__()
        self.lock = lock

    def on_train_batch_end(self, batch, logs=None):
        # The signs of life read the file every few seconds; steps are more often.
        if self.lock.is_lost:
            self.lock.check()

    def on_test_batch_end(self, batch, logs=None):
        self.on_train_batch_end(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.lock.check()


class CountSkippedBatches(keras.callbacks.Callback):
    """Keep the learning rate's schedule in step with the epochs under mixed_float16.

    A batch whose gradients overflow brings no update; at the beginning of an epoch the
    schedule is told how many there were (see `OfConsumedBatches`). Put it before what
    logs learning rates. With other optimizers it does nothing.

    Args:
        updates: of an epoch, if none is skipped.
    """

    def __init__(self, updates: int):
        super().__init__()
        self.updates = updates

    def on_epoch_begin(self, epoch, logs=None):
        if isinstance(self.model.optimizer, ReplicaLossScale):
            self.model.optimizer.count_skipped(epoch * self.updates)


class ReseedEveryEpoch(keras.callbacks.Callback):
    """Give random layers a state that depends on seed and epoch only.

    A run that is repeated from the models of an epoch then draws the same dropout
    masks again, whatever came before.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for index, state in enumerate(states):
            entropy = np.random.SeedSequence([self.seed, epoch, index])
            state.assign(np.array([entropy.generate_state(1)[0] >> 1, 0], "int64"))


class Clock(keras.callbacks.Callback):
    """Add the learning rate, clips per second and duration to an epoch's logs.

    `clips_per_second` counts training only, without validation, and not the first
    step of a process, which compiles the graph (unless it is the only one).
    `seconds` is the whole epoch; of one that was resumed the part since then, since what
    came before may have been done twice. `learning_rate` is that of the epoch's first
    step.

    Args:
        batch_size: clips in a step, over all devices.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self._rate = float(keras.ops.convert_to_numpy(rate))
        self._begin = self._start = self._last = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._last = time.perf_counter()
        if not self._compiled and self.params["steps"] != 1:
            self._compiled, self._start = True, self._last
            return
        self._steps += 1

    @property
    def clips_per_second(self) -> float:
        """Training speed in this epoch so far."""
        elapsed = self._last - self._start
        return self._steps * self.batch_size / elapsed if elapsed > 0 else 0.0

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = self._rate
        logs["clips_per_second"] = self.clips_per_second
        logs["seconds"] = time.perf_counter() - self._begin


class Progress(keras.callbacks.Callback):
    """A live bar with clips/s on a terminal, and one printed line per epoch.

    Args:
        clock: the `Clock` of the same run; it must come before this callback.
        wait: its `DataWait`, likewise, or None.
    """

    def __init__(self, clock: Clock, wait: DataWait | None = None):
        super().__init__()
        self.clock = clock
        self.wait = wait
        self._bar = None

    def on_epoch_begin(self, epoch, logs=None):
        self._title = f"epoch {epoch + 1:>3}/{self.params['epochs']}"
        self._bar = progress("clips")
        self._bar.start()
        total = self.params["steps"] * self.clock.batch_size
        self._task = self._bar.add_task(self._title, total=total)

    def on_train_batch_end(self, batch, logs=None):
        speed = f"{self.clock.clips_per_second:.1f} clips/s"
        self._bar.update(
            self._task,
            completed=(batch + 1) * self.clock.batch_size,
            description="  ".join(
                [self._title, *_figures(logs), speed, *self._waiting()]
            ),
        )

    def on_test_begin(self, logs=None):
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._title}  validation")

    def on_epoch_end(self, epoch, logs=None):
        self.close()
        speed = f"{logs['clips_per_second']:.1f} clips/s"
        rate = f"lr {logs['learning_rate']:.3g}"
        line = [self._title, *_figures(logs), speed, rate, *self._waiting()]
        console.print("  ".join(line), soft_wrap=True)

    def _waiting(self) -> list[str]:
        """The share of the time that went by waiting, if it is measured."""
        if self.wait is None:
            return []
        return [f"waiting for data {self.wait.share:.0%}"]

    def close(self) -> None:
        """Take the bar off the terminal; also needed when training fails."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _figures(logs: dict[str, float]) -> list[str]:
    """Losses and top-1 accuracies as `name value`."""
    return [
        f"{name} {logs[name]:.1%}" if "top1" in name else f"{name} {logs[name]:.4f}"
        for name in ("loss", "top1", "val_loss", "val_top1")
        if name in logs
    ]
