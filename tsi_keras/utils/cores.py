"""How many processors this process has."""

import os


def available_cores() -> int:
    """Number of processor cores this process may use.

    Example:
        ```python
        print(available_cores())  # less than the machine has under `taskset`
        ```
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
