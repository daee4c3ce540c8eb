"""Processes that train together, on one machine here."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.training import worker_training
from tests.training.comparing import assert_same_training
from tests.training.comparing import one_device
from tsi_keras.models import load_classifier
from tsi_keras.training import multi_worker
from tsi_keras.training import polls
from tsi_keras.training.distribution import Place
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
    environment = {
        "TF_CONFIG": json.dumps(config),
        "CUDA_VISIBLE_DEVICES": "",
        # With the errors, among them "heartbeat timeout" at a wrong end.
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
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


def train(network: str, workers: int, data_dir: Path, folder: Path, *options):
    """The result of every worker; options are devices and where crops are resized."""
    addresses = free_addresses(workers)
    processes, targets = [], []
    for index in range(workers):
        (folder / str(index)).mkdir()
        targets.append(folder / str(index) / "result.npz")
        arguments = ["multi_worker", network, data_dir, targets[-1], *options]
        log = folder / f"{index}.log"
        module = "tests.training.worker_training"
        processes.append(start(module, arguments, addresses, index, log))
    with ended(processes):
        for index, process in enumerate(processes):
            status, log = process.wait(600), (folder / f"{index}.log").read_text()
            assert status == 0 and "heartbeat" not in log, log
    return [worker_training.load(target) for target in targets]


def check(results: list[dict[str, np.ndarray]], expected, devices: int = 1) -> None:
    """All workers came out as one device does, and understood one another."""
    for found in results:
        assert found["replicas"] == devices * len(results)
        assert found["test steps"] == expected["test steps"] == 4
        assert_same_training(found, expected)
        assert found["last says yes"] and not found["nobody says yes"]
        assert found["error"] == "seen by 0"
        assert found["large"] == [7] and found["large size"] == 10_000_001
        assert "not at the same point" in str(found["elsewhere"])
        assert 20 <= found["poll"] == results[0]["poll"]
    assert [
        str(found["elsewhere"]).split(", line")[0].split(": ")[1] for found in results
    ] == [
        *["from_chief, _agreements.<locals>.fail"] * (len(results) - 1),
        "any_worker",
    ]
    *others, last = [str(found["difference"]) for found in results]
    assert all("Another worker was given something else" in text for text in others)
    place = f"`--data` of worker {len(others)} must be the same as the chief's"
    assert last == f"{place}. Received: True and False"
    assert [any("saved" in name for name in found) for found in results] == [
        True,
        *[False] * (len(results) - 1),
    ]


@pytest.mark.slow
def test_two_workers_equal_one_device(data_dir, tmp_path):
    check(train("tiny", 2, data_dir, tmp_path), one_device("tiny", data_dir))


def test_two_workers_of_two_devices_equal_one_device(data_dir, tmp_path):
    """As two machines with two GPUs each, which resize the crops themselves."""
    results = train("tiny", 2, data_dir, tmp_path, 2, "device")
    check(results, one_device("tiny", data_dir), devices=2)


@pytest.mark.slow
@pytest.mark.parametrize("network, workers", [("resnet", 2), ("tiny", 4)])
def test_workers_equal_one_device(data_dir, tmp_path, network, workers):
    check(train(network, workers, data_dir, tmp_path), one_device(network, data_dir))


GRAPH = """Graph execution error:

Detected at node sgd/CollectiveReduceV2 defined at (most recent call last):
  File "a.py", line 28, in <module>

Collective ops is aborted by: Socket closed
The error could be from a previous operation.
\t [[{{node sgd/CollectiveReduceV2}}]] [Op:__inference_1]"""


@pytest.mark.parametrize(
    "kind, text, message",
    [
        ("Unavailable", "Socket closed", "A worker is gone.*says: Socket closed"),
        ("Aborted", "Stopped", "A worker is gone.*TensorFlow says: Stopped"),
        ("Unavailable", GRAPH, "A worker.*says: Collective ops is .*: Socket closed"),
        (
            "Unavailable",
            "Aborted by: Error reported from /job:worker/task:2: heartbeat timeout",
            "Worker 2 .c:1. is gone.*says: Aborted by: .*timeout",
        ),
        (
            "Internal",
            "Error reported from /job:worker/replica:0/task:0: no memory",
            "Worker 0 .a:1. is gone.*no memory",
        ),
        # Of this worker's own.
        ("InvalidArgument", "Shape mismatch in the collective instance 259", None),
        ("ResourceExhausted", "no memory for node sgd/CollectiveReduceV2", None),
        ("Internal", "Error reported from /job:worker/task:1: no memory", None),
    ],
)
def test_own_errors_are_no_lost_workers(monkeypatch, kind, text, message):
    cluster = tf.train.ClusterSpec({"worker": ["a:1", "b:1", "c:1"]})
    resolver = SimpleNamespace(cluster_spec=lambda: cluster)
    monkeypatch.setattr(multi_worker, "place_of", lambda _: Place(1, 3))
    error = getattr(tf.errors, f"{kind}Error")
    expected = error if message is None else multi_worker.WorkerLost
    with pytest.raises(expected, match=message) as caught:
        strategy = SimpleNamespace(cluster_resolver=resolver)
        with multi_worker.reported_worker_loss(strategy):
            raise error(None, None, text)
    assert message is None or "\n" not in str(caught.value)


def asked_at(monkeypatch, clock: list[float], totals: list[int]) -> list[int]:
    """The steps after which a worker asks, by its own clock and the answers."""
    answers = iter(totals)
    monkeypatch.setattr(polls, "place_of", lambda _: Place(0, 2))
    monkeypatch.setattr(polls, "exchanged", lambda *_: [0, 1, next(answers)])
    monkeypatch.setattr(polls.time, "monotonic", iter(clock).__next__)
    asking = polls.Polls()
    answered = [asking.ask(None, False, True) for _ in range(sum(range(9)))]
    assert set(answered) == {(False, True), (False, False)}
    return [step for step, found in enumerate(answered, 1) if found[1]]


def test_workers_ask_about_once_a_second_at_the_same_steps(monkeypatch):
    """As often as the sum of the times says: 0.1 s a step, then 1 s, then 3 s."""
    steps = [1, 2, 4, 8, 10, 1, 1]
    seconds = [0.1, 0.2, 0.4, 0.8, 10, 3, 3]
    totals = [round(2e6 * duration) for duration in seconds] + [10**9] * 99
    expected = [1, 3, 7, 15, 25, 26, 27]
    assert np.cumsum(steps).tolist() == expected
    for clock in (np.arange(1000.0), np.arange(0.0, 1.0, 0.001)):
        found = asked_at(monkeypatch, list(clock), totals)
        assert found[: len(expected)] == expected


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

    def __init__(self, folder: Path, recipe: Path, devices: int = 1):
        self.output = folder / "run"
        self.logs = [folder / f"{index}.log" for index in range(2)]
        self.recipe = recipe
        self.devices = devices

    def start(self, *data: Path, resume: bool = False) -> list[subprocess.Popen]:
        """Start both, each with its data."""
        addresses = free_addresses(2)
        arguments = ["command", self.devices, "--config", self.recipe]
        arguments += ["--output", self.output, *["--resume"] * resume]
        return [
            start(
                "tests.training.worker_training",
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
    "victim, number, codes, devices",
    [
        (0, signal.SIGKILL, [-9, 75], 1),
        (1, signal.SIGKILL, [75, -9], 2),
        (1, signal.SIGTERM, [143, 143], 1),
        (0, signal.SIGTERM, [143, 143], 2),
    ],
)
def test_a_lost_worker_ends_all_and_all_go_on(
    data_dir, tmp_path, undisturbed, recipe, victim, number, codes, devices
):
    run = Run(tmp_path, recipe, devices)
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
    assert "heartbeat" not in run.logs[0].read_text()
    # Over the steps, the rounding of sums over four replicas grows to some 0.0003.
    assert_same_run(run.output, undisturbed, 1e-5 if devices == 1 else 1e-3)


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


def assert_same_run(found: Path, expected: Path, tolerance: float) -> None:
    """Models and metrics of two runs are the same but for rounding."""
    for name in ("best.keras", "last.keras"):
        one, other = (load_classifier(folder / name) for folder in (expected, found))
        for variable, value in zip(one.weights, other.get_weights(), strict=True):
            np.testing.assert_allclose(
                value, variable.numpy(), tolerance, tolerance, err_msg=variable.path
            )
    one, other = (RunFolder(folder).history() for folder in (expected, found))
    assert len(one) == len(other) == 6
    for row, wanted in zip(other, one, strict=True):
        for key in ("epoch", "loss", "top1", "val_loss", "val_top1"):
            assert row[key] == pytest.approx(wanted[key], rel=tolerance)


@pytest.mark.slow
def test_a_worker_says_what_it_ended_of(data_dir, tmp_path, recipe):
    """One cannot read its data; only the other lost somebody."""
    damaged = shutil.copytree(data_dir, tmp_path / "damaged")
    shard = damaged / "train-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    run = Run(tmp_path, recipe)
    processes = run.start(data_dir, damaged)
    with ended(processes):
        assert [process.wait(300) for process in processes] == [75, 2]
    assert "TensorFlow says: " in run.errors(0)[0]
    assert "a record cannot be read (corrupted record)" in run.errors(1)[0]


@pytest.mark.slow
def test_workers_with_different_data_are_refused(make_data, tmp_path, recipe):
    run = Run(tmp_path, recipe)
    processes = run.start(*[make_data(f"seed_{seed}", seed=seed) for seed in (0, 1)])
    with ended(processes):
        assert [process.wait(120) for process in processes] == [2, 2]
    assert "Another worker was given something else" in run.errors(0)[0]
    assert "`--data` of worker 1 must be the same as the chief's" in run.errors(1)[0]
    assert not run.output.exists()
