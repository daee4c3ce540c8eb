"""Processes that train together, on one machine here."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.training import worker_training
from tests.training.comparing import assert_same_training
from tests.training.comparing import one_device


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
