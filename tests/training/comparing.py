"""Whether two trainings of `worker_training` came out alike."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.training import worker_training
from tsi_keras.training.distribution import make_strategy


@cache
def one_device(network: str, data_dir: Path) -> dict[str, np.ndarray]:
    """The training that all others are compared with."""
    with tempfile.TemporaryDirectory() as folder:
        strategy = make_strategy("one_device")
        return worker_training.train(strategy, network, data_dir, Path(folder))


def assert_same_training(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """Every weight, average, statistic, saved value and metric is the same."""
    for kind in ("start ", "weight ", "average ", "saved "):
        names = [name for name in expected if name.startswith(kind)]
        if kind == "saved " and not any(name in found for name in names):
            continue  # only the chief saves
        assert names
        difference = {name: _relative(found[name], expected[name]) for name in names}
        worst = max(difference, key=difference.get)
        print(f"largest difference {difference[worst]:.2g} in {worst}")
        assert difference[worst] < 1e-5, worst
    assert found["iterations"] == expected["iterations"]
    for name in [name for name in expected if name.startswith("metric ")]:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
        if name == "metric val_top1":
            np.testing.assert_array_equal(found[name], expected[name])


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative where values are above 1."""
    return np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
