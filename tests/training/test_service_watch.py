"""Trainings whose data service is killed."""

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.data.test_data_service import free_ports
from tests.training.test_trainer import CONFIG
from tsi_keras.training import service_watch
from tsi_keras.training.config import Config
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.service_watch import ServiceWatch


@pytest.fixture
def servers(monkeypatch):
    """Sockets that listen: a dispatcher and its two workers."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(3)]
    addresses = [f"localhost:{item.getsockname()[1]}" for item in sockets]
    monkeypatch.setattr(service_watch, "worker_addresses", lambda _: addresses[1:])
    monkeypatch.setattr(service_watch, "_INTERVAL", 0.02)
    yield sockets, addresses
    for item in sockets:
        item.close()


def watch(addresses, patience=0.05):
    """A watch that notes what it would say; `said` is set with it."""
    said, messages = threading.Event(), []

    def end(message):
        messages.append(message)
        said.set()

    return ServiceWatch(f"grpc://{addresses[0]}", patience, end), said, messages


@pytest.mark.parametrize(("lost", "role"), [(0, "dispatcher"), (2, "worker")])
def test_the_lost_server_is_named(servers, lost, role):
    sockets, addresses = servers
    callback, said, messages = watch(addresses)
    callback.on_train_begin()
    sockets[lost].close()
    assert said.wait(60)
    callback.close()
    (message,) = messages
    assert f"lost its {role} {addresses[lost]}, and no batch came" in message
    assert "--resume" in message
    assert all(name not in message for name in set(addresses[1:]) - {addresses[lost]})


def test_a_slow_service_is_waited_for(servers):
    _, addresses = servers
    callback, said, _ = watch(addresses)
    callback.on_train_begin()
    assert not said.wait(0.5)
    callback.on_train_end()


def test_batches_that_still_come_are_trained_with(servers, monkeypatch):
    """Without a dispatcher the workers may go on for a while."""
    sockets, addresses = servers
    asked = []
    monkeypatch.setattr(service_watch, "answers", asked.append)
    callback, said, _ = watch(addresses, patience=3600)
    callback.on_train_begin()
    sockets[0].close()
    callback.on_train_batch_end(0)
    assert not said.wait(0.2)
    callback.close()
    assert not asked


def start(*arguments, **streams):
    """A command of the package, in a process of its own."""
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **streams)


def serve(*arguments):
    """A server of the data service, when it is up."""
    server = start("pipelines.data_service", *arguments, stdout=subprocess.PIPE)
    assert server.stdout.readline()
    return server


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["dispatcher", "worker"])
def test_a_killed_server_ends_the_training(tmp_path, data_dir, victim):
    """The only worker, or the dispatcher and with it a worker that lost it."""
    values = CONFIG.model_dump()
    values["train"]["epochs"] = 100_000
    values["train"]["validation"] = False
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_config(Config.model_validate(values)))
    port, worker_port = free_ports(2)
    address = f"localhost:{worker_port}"
    run, log = tmp_path / "run", tmp_path / "log"
    processes = {}
    try:
        processes["dispatcher"] = serve(
            "dispatcher", "--port", port, "--workers", address
        )
        processes["worker"] = serve(
            "worker", "--dispatcher", f"localhost:{port}", "--address", address
        )
        arguments = ["--config", recipe, "--data", data_dir, "--output", run]
        arguments += [f"--data.service=grpc://localhost:{port}"]
        arguments += ["--data.service_timeout=2"]
        with log.open("w") as file:
            training = start("pipelines.train", *arguments, stderr=file, stdout=file)
        processes["training"] = training
        while not (run / "last.json").exists():
            assert training.poll() is None, log.read_text()
            time.sleep(0.1)
        processes[victim].send_signal(signal.SIGKILL)
        assert training.wait(240) == service_watch.LOST
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    killed = f"dispatcher localhost:{port}" if victim == "dispatcher" else address
    text = " ".join(log.read_text().split())
    assert "lost its" in text and killed in text and "--resume" in text
