"""Processes that train together, on one machine here."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.training import worker_training
from tests.training.comparing import assert_same_training
from tests.training.comparing import one_device
from tsi_keras.models import load_classifier
from tsi_keras.training.run_folder import RunFolder


def free_addresses(count: int) -> list[str]:
    """Addresses nobody listens at."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return [f"127.0.0.1:{port}" for port in ports]


def start(module: str, arguments: list, addresses: list[str], index: int, log: Path):
    """One worker of several."""
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    environment = {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[2],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def ended(processes: list[subprocess.Popen]):
    """Leave no process behind."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(network: str, workers: int, data_dir: Path, folder: Path):
    """The result of every worker."""
    addresses = free_addresses(workers)
    processes, targets = [], []
    for index in range(workers):
        (folder / str(index)).mkdir()
        targets.append(folder / str(index) / "result.npz")
        arguments = ["multi_worker", network, data_dir, targets[-1]]
        log = folder / f"{index}.log"
        module = "tests.training.worker_training"
        processes.append(start(module, arguments, addresses, index, log))
    with ended(processes):
        for index, process in enumerate(processes):
            assert process.wait(600) == 0, (folder / f"{index}.log").read_text()
    return [worker_training.load(target) for target in targets]


def check(results: list[dict[str, np.ndarray]], expected) -> None:
    """All workers came out as one device does, and understood one another."""
    for found in results:
        assert found["replicas"] == len(results)
        assert_same_training(found, expected)
        assert found["last says yes"] and not found["nobody says yes"]
        assert found["error"] == "seen by 0"
        assert found["large"] == [7] and found["large size"] == 10_000_001
    *others, last = [str(found["difference"]) for found in results]
    assert all("Another worker was given something else" in text for text in others)
    place = f"`--data` of worker {len(others)} must be the same as the chief's"
    assert last == f"{place}. Received: True and False"
    assert [any("saved" in name for name in found) for found in results] == [
        True,
        *[False] * (len(results) - 1),
    ]


def test_two_workers_equal_one_device(data_dir, tmp_path):
    check(train("tiny", 2, data_dir, tmp_path), one_device("tiny", data_dir))


@pytest.mark.slow
@pytest.mark.parametrize("network, workers", [("resnet", 2), ("tiny", 4)])
def test_workers_equal_one_device(data_dir, tmp_path, network, workers):
    check(train(network, workers, data_dir, tmp_path), one_device(network, data_dir))


RECIPE = """
model: {depth: 18, base_width: 8, num_frames: 4, temporal: tsm, dropout: 0.0}
data: {crop_size: 32, short_side: 36}
train:
  distribution: multi_worker
  batch_size: 4
  epochs: 6
  milestones: [4]
  clip_norm: 1.0
  ema_decay: 0.9
  seed: 3
  deterministic: true
  checkpoint_minutes: 0
"""


class Run:
    """`pipelines.train` in two workers."""

    def __init__(self, folder: Path, recipe: Path):
        self.output = folder / "run"
        self.logs = [folder / f"{index}.log" for index in range(2)]
        self.recipe = recipe

    def start(self, *data: Path, resume: bool = False) -> list[subprocess.Popen]:
        """Start both, each with its data."""
        addresses = free_addresses(2)
        arguments = ["--config", self.recipe, "--output", self.output]
        arguments += ["--resume"] * resume
        return [
            start(
                "pipelines.train",
                [*arguments, "--data", data[index]],
                addresses,
                index,
                self.logs[index],
            )
            for index in range(2)
        ]

    def await_state(self, pattern: str, processes: list[subprocess.Popen]) -> None:
        """Wait until a state was saved."""
        while not list((self.output / "backup").glob(pattern)):
            for index, process in enumerate(processes):
                assert process.poll() is None, self.logs[index].read_text()
            time.sleep(0.02)

    def errors(self, index: int) -> list[str]:
        """The lines of a worker that are errors."""
        lines = self.logs[index].read_text().splitlines()
        return [line for line in lines if line.startswith("error: ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim, number, codes",
    [
        (0, signal.SIGKILL, [-9, 75]),
        (1, signal.SIGKILL, [75, -9]),
        (1, signal.SIGTERM, [143, 143]),
    ],
)
def test_a_lost_worker_ends_all_and_all_go_on(
    data_dir, tmp_path, undisturbed, recipe, victim, number, codes
):
    run = Run(tmp_path, recipe)
    processes = run.start(data_dir, data_dir)
    with ended(processes):
        # In the middle of an epoch.
        run.await_state("epoch-0000[234]-step-000000[12].npz", processes)
        processes[victim].send_signal(number)
        assert [process.wait(60) for process in processes] == codes
    if number == signal.SIGKILL:
        (error,) = run.errors(1 - victim)
        assert "is gone" in error and "start all workers again with --resume" in error
    else:
        assert run.errors(0) == run.errors(1) == []
    processes = run.start(data_dir, data_dir, resume=True)
    with ended(processes):
        assert [process.wait(300) for process in processes] == [0, 0]
    assert_same_run(run.output, undisturbed)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A configuration of six epochs of three steps."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir, recipe) -> Path:
    """The run of one device, from the first step to the last."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    arguments = ["--config", recipe, "--data", data_dir, "--output", output]
    subprocess.run(
        [sys.executable, "-m", "pipelines.train", *map(str, arguments)]
        + ["--train.distribution=one_device"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    return output


def assert_same_run(found: Path, expected: Path) -> None:
    """Models and metrics of two runs are the same but for rounding."""
    for name in ("best.keras", "last.keras"):
        one, other = (load_classifier(folder / name) for folder in (expected, found))
        for variable, value in zip(one.weights, other.get_weights(), strict=True):
            np.testing.assert_allclose(
                value, variable.numpy(), rtol=1e-5, atol=1e-5, err_msg=variable.path
            )
    one, other = (RunFolder(folder).history() for folder in (expected, found))
    assert len(one) == len(other) == 6
    for row, wanted in zip(other, one, strict=True):
        for key in ("epoch", "loss", "top1", "val_loss", "val_top1"):
            assert row[key] == pytest.approx(wanted[key], rel=1e-5)


@pytest.mark.slow
def test_workers_with_different_data_are_refused(make_data, tmp_path, recipe):
    run = Run(tmp_path, recipe)
    processes = run.start(*[make_data(f"seed_{seed}", seed=seed) for seed in (0, 1)])
    with ended(processes):
        assert [process.wait(120) for process in processes] == [2, 2]
    assert "Another worker was given something else" in run.errors(0)[0]
    assert "`--data` of worker 1 must be the same as the chief's" in run.errors(1)[0]
    assert not run.output.exists()
