"""A process that ends when the one that started it ends, however that happened.

Imports nothing of ours: `child_program.py` puts this text before programs that must do
without the package.
"""

import os
import threading
from collections.abc import Callable


def end_after(wait: Callable[[], object]) -> None:
    """End this process at once, with status 1, as soon as `wait()` returns.

    Args:
        wait: called in a thread of its own; it returns when the parent is gone.

    Example:
        ```python
        end_after(lambda: os.read(0, 1))  # stdin is a pipe that the parent holds open
        ```
    """

    def follow() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
