"""kill -9 at random moments: a training that is resumed ends as if nothing had been."""

import random

import pytest

from tests.training.kill.killed_runs import Training
from tests.training.kill.killed_runs import check_same
from tests.training.kill.killed_runs import random_moments


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir, request):
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    Training(data_dir, folder, request.config.rootpath).finish()
    return folder


@pytest.fixture
def rng():
    """Other moments every time (the tests' fixed seed would repeat them)."""
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    return random.Random(seed)


@pytest.mark.slow
def test_three_kills(tmp_path, data_dir, undisturbed, repository, rng):
    training = Training(data_dir, tmp_path / "run", repository)
    for moment in random_moments(3, rng):
        print("killed after", moment, training.kill_after(*moment))
    training.finish()
    check_same(training.output, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(4))
def test_twenty_kills(tmp_path, data_dir, undisturbed, repository, rng, chain):
    """Four runs with five kills each, the first of which meets a run at its start."""
    training = Training(data_dir, tmp_path / "run", repository)
    print("killed at the start", training.kill_at(rng.uniform(0.1, 8)))
    for moment in random_moments(4, rng):
        print("killed after", moment, training.kill_after(*moment))
    training.finish()
    check_same(training.output, undisturbed)
