"""The processes of a multi-worker training: who they are, and whether they are there."""

import json
import re
import socket
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import closing
from contextlib import suppress
from dataclasses import dataclass

from tsi_keras.utils.errors import InputError

_SOURCES = (
    "`train.distribution=multi_worker` needs to know its workers: `train.workers` "
    "([host:port, ...]) with `train.worker_index`, TF_CONFIG, or a SLURM step (srun)."
)
# SLURM jobs get ports below those that systems give away by themselves.
_FIRST_SLURM_PORT, _SLURM_PORTS = 15000, 15000


@dataclass(frozen=True)
class Cluster:
    """The workers of one training; the first one is the chief.

    Attributes:
        workers: their addresses, `"host:port"`, in the same order everywhere.
        index: position of this process among them.
        source: where this was read, to name it in errors.

    Raises:
        InputError: an address that is none or comes twice, or an index out of range.
    """

    workers: tuple[str, ...]
    index: int
    source: str

    def __post_init__(self) -> None:
        for position, worker in enumerate(self.workers):
            if _split(worker) is None:
                raise InputError(
                    f"{self.source}: workers are given as host:port with a port from "
                    f"1 to 65535. Received: {worker!r}"
                )
            if worker in self.workers[:position]:
                raise InputError(
                    f"{self.source}: every worker needs an address of its own. "
                    f"{worker} is there twice."
                )
        if not 0 <= self.index < len(self.workers):
            raise InputError(
                f"{self.source}: the index of this worker must lie between 0 and "
                f"{len(self.workers) - 1}, for {len(self.workers)} workers. "
                f"Received: {self.index}"
            )


def find_cluster(
    workers: Sequence[str] | None,
    worker_index: int | None,
    environment: Mapping[str, str],
) -> Cluster:
    """Return the cluster of this process.

    The first of these that is there counts: an explicit list; the variable TF_CONFIG,
    as Vertex AI and Kubeflow set it; the variables of a SLURM step, where one task per
    node (`srun --ntasks-per-node=1`) drives all GPUs of the node.

    Args:
        workers: `host:port` of every worker, the same list everywhere; or None.
        worker_index: position of this process in `workers`; or None.
        environment: such as `os.environ`.

    Raises:
        InputError: there is none of these, or one that makes no sense.

    Example:
        ```python
        find_cluster(["a:2222", "b:2222"], 1, {}).index   # 1
        ```
    """
    if workers is not None:
        if worker_index is None:
            raise InputError(
                "`train.workers` needs `train.worker_index`, from 0, another one for "
                "every worker."
            )
        return Cluster(tuple(workers), worker_index, "`train.workers`")
    if worker_index is not None:
        raise InputError("`train.worker_index` needs `train.workers`.")
    if environment.get("TF_CONFIG"):
        return _from_tf_config(environment["TF_CONFIG"])
    if "SLURM_PROCID" in environment:
        return _from_slurm(environment)
    raise InputError(_SOURCES)


def check_alone(environment: Mapping[str, str]) -> None:
    """Refuse that one of several processes trains alone by mistake.

    Args:
        environment: such as `os.environ`.

    Raises:
        InputError: TF_CONFIG or a SLURM step names several workers.

    Example:
        ```python
        check_alone({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})  # InputError
        ```
    """
    source, workers = "the SLURM step (srun)", 1
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    # A batch script by itself has variables of its allocation only.
    if "SLURM_PROCID" in environment and tasks.isdecimal():
        workers = int(tasks)
    if environment.get("TF_CONFIG", "").strip() not in ("", "{}"):
        source = "TF_CONFIG"
        workers = len(_from_tf_config(environment["TF_CONFIG"]).workers)
    if workers > 1:
        raise InputError(
            f"`train.distribution` must be multi_worker for the {workers} workers of "
            f"{source} to train together, or one_device or mirrored for each to train "
            "alone, with an --output of its own. Received: 'auto'"
        )


def _from_tf_config(text: str) -> Cluster:
    """Chief and workers of a TF_CONFIG."""
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        kind, index = task["type"], int(task["index"])
        addresses = {job: list(jobs[job]) for job in jobs}
    except json.JSONDecodeError as error:
        raise InputError(
            f"TF_CONFIG is no JSON ({error.msg}, character {error.pos}). "
            f"Received: {text[:80]!r}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            'TF_CONFIG must look like {"cluster": {"worker": ["host:port", ...]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text[:120]!r}'
        ) from error
    if other := sorted({*jobs, kind} - {"chief", "worker"}):
        raise InputError(
            "TF_CONFIG may name the jobs chief and worker only, all of which train. "
            f"Received: {', '.join(other)}"
        )
    chief = addresses.get("chief", [])
    # An index below 0 must stay out of range.
    offset = len(chief) if kind == "worker" and index >= 0 else 0
    workers = tuple(chief + addresses.get("worker", []))
    return Cluster(workers, index + offset, "TF_CONFIG")


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """One worker per task of the SLURM step this process belongs to."""
    try:
        nodes = expand_nodes(environment["SLURM_STEP_NODELIST"])
        tasks = _expand_tasks(environment["SLURM_STEP_TASKS_PER_NODE"])
        job, index, node = (
            int(environment[name])
            for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NODEID")
        )
        places = [
            (node, local)
            for node, count in zip(range(len(nodes)), tasks, strict=True)
            for local in range(count)
        ]
    except (KeyError, ValueError) as error:
        raise InputError(
            "The SLURM_* variables tell no job step; start the training with srun. "
            f"Problem: {type(error).__name__} {error}"
        ) from error
    port = _FIRST_SLURM_PORT + job % _SLURM_PORTS
    workers = tuple(f"{nodes[node]}:{port + local}" for node, local in places)
    cluster = Cluster(workers, index, "SLURM")
    if places[index][0] != node:
        raise InputError(
            "SLURM: tasks must be numbered node by node; start the training with "
            f"srun --distribution=block. Received: task {index} on node {node}"
        )
    return cluster


def expand_nodes(text: str) -> list[str]:
    """Write SLURM's list of nodes out.

    Raises:
        ValueError: this is no such list.

    Example:
        ```python
        expand_nodes("gpu[08-10,12],login")  # gpu08 gpu09 gpu10 gpu12 login
        ```
    """
    parts = re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", text)
    if not parts or ",".join(parts) != text:
        raise ValueError(f"{text!r} is no list of nodes")
    return [name for part in parts for name in _expand_part(part)]


def _expand_part(part: str) -> Iterator[str]:
    """`a[1-2]b` -> `a1b`, `a2b`; several brackets too."""
    head, bracket, rest = part.partition("[")
    if not bracket:
        yield head
        return
    ranges, _, tail = rest.partition("]")
    for item in ranges.split(","):
        first, _, last = item.partition("-")
        for number in range(int(first), int(last or first) + 1):
            for end in _expand_part(tail):
                yield f"{head}{number:0{len(first)}d}{end}"


def _expand_tasks(text: str) -> list[int]:
    """`2(x3),1` -> 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"{text!r} is no list of tasks per node")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def await_workers(
    cluster: Cluster,
    seconds: float = 600,
    waiting: Callable[[str], None] = lambda worker: None,
) -> None:
    """Wait until every worker of a cluster answers at its address.

    TensorFlow would wait for them without a word. Every worker listens at its own
    address and calls the others, until all have been reached. A host may still be
    unknown at first, as in Kubernetes, where names come with the processes.

    Args:
        cluster: from `find_cluster`, the same one in all workers.
        seconds: to wait for one another.
        waiting: called with the address of a worker that is not there at first.

    Raises:
        InputError: this worker's own port is taken, or in time a worker did not answer,
            or its host was not known.
    """
    deadline = time.monotonic() + seconds
    own = cluster.workers[cluster.index]
    with closing(_listen(cluster)):
        missing = _missing(set(cluster.workers), own)
        for worker in sorted(missing):
            note = ", whose host is unknown so far" if _unknown(worker) else ""
            waiting(worker + note)
        while missing:
            if time.monotonic() >= deadline:
                worker = min(missing, key=cluster.workers.index)
                raise InputError(_complaint(worker, cluster, seconds))
            time.sleep(0.2)
            # Who has answered once may already be starting TensorFlow.
            missing = _missing(missing, own)


def _missing(workers: set[str], own: str) -> set[str]:
    """Those that do not answer; of the own address only the host counts."""
    return {
        worker
        for worker in workers
        if (_unknown(worker) if worker == own else not _answers(worker))
    }


def _complaint(worker: str, cluster: Cluster, seconds: float) -> str:
    """What to say of a worker that is not there."""
    if reason := _unknown(worker):
        return (
            f"{cluster.source}: the host of worker {worker} is unknown after "
            f"{seconds:g} s ({reason}); see whether its name is right."
        )
    return (
        f"{cluster.source}: worker {cluster.workers.index(worker)} "
        f"({worker}) did not answer within {seconds:g} s; see whether "
        "it was started and the port is open to this machine."
    )


def _split(worker: str) -> tuple[str, int] | None:
    """Host and port of an address, if it is one."""
    host, _, port = worker.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        return None
    return (host.strip("[]"), int(port)) if 0 < int(port) < 65536 else None


def _unknown(worker: str) -> str:
    """Why the host of an address stands for no machine; empty if it does."""
    host, port = _split(worker)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _listen(cluster: Cluster) -> socket.socket:
    """Hold the own port, as TensorFlow will, for the others to call."""
    own = cluster.workers[cluster.index]
    try:
        return socket.create_server(("", _split(own)[1]), backlog=1024)
    except OSError as error:
        raise InputError(
            f"{cluster.source}: worker {cluster.index} cannot listen at {own}: "
            f"{error.strerror}; end the process that does, or take another port."
        ) from error


def _answers(worker: str) -> bool:
    """Whether somebody listens at an address."""
    with suppress(OSError):
        socket.create_connection(_split(worker), timeout=5).close()
        return True
    return False
