"""Who the workers are, by whatever tells it, and what is said when that is wrong."""

import json
import socket
import threading
from contextlib import closing

import pytest

from tsi_keras.training.cluster import Cluster
from tsi_keras.training.cluster import await_workers
from tsi_keras.training.cluster import check_alone
from tsi_keras.training.cluster import expand_nodes
from tsi_keras.training.cluster import find_cluster
from tsi_keras.utils.errors import InputError


def tf_config(cluster, kind="worker", index=0):
    return {
        "TF_CONFIG": json.dumps(
            {"cluster": cluster, "task": {"type": kind, "index": index}}
        )
    }


def slurm(nodes, tasks, index, node, job=7):
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": str(index),
        "SLURM_NODEID": str(node),
    }


def free_ports(count: int) -> list[int]:
    """Ports nobody listens at."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def test_explicit_list_is_stronger_than_the_environment():
    environment = tf_config({"worker": ["x:1", "y:1"]})
    found = find_cluster(["a:2222", "b:2222", "c:2222"], 2, environment)
    assert found == Cluster(("a:2222", "b:2222", "c:2222"), 2, "`train.workers`")


def test_tf_config():
    found = find_cluster(None, None, tf_config({"worker": ["a:1", "b:1"]}, index=1))
    assert (found.workers, found.index) == (("a:1", "b:1"), 1)
    jobs = {"worker": ["a:1", "b:1"], "chief": ["c:1"]}
    assert find_cluster(None, None, tf_config(jobs, "chief")).index == 0
    found = find_cluster(None, None, tf_config(jobs, "worker", 1))
    assert (found.workers, found.index) == (("c:1", "a:1", "b:1"), 2)
    as_text = tf_config({"worker": ["a:1", "b:1"]}, index="1")
    assert find_cluster(None, None, as_text).index == 1


def test_slurm():
    found = find_cluster(None, None, slurm("gpu[08-09],login", "2(x2),1", 3, 1))
    assert found.workers == (
        "gpu08:15007",
        "gpu08:15008",
        "gpu09:15007",
        "gpu09:15008",
        "login:15007",
    )
    assert found.index == 3
    other_job = slurm("a,b", "1(x2)", 1, 1, job=15_008)
    assert find_cluster(None, None, other_job).workers == ("a:15008", "b:15008")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a", ["a"]),
        ("b,a", ["b", "a"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[08-10,12],m5", ["n08", "n09", "n10", "n12", "m5"]),
        ("r[1-2]n[3,4].x", ["r1n3.x", "r1n4.x", "r2n3.x", "r2n4.x"]),
    ],
)
def test_lists_of_nodes(text, expected):
    assert expand_nodes(text) == expected


@pytest.mark.parametrize("text", ["", "a[1", "a]", "a,,b", "a[x]", ","])
def test_no_lists_of_nodes(text):
    with pytest.raises(ValueError):
        expand_nodes(text)


@pytest.mark.parametrize(
    "workers, index, environment, message",
    [
        (None, None, {}, "`train.workers`.*TF_CONFIG.*SLURM"),
        (["a:1"], None, {}, "needs `train.worker_index`"),
        (None, 1, {}, "`train.worker_index` needs `train.workers`"),
        (["a:1", "b"], 0, {}, "host:port.*Received: 'b'"),
        (["a:1", "b:0"], 0, {}, "host:port.*Received: 'b:0'"),
        (["a:1", "b:70000"], 0, {}, "host:port.*Received: 'b:70000'"),
        (["a:1", "b:1", "a:1"], 0, {}, "a:1 is there twice"),
        (["a:1", "b:1"], 2, {}, "between 0 and 1, for 2 workers. Received: 2"),
        (None, None, {"TF_CONFIG": "{worker"}, "TF_CONFIG is no JSON .*'{worker'"),
        (None, None, {"TF_CONFIG": "{}"}, "TF_CONFIG must look like"),
        (None, None, {"TF_CONFIG": "[1]"}, "TF_CONFIG must look like"),
        (None, None, tf_config(["a:1"]), "TF_CONFIG must look like"),
        (None, None, tf_config({"worker": ["a:1"]}, index="x"), "must look like"),
        (None, None, tf_config({"worker": ["a:1"]}, index=1), "TF_CONFIG: the index"),
        (
            None,
            None,
            tf_config({"chief": ["b:1"], "worker": ["a:1"]}, index=-1),
            "TF_CONFIG: the index .* Received: -1",
        ),
        (
            None,
            None,
            tf_config({"worker": ["a:1"], "ps": ["b:1"]}),
            "chief and worker only.*ps",
        ),
        (None, None, tf_config({"worker": ["a:1"]}, "evaluator"), "only.*evaluator"),
        (None, None, {"SLURM_PROCID": "0"}, "start the training with srun.*NODELIST"),
        (None, None, slurm("a,b", "1", 0, 0), "SLURM_.*tell no job step"),
        (None, None, slurm("a[", "1", 0, 0), "SLURM_.*'a\\['"),
        (None, None, slurm("a,b", "two", 0, 0), "'two' is no list of tasks"),
        (None, None, slurm("a,b", "2(x2)", 1, 1), "--distribution=block.* task 1"),
        (None, None, slurm("a,b", "1(x2)", 2, 1), "SLURM: the index"),
    ],
)
def test_wrong_clusters_are_one_line(workers, index, environment, message):
    with pytest.raises(InputError, match=message) as error:
        find_cluster(workers, index, environment)
    assert "\n" not in str(error.value)


def test_workers_find_one_another():
    """Whoever comes last; TensorFlow's server may already be there in their place."""
    workers = tuple(f"127.0.0.1:{port}" for port in free_ports(3))
    waited, threads = [], []
    for index in (2, 0):
        arguments = (Cluster(workers, index, "test"), 60, waited.append)
        threads.append(threading.Thread(target=await_workers, args=arguments))
        threads[-1].start()
    threads[0].join(0.5)
    assert all(thread.is_alive() for thread in threads)
    with closing(socket.create_server(("", int(workers[1].split(":")[1])))):
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert waited.count(workers[1]) == 2


def test_a_missing_worker_is_named():
    workers = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    with pytest.raises(InputError, match=f"worker 1 \\({workers[1]}\\) did not answer"):
        await_workers(Cluster(workers, 0, "TF_CONFIG"), seconds=0.3)


def test_own_port_in_use():
    with closing(socket.create_server(("", 0))) as taken:
        own = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot listen at {own}: Address"):
            await_workers(Cluster((own, "127.0.0.1:1"), 0, "TF_CONFIG"))


def test_unknown_host():
    workers = ("127.0.0.1:1", "no-such-host.invalid:1")
    message = "host of worker no-such-host.invalid:1 is unknown after 0.3 s (.*name"
    with pytest.raises(InputError, match=message.replace("(", "\\(")) as error:
        await_workers(Cluster(workers, 0, "TF_CONFIG"), seconds=0.3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("late", [0, 1])
def test_hosts_may_become_known_later(monkeypatch, late):
    """The own one, and another's; in Kubernetes names come with the processes."""
    ports = free_ports(2)
    hosts = ["127.0.0.1", "127.0.0.1"]
    hosts[late] = "late.invalid"
    workers = tuple(f"{host}:{port}" for host, port in zip(hosts, ports, strict=True))
    asked, waited, known = [], [], socket.getaddrinfo

    def getaddrinfo(host, *arguments, **options):
        if host == "late.invalid":
            asked.append(host)
            if len(asked) < 5:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return known(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with closing(socket.create_server(("", ports[1]))):
        await_workers(Cluster(workers, 0, "test"), 60, waited.append)
    assert waited == [f"{workers[late]}, whose host is unknown so far"]


def in_step(tasks):
    return {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": tasks}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        tf_config({"chief": ["a:1"]}, "chief"),
        in_step("1"),
        # A batch script, of an allocation for several tasks.
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},
    ],
)
def test_one_process_trains_alone(environment):
    check_alone(environment)


@pytest.mark.parametrize(
    "environment, message",
    [
        (tf_config({"worker": ["a:1", "b:1"]}, index=1), "2 workers of TF_CONFIG"),
        (tf_config({"chief": ["a:1"], "worker": ["b:1"]}), "2 workers of TF_CONFIG"),
        (in_step("4"), "4 workers of the SLURM step"),
        (tf_config({"worker": ["a:1"], "ps": ["b:1"]}), "TF_CONFIG may name"),
    ],
)
def test_one_of_several_does_not_train_alone(environment, message):
    with pytest.raises(InputError, match=message) as error:
        check_alone(environment)
    assert "\n" not in str(error.value)
