"""Versions of what computes: every record of a result holds them."""

import platform

import keras
import numpy as np
import tensorflow as tf

import tsi_keras


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what they compute with.

    Example:
        ```python
        versions()["keras"]  # "3.12.0"
        ```
    """
    return {
        "tsi_keras": tsi_keras.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
