"""What is refused before a run begins, and what failures of a run tell."""

import pytest
import tensorflow as tf

from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.training import run_data
from tsi_keras.training.building import build_classifier
from tsi_keras.training.checkpoints import save_model
from tsi_keras.training.checks import common_facts
from tsi_keras.training.config import Config
from tsi_keras.training.failures import explained_failures
from tsi_keras.training.run_data import batch_ids
from tsi_keras.training.run_data import training_clips
from tsi_keras.training.run_lock import RunLock
from tsi_keras.training.trainer import train
from tsi_keras.utils.errors import InputError

CONFIG = Config.model_validate(
    {
        "model": {"temporal": "none", "depth": 18, "base_width": 4, "num_frames": 2},
        "data": {"crop_size": 32, "short_side": 36},
        "train": {"epochs": 2, "batch_size": 4, "milestones": [1]},
    }
)


@pytest.fixture
def info(data_dir):
    return load_dataset_info(data_dir)


def test_the_first_weights_may_not_lie_in_the_output(tmp_path, data_dir, info):
    """--overwrite would delete what the new run is to begin with."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("an earlier run")
    weights = run / "last.keras"
    save_model(build_classifier(CONFIG, info.class_names), weights)
    values = CONFIG.model_dump()
    values["model"]["weights"] = str(weights)
    with pytest.raises(InputError, match="contains the input .*last.keras") as error:
        train(Config.model_validate(values), data_dir, run, overwrite=True)
    assert "\n" not in str(error.value)
    assert weights.exists()


def test_one_process_at_a_time(tmp_path, data_dir):
    run = tmp_path / "run"
    run.mkdir()
    with RunLock(run) as lock:
        lock.acquire()
        for switch in ("resume", "overwrite"):
            with pytest.raises(InputError, match="run is in use by process"):
                train(CONFIG, data_dir, run, **{switch: True})
    assert not list(run.iterdir())


def test_switches_are_the_same_for_all_workers(info):
    one, other = (common_facts(CONFIG, info, resume=value) for value in (True, False))
    assert {name for name in one if one[name] != other[name]} == {"`--resume`"}
    assert {"`--data`", "versions", "`train.seed`"} <= one.keys()
    assert {"keras", "numpy", "python"} <= one["versions"].keys()


def test_too_little_memory_is_one_line(info):
    with pytest.raises(InputError) as error, explained_failures(CONFIG, info):
        tf.zeros([2**22, 2**24])
    message = str(error.value)
    assert "for a tensor with shape[4194304,16777216]; raise `train.acc" in message
    assert "lower `train.batch_size`, and start anew. Received: 1 and 4" in message
    assert "\n" not in message
    full = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
    with pytest.raises(tf.errors.ResourceExhaustedError):
        with explained_failures(CONFIG, info):
            raise full


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_of_a_batch(info, workers, capsys):
    """Several workers together read what one reads in the reproducible order."""
    values = CONFIG.model_dump()
    values["train"]["deterministic"] = workers == 1
    config = Config.model_validate(values)
    step, epoch = 1, 1
    expected = set()
    for worker in range(workers):
        shares = training_clips(
            config, info, epoch, step, with_ids=True, worker=worker, workers=workers
        )
        *_, ids = next(iter(shares))
        expected |= {name.decode() for name in ids.numpy()}
    assert set(batch_ids(config, info, epoch, step, workers)) == expected
    assert len(expected) == 4
    assert "looking up the videos of epoch 2, step 2" in capsys.readouterr().out


def test_batches_of_a_data_service_are_read_in_its_order(info, monkeypatch):
    """They are deterministic without `train.deterministic`, and so must be the look-up."""
    values = CONFIG.model_dump()
    values["data"]["service"] = "grpc://localhost:1"
    config = Config.model_validate(values)
    assert not config.train.deterministic
    asked = {}

    def noted(*args, **options):
        asked.update(options)
        return make_dataset(*args, **options)

    monkeypatch.setattr(run_data, "make_dataset", noted)
    ids = batch_ids(config, info, 1, 1)
    assert asked["deterministic"] is True
    assert asked.get("service") is None  # which may be what failed
    exact = values | {"train": values["train"] | {"deterministic": True}}
    assert ids == batch_ids(Config.model_validate(exact), info, 1, 1)
    assert run_data.reads_in_order(config, 1)
    assert not run_data.reads_in_order(CONFIG, 1)
    assert run_data.reads_in_order(CONFIG, 2)
