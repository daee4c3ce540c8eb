"""The benchmark of the input pipeline; no figure is asserted, only what it is made of."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from pipelines._command import run
from pipelines.benchmark import main
from tsi_keras.data import benchmark_input as measured
from tsi_keras.data.benchmark_input import BARE
from tsi_keras.data.benchmark_input import benchmark_input
from tsi_keras.data.benchmark_input import describe_wait_for_data
from tsi_keras.data.benchmark_records import BenchmarkRecords
from tsi_keras.data.benchmark_records import write_benchmark_records
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.records import parse_record
from tsi_keras.utils.errors import InputError

RECORDS = BenchmarkRecords(
    num_videos=6, num_frames=8, width=48, height=36, num_shards=2
)
SMALL = ClipOptions(num_frames=2, crop_size=16, short_side=24)
CONFIG = """
model: {depth: 18, base_width: 4, num_frames: 2, temporal: none}
data: {crop_size: 16, short_side: 24}
train: {batch_size: 2}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_benchmark_records(tmp_path_factory.mktemp("data"), RECORDS)


def test_records_are_a_data_set_and_repeatable(data, tmp_path):
    info = load_dataset_info(data)
    again = load_dataset_info(write_benchmark_records(tmp_path, RECORDS))
    assert info.fingerprint == again.fingerprint
    assert info.split("train").num_videos == 6 and len(info.class_names) == 14
    records = [
        parse_record(record)
        for record in tf.data.TFRecordDataset(info.shard_paths("train"))
    ]
    assert len({record["id"].numpy() for record in records}) == 6
    for record in records:
        name = info.class_names[int(record["label"])]
        assert record["class_name"].numpy().decode() == name
        assert record["frames"].shape == (8,)
        assert tf.io.decode_jpeg(record["frames"][7]).shape == (36, 48, 3)


def test_grain_makes_files_larger(tmp_path):
    sizes = []
    for grain in (0.0, 12.0):
        folder = tmp_path / str(grain)
        folder.mkdir()
        options = BenchmarkRecords(1, 8, 64, 48, num_shards=1, grain=grain)
        write_benchmark_records(folder, options)
        sizes.append(sum(path.stat().st_size for path in folder.glob("*.tfrecord")))
    assert sizes[1] > 1.1 * sizes[0]


@pytest.mark.parametrize("arguments", [{"num_videos": 0}, {"grain": -1.0}])
def test_impossible_records(arguments):
    with pytest.raises(InputError, match=f"`{next(iter(arguments))}`.*Received"):
        BenchmarkRecords(**arguments)


def test_every_step_is_measured(data):
    speed = benchmark_input(data, SMALL, batch_size=2, seconds=0.01, repeats=2)
    assert [step.step for step in speed.steps][:5] == [
        BARE, "read", "parse", "decode", "augment",
    ]  # fmt: skip
    assert all(step.slowest <= step.fastest for step in speed.steps)
    assert speed.steps[0].share is None
    assert sum(step.share for step in speed.steps[1:]) == pytest.approx(1)
    assert speed.ratio > 0 and 500 < speed.frame_bytes < 5000


def test_what_is_measured_is_what_it_says(data):
    """The bare frames are stored frames, and decoding gives the region that is drawn."""
    info = load_dataset_info(data)
    stored = {
        jpeg
        for record in tf.data.TFRecordDataset(info.shard_paths("train"))
        for jpeg in parse_record(record)["frames"].numpy()
    }
    shuffle = measured._shuffle(info, "train", SMALL, 4, "none")
    videos = measured.repeated_epochs(shuffle, 0, 1, 0, 0)
    frames, _ = measured._some_frames(videos, 6)
    assert frames.shape == (6, 2) and set(frames.ravel()) <= stored
    lengths = np.concatenate([*measured._records(shuffle).take(1).as_numpy_iterator()])
    wanted = [
        len(record.numpy())
        for record in tf.data.TFRecordDataset(info.shard_paths("train"))
    ]
    assert sorted(lengths[:6]) == sorted(wanted)


def test_shares_are_what_steps_add():
    speeds = {
        BARE: [200.0, 210.0, 190.0],
        "read": [1000.0, 900.0, 5000.0],
        "parse": [500.0, 500.0, 500.0],
        "decode": [125.0, 130.0, 100.0],
        "augment": [100.0, 100.0, 99.0],
    }
    rows = {
        name: np.array([(value, 1000 / value) for value in values])
        for name, values in speeds.items()
    }
    summary = measured._summary(rows, 1.0)
    shares = [step.share for step in summary.steps]
    np.testing.assert_allclose(shares[1:], [0.1, 0.1, 0.6, 0.2])
    assert summary.clips_per_second == 100
    assert summary.ratio == pytest.approx(0.5)
    assert (summary.steps[1].slowest, summary.steps[1].fastest) == (900, 5000)


@pytest.mark.parametrize(
    ("available", "verdict"),
    [(121.0, "will not wait"), (110.0, "at times"), (40.0, "about 60% of the time")],
)
def test_the_verdict(available, verdict):
    assert verdict in describe_wait_for_data(available, 100.0)


@pytest.mark.parametrize("place", ["host", "device"])
def test_the_whole_pipeline_is_measured(data, monkeypatch, place):
    taken = []

    def take(elements, use, seconds):
        element = next(elements)
        taken.append(tf.nest.map_structure(lambda value: value.shape, element))
        return 1, 1.0

    monkeypatch.setattr(measured, "_take", take)
    clips = replace(SMALL, resize_on=place)
    benchmark_input(data, clips, batch_size=2, seconds=0.01, repeats=1)
    crops = {"crops": (2, 2, 20, 20, 3), "sides": (2, 2)}
    frames = (2, 2, 16, 16, 3) if place == "host" else crops
    assert (frames, (2,)) in taken


@pytest.mark.parametrize("arguments", [{"seconds": 0.0}, {"repeats": 0}])
def test_impossible_measurements(data, arguments):
    with pytest.raises(InputError, match=f"`{next(iter(arguments))}`.*Received"):
        benchmark_input(data, SMALL, **arguments)


def test_the_command(data, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(CONFIG)
    quick = ["data", "--config", str(tmp_path / "recipe.yaml"), "--seconds", "0.01"]
    quick += ["--repeats", "1", "--data", str(data)]
    output = ["--output", str(tmp_path / "out")]
    assert run(main, [*quick, *output, "--measure-training"]) == 0
    printed = capsys.readouterr().out
    assert "the training takes" in printed and "of tf.io.decode_jpeg alone" in printed
    with open(tmp_path / "out" / "input_pipeline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows][:2] == [BARE, "read"]
    content = json.loads((tmp_path / "out" / "input_pipeline.json").read_text())
    assert content["cores"] >= 1 and content["needed_clips_per_second"]["host"] > 0
    assert len(content["rows"]) == len(rows)
    assert run(main, [*quick, *output]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_both_places_of_the_resizing_are_measured(data, tmp_path, capsys):
    quick = ["data", "--data", str(data), "--seconds", "0.01", "--repeats", "1"]
    quick += ["--output", str(tmp_path / "out")]
    (tmp_path / "recipe.yaml").write_text(CONFIG)
    quick += ["--config", str(tmp_path / "recipe.yaml")]
    both = ["--resize-on", "host", "device", "--measure-training"]
    assert run(main, [*quick, *both]) == 0
    with open(tmp_path / "out" / "input_pipeline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert capsys.readouterr().out.count("the training takes") == 2
    places = [row["resize_on"] for row in rows]
    assert places == ["host"] * 5 + ["device"] * 5
    earlier = (tmp_path / "out" / "input_pipeline.csv").read_bytes()
    assert run(main, [*quick, "--overwrite", "--resize-on", "moon"]) == 2
    assert (tmp_path / "out" / "input_pipeline.csv").read_bytes() == earlier


def test_keys_of_the_configuration_can_be_changed(data, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(CONFIG)
    command = ["data", "--data", str(data), "--seconds", "0.01", "--repeats", "1"]
    changed = [*command, "--config", str(tmp_path / "recipe.yaml")]
    assert run(main, [*changed, "--data.crop_size=9999"]) == 2
    assert "9999" in capsys.readouterr().err
    assert run(main, [*changed, "--data.crop_size=24"]) == 0
    assert run(main, [*command, "--data.crop_size=24"]) == 2
    assert "benchmark data --config FILE" in capsys.readouterr().err
    assert run(main, [*changed, "--junk"]) == 2


def test_speed_of_an_earlier_training(data, tmp_path, capsys):
    (tmp_path / "log.csv").write_text(
        "epoch,clips_per_second,data_wait\n0,10.0,0.5\n1,30.0,0.0\n2,16.0,0.2\n"
    )
    command = ["data", "--data", str(data), "--seconds", "0.01", "--repeats", "1"]
    (tmp_path / "recipe.yaml").write_text(CONFIG)
    command += ["--config", str(tmp_path / "recipe.yaml")]
    assert run(main, [*command, "--run", str(tmp_path)]) == 0
    assert "the training takes 20:" in " ".join(capsys.readouterr().out.split())
    assert run(main, [*command, "--run", str(data)]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["data"],
        ["data", "--data", "nowhere"],
        ["data", "--data", "x", "--synthetic"],
        ["data", "--synthetic", "--measure-training"],
        ["data", "--data", "x", "--run", "y", "--clips-per-second", "3"],
    ],
)
def test_wrong_commands(arguments, capsys):
    try:
        status = run(main, arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert len(capsys.readouterr().err.strip().splitlines()) <= 2
