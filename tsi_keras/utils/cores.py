"""How many processors this process has."""

import math
import os
from pathlib import Path

# What a container may use, as Linux tells it inside: microseconds in so many, or "max".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Number of processor cores this process may use.

    Counts what `taskset`, cluster schedulers and containers (`docker --cpus`) allow, a
    part of a core as a whole one.

    Example:
        ```python
        print(available_cores())  # less than the machine has under `taskset`
        ```
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    return min(cores, _quota())


def _quota() -> float:
    """Whole cores' worth of time the container gets; infinite without a limit."""
    try:
        time, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(time) / int(period)))
    except (OSError, ValueError):
        return math.inf
