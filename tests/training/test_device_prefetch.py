"""Batches that wait on the device; a second logical CPU stands in for the GPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.test_trainer import CONFIG
from tsi_keras.data.dataset_info import load_dataset_info
from tsi_keras.training.device_prefetch import near_device
from tsi_keras.training.run_data import training_shares
from tsi_keras.training.run_data import validation_shares

ONE_DEVICE = tf.distribute.get_strategy()


@pytest.fixture
def one_gpu(monkeypatch):
    """A process that finds one GPU, which is the second CPU."""
    devices = tf.config.list_logical_devices("CPU")
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda kind: devices[1:] if kind == "GPU" else devices,
    )
    return devices[1].name


def test_the_batches_lie_there_and_are_the_same(one_gpu):
    data = tf.data.Dataset.range(12).batch(4)
    copied = near_device(data, ONE_DEVICE)
    assert copied.element_spec == data.element_spec
    for _ in range(2):
        found = list(copied)
        assert {batch.device for batch in found} == {
            tf.DeviceSpec.from_string(
                "/job:localhost/replica:0/task:0" + one_gpu
            ).to_string()
        }
        np.testing.assert_array_equal(tf.concat(found, 0), range(12))


def test_nothing_is_copied_without_a_gpu():
    data = tf.data.Dataset.range(12)
    assert near_device(data, ONE_DEVICE) is data


def test_several_devices_get_their_batches_from_tensorflow(one_gpu):
    data = tf.data.Dataset.range(12)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert near_device(data, strategy) is data


def test_a_run_with_one_gpu_fetches_from_there(one_gpu, data_dir):
    info = load_dataset_info(data_dir)
    frames, labels = next(iter(training_shares(CONFIG, info, ONE_DEVICE, 0, 0)))
    assert frames.device.endswith(one_gpu.removeprefix("/"))
    assert labels.device == frames.device
    # Keras needs to know how many batches of these there are.
    assert validation_shares(CONFIG, info, ONE_DEVICE).cardinality() == 2


def weights_after_fit(info) -> list[np.ndarray]:
    """Two epochs of a linear classifier, with the run's data."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    values = CONFIG.model_dump()
    values["train"]["deterministic"] = True
    config = type(CONFIG).model_validate(values)
    history = model.fit(
        training_shares(config, info, ONE_DEVICE, 0, 0),
        validation_data=validation_shares(config, info, ONE_DEVICE),
        steps_per_epoch=3,
        epochs=2,
        verbose=0,
    )
    return [*model.get_weights(), history.history["val_loss"]]


@pytest.mark.filterwarnings("error:Your input ran out of data")
def test_training_does_not_change(data_dir, request):
    info = load_dataset_info(data_dir)
    expected = weights_after_fit(info)
    request.getfixturevalue("one_gpu")
    for value, other in zip(weights_after_fit(info), expected, strict=True):
        np.testing.assert_array_equal(value, other)
