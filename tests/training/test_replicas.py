"""One device, several replicas and several workers train the same network alike."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import _command
from tests.training import worker_training
from tests.training.comparing import assert_same_training
from tests.training.comparing import one_device
from tsi_keras.data.pipeline import make_dataset
from tsi_keras.models import VideoClassifier
from tsi_keras.training import distribution
from tsi_keras.training.config import TrainSection
from tsi_keras.training.distribution import STRATEGIES
from tsi_keras.training.distribution import Place
from tsi_keras.training.distribution import check_batch_size
from tsi_keras.training.distribution import is_chief
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.distribution import place_of
from tsi_keras.training.distribution import validation_batch_size
from tsi_keras.training.multi_worker import any_worker
from tsi_keras.training.multi_worker import distributed
from tsi_keras.training.multi_worker import from_chief
from tsi_keras.training.multi_worker import reported_worker_loss
from tsi_keras.training.multi_worker import trainable
from tsi_keras.utils.errors import InputError


def test_two_replicas_equal_one(data_dir, tmp_path):
    strategy = make_strategy("mirrored")
    found = worker_training.train(strategy, "tiny", data_dir, tmp_path)
    assert_same_training(found, one_device("tiny", data_dir))


@pytest.mark.slow
@pytest.mark.parametrize("network, replicas", [("resnet", 2), ("tiny", 4)])
def test_replicas_equal_one_device(data_dir, tmp_path, repository, network, replicas):
    target = tmp_path / "result.npz"
    module = "tests.training.worker_training"
    subprocess.run(
        [sys.executable, "-m", module, "mirrored", network, data_dir, target]
        + [str(replicas)],
        cwd=repository,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    found = worker_training.load(target)
    assert found["replicas"] == replicas
    assert_same_training(found, one_device(network, data_dir))


def test_the_reference_is_not_trivial(data_dir):
    """Everything moves; otherwise equality with it would say little."""
    found = one_device("tiny", data_dir)
    assert found["iterations"] == 10
    for name in [name for name in found if name.startswith("start ")]:
        path = name.removeprefix("start ")
        assert np.abs(found[f"weight {path}"] - found[name]).max() > 1e-4, path
    kernel = "conv1/kernel"
    assert np.abs(found[f"weight {kernel}"] - found[f"average {kernel}"]).max() > 1e-4


def evaluated(strategy, data_dir, batch_size):
    """Loss and accuracies of the seven val videos under a strategy."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = trainable(worker_training.NETWORKS["tiny"]())
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="top1")],
        )
    data = make_dataset(
        data_dir,
        "val",
        worker_training.CLIPS,
        batch_size=batch_size,
        training=False,
        fill_last=strategy.num_replicas_in_sync > 1,
    )
    return model.evaluate(data, verbose=0, return_dict=True)


@pytest.mark.parametrize("batch_size", [2, 8, 32])
def test_partial_batches_are_evaluated_exactly(data_dir, batch_size):
    """2 leaves a replica without a video; 32 is more than four times the split."""
    one = evaluated(tf.distribute.get_strategy(), data_dir, 7)
    two = evaluated(make_strategy("mirrored"), data_dir, batch_size)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    # Not a rounding error apart: ties of the best epoch would break.
    right = np.float32(round(7 * one["top1"]))
    assert two["top1"] == one["top1"] == right / np.float32(7)


def test_trainable_models_are_saved_as_they_were(tmp_path):
    with make_strategy("mirrored").scope():
        model = trainable(worker_training.NETWORKS["tiny"]())
    assert isinstance(model, VideoClassifier)
    assert type(type(model).from_config(model.get_config())) is VideoClassifier
    model = worker_training.NETWORKS["tiny"]()
    assert type(trainable(model)) is VideoClassifier


def test_strategies():
    assert make_strategy("one_device").num_replicas_in_sync == 1
    assert make_strategy("mirrored").num_replicas_in_sync == 2
    # No GPUs here: two logical CPU devices are nothing to choose by oneself.
    assert make_strategy("auto").num_replicas_in_sync == 1
    # A second strategy over the same devices would confuse TensorFlow.
    assert make_strategy("mirrored") is make_strategy("mirrored")
    with pytest.raises(ValueError, match="'gpu'"):
        make_strategy("gpu")
    options = TrainSection.model_fields["distribution"].annotation.__args__
    assert set(options) <= set(STRATEGIES)


def test_one_worker_is_no_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    strategy = make_strategy("multi_worker", ["a:1"], 0)
    assert strategy is make_strategy("auto")
    with pytest.raises(InputError, match="TF_CONFIG"):
        make_strategy("multi_worker")
    with pytest.raises(InputError, match="train.distribution=multi_worker.*'auto'"):
        make_strategy("auto", ["a:1"], 0)


def test_several_processes_do_not_train_alone_unasked(monkeypatch):
    workers = {"cluster": {"worker": ["a:1", "b:1"]}}
    task = {"task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers | task))
    with pytest.raises(InputError, match="multi_worker for the 2 workers of TF_CONFIG"):
        make_strategy("auto")
    assert make_strategy("one_device").num_replicas_in_sync == 1
    assert make_strategy("mirrored").num_replicas_in_sync == 2
    # An explicit list is stronger.
    assert make_strategy("multi_worker", ["a:1"], 0).num_replicas_in_sync == 1


def test_a_cluster_must_come_first(monkeypatch):
    """Here TensorFlow has long been used."""
    with pytest.raises(InputError, match="before TensorFlow computes anything"):
        monkeypatch.setattr(
            "tsi_keras.training.distribution.await_workers", lambda *_, **__: None
        )
        tf.zeros(1)
        make_strategy("multi_worker", ["127.0.0.1:1", "127.0.0.1:2"], 0)


def test_no_tpu_is_one_line(monkeypatch):
    """What follows on a TPU cannot be tested without one."""
    monkeypatch.setenv("TPU_NAME", "no-such-tpu.invalid")
    with pytest.raises(
        InputError, match="no TPU could be reached as 'no-such"
    ) as error:
        make_strategy("tpu")
    assert "\n" not in str(error.value)


def test_one_worker_agrees_with_itself():
    strategy = make_strategy("mirrored")
    assert place_of(strategy) == Place(0, 1) and is_chief(strategy)
    assert any_worker(strategy, True) and not any_worker(strategy, False)
    assert from_chief(strategy, lambda: "outcome") == "outcome"
    data = tf.data.Dataset.range(3)
    assert distributed(data, strategy) is data
    with pytest.raises(tf.errors.UnavailableError):
        with reported_worker_loss(strategy):
            raise tf.errors.UnavailableError(None, None, "not about workers")


@pytest.mark.parametrize("together", [True, False])
def test_one_of_several_workers_ends_at_once(monkeypatch, capsys, together):
    """Its error must not make the others wait for the clean-up of TensorFlow."""

    def fail(_):
        raise RuntimeError("own error")

    ends = []
    monkeypatch.setattr(distribution, "in_use", lambda: together)
    # Other tests in this process may have loaded what is asked besides.
    monkeypatch.setattr(_command, "_NEVER_ENDED", (distribution.__name__,))
    monkeypatch.setattr(_command, "_end_now", ends.append)
    with pytest.raises(SystemExit) as status:
        _command.exit_with(lambda _: 75)
    assert (ends, status.value.code) == ([75] * together, 75)
    with pytest.raises(SystemExit if together else RuntimeError):
        _command.exit_with(fail)
    assert ends == [75, 1] * together
    assert ("RuntimeError: own error" in capsys.readouterr().err) == together


def test_batch_must_be_shared_equally():
    check_batch_size(6, 2)
    check_batch_size(8, 2, parts=4)
    with pytest.raises(InputError, match="multiple of the 4 .* Received: 6; 8 would"):
        check_batch_size(6, 4)
    with pytest.raises(InputError, match="accumulation_steps` .4.* 12; 16 would"):
        check_batch_size(12, 2, parts=4)


@pytest.mark.parametrize(
    "videos, replicas, expected",
    [
        (3, 1, 8),
        (100, 2, 8),
        (9, 2, 6),  # twice
        (7, 2, 8),
        (5, 2, 6),
        (1, 4, 4),
        (17, 4, 8),
    ],
)
def test_validation_batches_fill_little_up(videos, replicas, expected):
    assert validation_batch_size(8, videos, replicas) == expected
