"""Clips from a `tf.data` service on this machine."""

import socket

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import REPOSITORY
from tests.data.making_records import record
from tests.data.making_records import write_dataset
from tests.holding import python_saying
from tsi_keras.data import data_service
from tsi_keras.data.data_service import answers
from tsi_keras.data.data_service import in_order
from tsi_keras.data.data_service import start_dispatcher
from tsi_keras.data.data_service import start_worker
from tsi_keras.data.data_service import worker_addresses
from tsi_keras.data.pipeline import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.utils.errors import InputError

SMALL = ClipOptions(num_frames=2, crop_size=16, short_side=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven videos in three shards."""
    records = [record(video, 5 + video) for video in range(11)]
    shards = [records[:4], records[4:8], records[8:]]
    return write_dataset(tmp_path_factory.mktemp("data"), shards)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("localhost", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


SERVE = """
import sys
from tsi_keras.data.data_service import start_dispatcher, start_worker

addresses = sys.argv[2:]
dispatcher = start_dispatcher(int(sys.argv[1]), addresses)
workers = [start_worker(dispatcher.target, name) for name in addresses[::-1]]
print("serving", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def service():
    """Address of a dispatcher with three workers, started in another order.

    In a process that is killed: workers that end by themselves may take a minute.
    """
    port, *ports = free_ports(4)
    addresses = [f"localhost:{port}" for port in ports]
    with python_saying(
        "serving", SERVE, str(port), *addresses, folder=REPOSITORY
    ) as it:
        yield f"grpc://localhost:{port}"
        it.kill()


def train(data, **arguments):
    """An endless training dataset with ids."""
    defaults = {"batch_size": 2, "seed": 5, "repeat": True, "with_ids": True}
    return make_dataset(data, "train", SMALL, training=True, **(defaults | arguments))


def assert_equal(stream, expected):
    for batch, wanted in zip(
        stream.as_numpy_iterator(), expected.as_numpy_iterator(), strict=True
    ):
        for value, other in zip(batch, wanted, strict=True):
            np.testing.assert_array_equal(value, other)


def test_the_service_gives_the_batches_of_one_process(data, service):
    """Five batches an epoch, which three workers do not divide: in order all the same."""
    stream, local = train(data, service=service), train(data, deterministic=True)
    assert stream.element_spec == local.element_spec
    assert stream.options().autotune.enabled is False
    assert_equal(stream.take(17), local.take(17))
    # Another start begins anew, wherever the first one was.
    assert_equal(stream.take(4), local.take(4))


def test_every_video_of_an_epoch_comes_exactly_once(data, service):
    stream = train(data, batch_size=1, service=service).take(33)
    ids = [name.decode() for *_, (name,) in stream.as_numpy_iterator()]
    for start in (0, 11, 22):
        assert sorted(ids[start : start + 11]) == sorted(f"v{i}" for i in range(11))


@pytest.mark.slow
def test_resuming_parts_and_shares(data, service):
    arguments = {"batch_size": 4, "parts": 2, "first_epoch": 1, "first_step": 1}
    for worker in range(2):
        own = arguments | {"worker": worker, "workers": 2}
        assert_equal(
            train(data, service=service, **own).take(5), train(data, **own).take(5)
        )


def numbered(numbers: list[int]) -> tf.data.Dataset:
    """Batches of two as workers send them: numbers first."""
    pairs = tf.repeat(tf.constant(numbers, tf.int64)[:, None], 2, axis=1)
    return tf.data.Dataset.from_tensor_slices((pairs, pairs * 10))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [1, 2, 5, 0, 4, 3]])
def test_late_workers_are_waited_for(order):
    batches = in_order(numbered(order), 3)
    assert [int(values[0]) for (values,) in batches] == [0, 10, 20, 30, 40, 50]


def test_batches_for_the_device_keep_their_parts():
    """Crops and their sides come as a dictionary."""
    batches = numbered([1, 2, 0]).map(lambda n, x: (n, {"crops": x, "sides": -x}))
    found = [(int(x["crops"][0]), int(x["sides"][0])) for (x,) in in_order(batches, 3)]
    assert found == [(0, 0), (10, -10), (20, -20)]


@pytest.mark.parametrize("order", [[0, 1, 2, 4, 0], [0, 1, 2, 5]])
def test_a_worker_that_lost_its_place_is_noticed(order):
    """One that is started again begins at its first batch."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="lost its place"):
        list(in_order(numbered(order), 2))


def test_damage_is_told_by_the_service(tmp_path, service):
    folder = write_dataset(tmp_path, [[record(0, 5), record(1, 5, spoilt=True)]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG"):
        list(train(folder, service=service).take(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"service": "localhost:5000"}, "grpc://host:port. Received: 'localhost"),
        ({"service": "grpc://localhost"}, "`service` must be host:port"),
        ({"service": "grpc://a:1", "repeat": False}, "`service` needs repeat=True"),
        ({"service": "grpc://a:1", "cache": "memory"}, "`cache` is for reading in"),
    ],
)
def test_impossible_services(data, arguments, message):
    with pytest.raises(InputError, match=message):
        train(data, **arguments)


def test_a_service_that_is_not_there(data):
    (port,) = free_ports(1)
    with pytest.raises(InputError, match="does not answer"):
        train(data, service=f"grpc://localhost:{port}")


def test_a_service_tells_its_workers(service):
    addresses = worker_addresses(service)
    assert len(addresses) == 3
    assert all(answers(address) for address in addresses)


def test_a_worker_that_is_missing_at_the_start(data):
    """Waiting for its batches would have no end."""
    there, missing = (f"localhost:{port}" for port in free_ports(2))
    dispatcher = start_dispatcher(0, [there, missing])
    worker = start_worker(dispatcher.target, there)
    with pytest.raises(InputError, match=f"worker {missing} does not answer"):
        train(data, service=dispatcher.target)
    del worker, dispatcher


def test_a_service_without_workers(data, service, monkeypatch):
    """Nobody answers, for ever; TensorFlow's own wait could not be ended here."""
    monkeypatch.setattr(data_service, "_PATIENCE", 0.1)
    monkeypatch.setattr(data_service, "_ask", lambda *_: None)
    with pytest.raises(InputError, match="none of its workers answers"):
        train(data, service=service)


def test_a_dispatcher_of_somebody_else(data):
    dispatcher = tf.data.experimental.service.DispatchServer()
    with pytest.raises(InputError, match="is no dispatcher of `pipelines.data_serv"):
        train(data, service=dispatcher.target)


def test_impossible_servers():
    with pytest.raises(InputError, match=r"`workers`.*Received: \[\]"):
        start_dispatcher(0, [])
    with pytest.raises(InputError, match="different"):
        start_dispatcher(0, ["a:1", "a:1"])
    with pytest.raises(InputError, match="`workers` must be host:port.*'a'"):
        start_dispatcher(0, ["a"])
    with pytest.raises(InputError, match="`address` must be host:port"):
        start_worker("localhost:1", "here")
