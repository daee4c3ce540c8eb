"""Environment variables of worker processes: those of the caller, but for a few.

Imports nothing of ours, so that the server that forks workers can begin with it.
"""

import os
from collections.abc import Mapping

# Workers write TFRecords and nothing more, so they take no accelerator, and
# TensorFlow's start-up messages would only repeat those of the main process.
SETTLED = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}

# What the server was started with; libraries that it imports add their own.
_INHERITED = frozenset(os.environ)


def adopt(environment: Mapping[str, str]) -> None:
    """Give this worker process the variables its caller has now.

    The server keeps those the caller had when the first worker was started. Variables
    that libraries set in the server stay, and `SETTLED` comes before all.

    Args:
        environment: `os.environ` of the caller.

    Example:
        ```python
        adopt({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"})
        ```
    """
    for name in _INHERITED - environment.keys():
        os.environ.pop(name, None)
    os.environ.update({**environment, **SETTLED})
