"""What any worker wants, asked as seldom as it may be."""

import time

import tensorflow as tf

from tsi_keras.training.distribution import place_of
from tsi_keras.training.multi_worker import exchanged


class Polls:
    """Asks all workers what they want after each step, but about once a second only.

    To ask takes milliseconds, and every worker must ask after the same step. So steps
    are counted: each answer comes with the time that the workers took for the steps
    before, and from that they all know after how many steps to ask again.

    Args:
        seconds: between two questions; 0: ask after every step.

    Example:
        ```python
        (stop,) = polls.ask(model.distribute_strategy, signal_received)
        ```
    """

    def __init__(self, seconds: float = 1.0):
        self.seconds = seconds
        self._steps = self._left = 1
        self._time = time.monotonic()

    def ask(self, strategy: tf.distribute.Strategy, *wanted: bool) -> tuple[bool, ...]:
        """Return what at least one worker wants; every worker must call this.

        Args:
            strategy: the run's.
            *wanted: up to two wishes of this worker; who has one keeps on wanting it.

        Returns:
            The same for all workers: for each wish whether somebody has it, or False
            until it is time to ask again. Without other workers `wanted` itself.
        """
        workers = place_of(strategy).workers
        if workers == 1:
            return wanted
        self._left -= 1
        if self._left:
            return (False,) * len(wanted)
        microseconds = round(1e6 * (time.monotonic() - self._time))
        *found, total = exchanged(strategy, "Polls.ask", *wanted, microseconds)
        fitting = self.seconds * 1e6 * workers * self._steps // max(total, 1)
        # A first step that was quick by chance must not silence the rest.
        self._steps = self._left = max(1, min(int(fitting), 2 * self._steps))
        self._time = time.monotonic()
        return tuple(number > 0 for number in found)
