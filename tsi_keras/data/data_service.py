"""Clips decoded on other hosts: a `tf.data` service of one dispatcher and its workers.

A training sends its pipeline to the dispatcher; every worker walks through the same order
of videos and decodes each so-manieth batch of it. The training puts the batches in order
again and checks their numbers. So the service keeps everything a pipeline in the training
process promises: each video of an epoch exactly once, the same draws, the same batches in
the same order, and a resumed run goes on as the undisturbed one.

`tf.data`'s dynamic sharding, which hands files to whatever workers there are, promises
less: no order, batches that run over the ends of epochs, and videos that are lost for an
epoch when a worker dies. It is not used. The price: the workers must be known when the
dispatcher starts, all of them must be there, each reads all records (but decodes only its
share), and a training that loses one can only stop (`training.service_watch` sees to
that): start the worker again, and resume.
"""

import socket
import uuid
from concurrent.futures import Future
from threading import Thread

import tensorflow as tf

from tsi_keras.data.epochs import whole
from tsi_keras.utils.errors import InputError

_service = tf.data.experimental.service

# Stands for "shards" and "index" until the service knows them.
_HINT = tf.data.experimental.SHARD_HINT

_SCHEME = "grpc://"

# Seconds to wait for a server that is asked something.
_PATIENCE = 10

# What the dispatcher keeps the addresses of its workers under.
_ADDRESSES = "tsi_keras_workers"


def start_dispatcher(
    port: int, workers: list[str]
) -> tf.data.experimental.service.DispatchServer:
    """Start the process that trainings talk to, in this process.

    Args:
        port: to listen on; 0 takes a free one.
        workers: `host:port` of every worker there will be.

    Returns:
        The running server: `target` is its address (`grpc://host:port`), `join()`
        waits for its end. It ends when it is garbage collected.

    Raises:
        InputError: no or equal workers, or the port cannot be used.
    """
    if not workers or len(set(workers)) < len(workers):
        raise InputError(
            f"`workers` must be one or more different host:port. Received: {workers}"
        )
    for address in workers:
        _port_of("workers", address)
    config = _service.DispatcherConfig(port=port, worker_addresses=workers)
    try:
        server = _service.DispatchServer(config)
    except tf.errors.OpError as error:
        raise InputError(f"`port` {port} cannot be used: {error.message}") from error
    addresses = tf.data.Dataset.from_tensors(tf.constant(workers))
    _service.register_dataset(
        server.target, addresses, compression=None, dataset_id=_ADDRESSES
    )
    return server


def start_worker(
    dispatcher: str, address: str
) -> tf.data.experimental.service.WorkerServer:
    """Start a process that decodes, in this process.

    Args:
        dispatcher: `host:port` or `grpc://host:port` of the dispatcher.
        address: `host:port` under which trainings reach this worker; one of the
            dispatcher's `workers`.

    Returns:
        The running server; `join()` waits for its end.

    Raises:
        InputError: an address has no port, the port cannot be used, or the dispatcher
            does not know or cannot reach this worker.
    """
    port = _port_of("address", address)
    dispatcher = dispatcher.removeprefix(_SCHEME)
    _port_of("dispatcher", dispatcher)
    config = _service.WorkerConfig(
        dispatcher_address=dispatcher, worker_address=address, port=port
    )
    try:
        return _service.WorkerServer(config)
    except tf.errors.OpError as error:
        raise InputError(
            f"worker {address} cannot join dispatcher {dispatcher}: {error.message}"
        ) from error


def dealt_out(videos: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Of every so-many groups of `size` videos the one that a service worker decodes.

    Args:
        videos: dictionaries of the chosen JPEG files, in an order all workers agree on.
        size: clips of a batch.

    Returns:
        The worker's videos, each with its batch's number as `batch`.
    """
    groups = videos.batch(size, drop_remainder=True).enumerate().shard(_HINT, _HINT)
    return groups.map(
        lambda number, group: group | {"batch": tf.repeat(number, size)}
    ).unbatch()


def check_service(service: str) -> None:
    """Refuse an address that can be no dispatcher's.

    Raises:
        InputError: not of the form `grpc://host:port`.
    """
    if not isinstance(service, str) or not service.startswith(_SCHEME):
        raise InputError(
            f"`service` must have the form grpc://host:port. Received: {service!r}"
        )
    _port_of("service", service.removeprefix(_SCHEME))


def through_service(batches: tf.data.Dataset, service: str) -> tf.data.Dataset:
    """Have batches made by the workers of a service.

    Args:
        batches: endless; tuples whose first entry is the number of the batch, int64
            `(B,)`, of what `dealt_out` gave.
        service: `grpc://host:port` of the dispatcher.

    Returns:
        The batches in order, without the number. Iterating raises
        `tf.errors.InvalidArgumentError` if the service lost its place.

    Raises:
        InputError: the dispatcher or one of its workers cannot be reached.
    """
    workers = worker_addresses(service)
    for worker in workers:
        if not answers(worker):
            raise InputError(
                f"`service` {service}: its worker {worker} does not answer; start it. "
                "All workers must be there."
            )
    stream = whole(batches, tf.data.INFINITE_CARDINALITY).apply(
        _service.distribute(
            _service.ShardingPolicy.HINT,
            service,
            # Another start must not go on where this one was.
            job_name=uuid.uuid4().hex,
            # Reading in turns: one batch of each worker, round after round.
            consumer_index=0,
            num_consumers=1,
            # Decoded pictures hardly shrink, at the price of another core.
            compression=None,
        )
    )

    return in_order(stream, len(workers))


def in_order(stream: tf.data.Dataset, workers: int) -> tf.data.Dataset:
    """Put what comes from several workers in order again.

    Args:
        stream: tuples as in `through_service`, from each of the workers in order.
        workers: how many there are; worker `i` has the numbers `i`, `i + workers`, ...

    Returns:
        The batches by ascending number, without the number.
    """
    stream = stream.scan(
        # The number before each worker's first.
        tf.range(workers, dtype=tf.int64) - workers,
        lambda last, batch: (_checked(last, batch[0][0], workers), batch),
    )
    # Workers that join a little later than others begin in later turns.
    rounds = stream.group_by_window(
        lambda *batch: batch[0][0] // workers,
        lambda _, batches: batches.batch(workers, drop_remainder=True),
        window_size=workers,
    )
    return rounds.map(_sorted, num_parallel_calls=2).unbatch()


def _checked(last: tf.Tensor, number: tf.Tensor, workers: int) -> tf.Tensor:
    """The last number from each worker, now that `number` has come; it must be next."""
    worker = number % workers
    same = tf.debugging.assert_equal(
        number,
        last[worker] + workers,
        "the data service lost its place, as when a worker was started again; resume "
        "the training",
    )
    with tf.control_dependencies([same]):
        return tf.tensor_scatter_nd_update(last, [[worker]], [number])


def _sorted(numbers: tf.Tensor, *batches: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Sort the batches of a round; leave out the numbers."""
    order = tf.argsort(numbers[:, 0])
    return tf.nest.map_structure(lambda value: tf.gather(value, order), batches)


def worker_addresses(service: str) -> list[str]:
    """Ask a dispatcher, and the workers that are there, for all workers.

    Args:
        service: `grpc://host:port` of a dispatcher of `start_dispatcher`.

    Returns:
        `host:port` of each, as the dispatcher was told.

    Raises:
        InputError: the dispatcher does not answer, is none of ours, or no worker came.
    """
    if not answers(service.removeprefix(_SCHEME)):
        # TensorFlow would try for an hour.
        raise InputError(f"`service` {service} does not answer.")
    found: Future = Future()
    # A thread that ends with the process: nothing else ends the wait for a worker.
    Thread(target=_ask, args=(service, found), daemon=True).start()
    try:
        return found.result(_PATIENCE)
    except TimeoutError:
        raise InputError(
            f"`service` {service}: none of its workers answers; start them."
        ) from None
    except tf.errors.NotFoundError as error:
        raise InputError(
            f"`service` {service} is no dispatcher of `pipelines.data_service`, or one "
            "of another version."
        ) from error
    except tf.errors.OpError as error:
        raise InputError(
            f"`service` {service} does not answer: {error.message}"
        ) from error


def answers(address: str) -> bool:
    """Whether somebody listens on `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def _ask(service: str, found: Future) -> None:
    """Fetch the list that `start_dispatcher` left, from whichever worker is there."""
    try:
        lists = _service.from_dataset_id(
            "parallel_epochs",
            service,
            _ADDRESSES,
            element_spec=tf.TensorSpec([None], tf.string),
        )
        addresses = next(lists.take(1).as_numpy_iterator())
        found.set_result([address.decode() for address in addresses])
    except Exception as error:
        found.set_exception(error)


def _port_of(name: str, address: str) -> int:
    """The port in `host:port`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"`{name}` must be host:port. Received: {address!r}")
    return int(port)
