"""Learning rates at the steps where they change."""

import keras
import numpy as np
import pytest

from tsi_keras.training.config import TrainSection
from tsi_keras.training.schedule import LinearWarmup
from tsi_keras.training.schedule import StepDecay
from tsi_keras.training.schedule import make_schedule
from tsi_keras.training.schedule import scaled_learning_rate


def rates(schedule, steps):
    return [float(schedule(np.int64(step))) for step in steps]


def test_papers_steps():
    schedule = make_schedule(TrainSection(), steps_per_epoch=10)
    found = rates(schedule, [0, 299, 300, 399, 400, 449, 450, 499])
    expected = [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_milestones_keeps_the_rate():
    schedule = make_schedule(TrainSection(milestones=[]), steps_per_epoch=10)
    np.testing.assert_allclose(rates(schedule, [0, 499]), [0.01, 0.01], rtol=1e-6)


def test_warm_up_starts_at_a_tenth():
    train = TrainSection(warmup_epochs=2.0)
    schedule = make_schedule(train, steps_per_epoch=10)
    found = rates(schedule, [0, 10, 20, 299, 300])
    np.testing.assert_allclose(found, [1e-3, 5.5e-3, 1e-2, 1e-2, 1e-3], rtol=1e-6)


def test_cosine_ends_at_zero():
    train = TrainSection(schedule="cosine", epochs=4, learning_rate=0.2)
    found = rates(make_schedule(train, steps_per_epoch=5), [0, 5, 10, 20])
    half = 0.1 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(found, [0.2, half, 0.1, 0.0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reference, expected", [(None, 0.02), (64, 0.01), (16, 0.04)])
def test_linear_scaling(reference, expected):
    train = TrainSection(
        learning_rate=0.02, batch_size=32, reference_batch_size=reference
    )
    assert scaled_learning_rate(train) == pytest.approx(expected)


def test_serialization():
    schedule = LinearWarmup(StepDecay(0.3, [4, 8], 0.5), 3)
    config = keras.optimizers.schedules.serialize(schedule)
    restored = keras.optimizers.schedules.deserialize(config)
    steps = range(12)
    assert rates(restored, steps) == rates(schedule, steps)
