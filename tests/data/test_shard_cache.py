"""Copies of shards on a disk and in memory."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tsi_keras.data.benchmark_records import BenchmarkRecords
from tsi_keras.data.benchmark_records import write_benchmark_records
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import ClipOptions
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.data.shard_cache import cached_shard_paths
from tsi_keras.data.shard_cache import forget_memory
from tsi_keras.utils.errors import InputError

SMALL = ClipOptions(num_frames=2, crop_size=16, short_side=24)
RECORDS = BenchmarkRecords(
    num_videos=6, num_frames=8, width=48, height=36, num_shards=3
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A data set of six videos in three shards."""
    return write_benchmark_records(tmp_path_factory.mktemp("data"), RECORDS)


@pytest.fixture
def data(original, tmp_path):
    """The same, to be spoilt."""
    return shutil.copytree(original, tmp_path / "data")


def batches(data, **arguments):
    dataset = make_dataset(
        data,
        "train",
        SMALL,
        batch_size=2,
        training=True,
        seed=3,
        deterministic=True,
        repeat=True,
        with_ids=True,
        **arguments,
    )
    return list(dataset.take(7).as_numpy_iterator())


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_copies_give_the_same_batches_without_the_data_set(data, tmp_path, kind):
    """Order and draws are new in each epoch, and those of the data set itself."""
    cache = tmp_path / "cache" if kind == "disk" else kind
    expected = batches(data)
    assert not np.array_equal(expected[0][0], expected[3][0])
    first = batches(data, cache=cache)
    for shard in data.glob("*.tfrecord"):
        shard.write_bytes(b"")  # there, but of no use
    for found in (first, batches(data, cache=cache)):
        for batch, wanted in zip(found, expected, strict=True):
            for value, other in zip(batch, wanted, strict=True):
                np.testing.assert_array_equal(value, other)
    forget_memory(load_dataset_info(data))


def test_memory_is_given_back(original):
    info = load_dataset_info(original)
    assert cached_shard_paths(info, "train", "memory")[0].startswith("ram://")
    forget_memory(info)
    spoilt = dataclasses.replace(info, folder=original / "nowhere")
    with pytest.raises(InputError):
        cached_shard_paths(spoilt, "train", "memory")


def test_no_cache_is_the_data_set(original):
    info = load_dataset_info(original)
    assert cached_shard_paths(info, "train", "none") == info.shard_paths("train")


def test_missing_shards_are_added_and_finished_ones_kept(original, tmp_path):
    info = load_dataset_info(original)
    paths = cached_shard_paths(info, "train", tmp_path)
    os.remove(paths[1])
    (tmp_path / "train-00001-of-00003.tfrecord.ab.tmp").write_bytes(b"half")
    before = os.stat(paths[0]).st_mtime_ns
    assert cached_shard_paths(info, "train", tmp_path) == paths
    with open(paths[1], "rb") as copy, open(info.shard_paths("train")[1], "rb") as own:
        assert copy.read() == own.read()
    assert os.stat(paths[0]).st_mtime_ns == before


def test_stale_and_foreign_folders_are_refused(data, tmp_path):
    info = load_dataset_info(data)
    cache = tmp_path / "cache"
    cached_shard_paths(info, "train", cache)
    other = dataclasses.replace(info, class_names=[*info.class_names[:-1], "zoom"])
    with pytest.raises(InputError, match="another data set.*prepared again"):
        cached_shard_paths(other, "train", cache)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that are no cache"):
        cached_shard_paths(info, "train", foreign)
    with pytest.raises(InputError, match="is the data set itself"):
        cached_shard_paths(info, "train", data)
    with pytest.raises(InputError, match="cannot be written"):
        cached_shard_paths(info, "train", foreign / "thesis.txt" / "below")


def test_a_shard_that_changed_is_not_copied(data, tmp_path):
    info = load_dataset_info(data)
    shard = data / info.split("train").shards[1].name
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"00001.*SHA-256 differs"):
        cached_shard_paths(info, "train", cache)
    names = sorted(path.name for path in cache.iterdir())
    assert names == ["cache.json", info.split("train").shards[0].name]


def test_a_disk_too_small(data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="needs 0.0 GB more"):
        cached_shard_paths(load_dataset_info(data), "train", tmp_path / "cache")


KILLED = """
import sys
from tsi_keras.data import shard_cache
from tsi_keras.data.dataset_info import load_dataset_info

def slowly(source, target):
    if "00001" in source:
        open(target, "wb").write(open(source, "rb").read(1000))
        print("half", flush=True)
        import time; time.sleep(600)
    return copy(source, target)

copy, shard_cache._copy_bytes = shard_cache._copy_bytes, slowly
shard_cache.cached_shard_paths(load_dataset_info(sys.argv[1]), "train", sys.argv[2])
"""


def test_killed_in_the_middle_of_a_shard(original, tmp_path, repository):
    command = [sys.executable, "-c", KILLED, str(original), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=repository) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    info = load_dataset_info(original)
    expected = batches(original)
    assert len(list(tmp_path.glob("*.tfrecord"))) == 1
    found = batches(original, cache=tmp_path)
    assert len(list(tmp_path.glob("*.tfrecord"))) == len(info.shard_paths("train"))
    for batch, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(batch[0], wanted[0])
