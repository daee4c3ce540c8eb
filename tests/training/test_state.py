"""The state of a run on disk: all of it, whole or not there, and refused when damaged."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.training import state as states
from tsi_keras.training import whole_files
from tsi_keras.training.checkpoints import SaveModels
from tsi_keras.training.checkpoints import SaveState
from tsi_keras.training.checkpoints import save_model
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import ClippedAdamW
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.state import latest_state
from tsi_keras.training.state import load_state
from tsi_keras.training.state import restore_state
from tsi_keras.training.state import take_state
from tsi_keras.training.whole_files import whole_file
from tsi_keras.utils.errors import InputError

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")

OPTIMIZERS = {
    "sgd": lambda: GroupedSGD(0.1),
    "accumulated": lambda: GroupedSGD(0.1, accumulation_steps=2, ema_decay=0.9),
    "adamw": lambda: ClippedAdamW(0.1),
    "loss_scale": lambda: ReplicaLossScale(GroupedSGD(0.1)),
}


def small_model(optimizer=None, units=4, strategy=None):
    """A compiled model with everything that has a state."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        inputs = keras.Input((4,))
        x = keras.layers.Dense(units)(inputs)
        x = keras.layers.BatchNormalization(synchronized=True)(x)
        x = keras.layers.Dropout(0.5)(x)
        outputs = keras.layers.Dense(2, name="classifier")(x)
        model = keras.Model(inputs, outputs)
        metrics = [keras.metrics.MeanAbsoluteError(name="error")]
        model.compile(optimizer or GroupedSGD(0.1), "mse", metrics=metrics)
        model.optimizer.build(model.trainable_variables)
    return model


def trained(*args, **options):
    """A model after three steps, the metrics of which are in it."""
    model = small_model(*args, **options)
    model.fit(X, X[:, :2], batch_size=4, verbose=0)
    return model


def saved(model, folder, epoch=0, step=3):
    return take_state(model, epoch, step).save(folder)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_variables_come_back(tmp_path, name):
    model = trained(OPTIMIZERS[name]())
    file = saved(model, tmp_path)
    other = trained(OPTIMIZERS[name]())
    restore_state(other, load_state(file))
    for group in ("variables", "metrics_variables"):
        same_values(getattr(model, group), getattr(other, group))
    same_values(model.optimizer.variables, other.optimizer.variables)
    kinds = {variable.name for variable in model.variables}
    assert {"seed_generator_state", "moving_mean"} <= kinds


def same_values(one, other):
    assert len(one) == len(other)
    for expected, found in zip(one, other, strict=True):
        np.testing.assert_array_equal(expected.numpy(), found.numpy())


def test_metrics_that_are_not_built_yet_are_left_out(tmp_path):
    model = trained()
    other = small_model()
    restore_state(other, load_state(saved(model, tmp_path)))
    assert len(other.metrics_variables) == 2
    same_values(model.metrics_variables[:2], other.metrics_variables)


def test_optimizer_is_built_before_the_values_come(tmp_path):
    model = trained("adam")
    file = saved(model, tmp_path)
    other = keras.Model.from_config(model.get_config())
    other.compile("adam", "mse", metrics=["mae"])
    assert not other.optimizer.built
    restore_state(other, load_state(file))
    same_values(model.optimizer.variables, other.optimizer.variables)


def replica_values(model):
    """Every replica's copy of the metrics."""
    strategy = model.distribute_strategy
    return [
        [float(copy) for copy in strategy.experimental_local_results(variable.value)]
        for variable in model.metrics_variables
    ]


def test_replicas_get_their_own_copies(tmp_path):
    strategy = make_strategy("mirrored")
    model = trained(strategy=strategy)
    before = replica_values(model)
    assert len(before[0]) == 2 and before[0][0] != before[0][1]
    file = saved(model, tmp_path)
    other = trained(strategy=strategy)
    restore_state(other, load_state(file))
    assert replica_values(other) == before
    for group in ("variables", "metrics_variables"):
        same_values(getattr(model, group), getattr(other, group))
    same_values(model.optimizer.variables, other.optimizer.variables)

    # On another number of devices the sums stay what they were.
    single = trained()
    restore_state(single, load_state(file))
    same_values(model.variables, single.variables)
    for copies, variable in zip(before, single.metrics_variables, strict=True):
        assert variable.numpy() == np.float32(copies[0]) + np.float32(copies[1])
    restore_state(other, load_state(saved(single, tmp_path / "single")))
    assert replica_values(other) == [
        [float(variable.numpy()), 0.0] for variable in single.metrics_variables
    ]


def test_newest_state(tmp_path):
    assert latest_state(tmp_path / "nowhere") is None
    moments = [(0, 9), (1, 0), (1, 9), (1, 10), (0, 11)]
    for epoch, step in moments:
        (tmp_path / f"epoch-{epoch:05d}-step-{step:07d}.npz").touch()
        (tmp_path / f".writing-epoch-{epoch + 9:05d}-step-{step:07d}.npz").touch()
    assert latest_state(tmp_path)[1:] == (1, 10)


def test_older_states_and_leftovers_go(tmp_path):
    model = trained()
    saved(model, tmp_path, 0, 3)
    (tmp_path / ".writing-epoch-00000-step-0000009.npz").touch()
    (tmp_path / "notes.txt").touch()
    file = saved(model, tmp_path, 1, 0)
    assert {path.name for path in tmp_path.iterdir()} == {file.path.name, "notes.txt"}


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "other": lambda content: b"no state at all",
    # A bit in the midst of the weights, which only a checksum can see.
    "flipped": lambda content: (
        content[: len(content) // 2]
        + bytes([content[len(content) // 2] ^ 1])
        + content[len(content) // 2 + 1 :]
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_state_is_one_line(tmp_path, name):
    # So large that the middle of the file is a weight.
    file = saved(small_model(units=5000), tmp_path)
    file.path.write_bytes(DAMAGES[name](file.path.read_bytes()))
    with pytest.raises(InputError, match="step-0000003.* cannot be read: .") as error:
        load_state(file)
    assert "\n" not in str(error.value)


def test_damaged_state_names_the_last_model(tmp_path):
    file = saved(trained(), tmp_path / "backup")
    file.path.write_bytes(b"")
    with pytest.raises(InputError, match="start anew with --overwrite.$"):
        load_state(file)
    model = tmp_path / "last.keras"
    model.touch()
    with pytest.raises(InputError, match=f"--model.weights={model} ") as error:
        load_state(file)
    assert "another --output" in str(error.value) and "\n" not in str(error.value)


def test_state_of_another_network(tmp_path):
    file = saved(trained(), tmp_path)
    with pytest.raises(
        InputError, match=r"does not fit .* \(\(4, 4\) float32 s"
    ) as error:
        restore_state(small_model(units=5), load_state(file))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="does not fit"):
        restore_state(small_model(ClippedAdamW()), load_state(file))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_finite(value):
    model = trained()
    assert take_state(model, 0, 1).is_finite()
    model.metrics_variables[0].assign(value)
    assert take_state(model, 0, 1).is_finite()
    velocity = model.optimizer.variables[-1]
    velocity.assign(np.full(velocity.shape, value, "float32"))
    assert not take_state(model, 0, 1).is_finite()


# What the disk does not take.


@contextmanager
def largest_file(size):
    """No file of this process can grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "state": lambda model, path: take_state(model, 1, 0).save(path.parent),
    "model": save_model,
    "models": lambda model, path: started(SaveModels(path), model).on_epoch_end(0, {}),
    "callback": lambda model, path: started(SaveState(path.parent), model).on_epoch_end(
        0
    ),
}


def started(callback, model):
    callback.set_model(model)
    callback.set_params({"steps": 3, "epochs": 2})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_leaves_what_was_there(tmp_path, name):
    model = small_model(units=5000)
    old = saved(model, tmp_path, 0, 3)
    save_model(model, tmp_path / "last.keras")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with largest_file(30_000), pytest.raises(InputError) as error:
        WRITERS[name](model, tmp_path / "last.keras")
    message = str(error.value)
    assert "cannot be written: File too large; make room there (" in message
    assert "GB are free), then go on with --resume" in message
    assert "\n" not in message
    assert str(tmp_path) in message and (".npz" in message or ".keras" in message)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_state(old).arrays


def test_no_space_left(tmp_path, monkeypatch):
    old = saved(trained(), tmp_path, 0, 3)

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_files, "flush_file", full)
    with pytest.raises(InputError, match="step-0000000.npz cannot .*: No space left"):
        saved(trained(), tmp_path, 1, 0)
    assert latest_state(tmp_path) == old


def test_place_that_is_not_writable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory; make that place writable"):
        saved(trained(), tmp_path / "file" / "backup")


def test_errors_of_other_kinds_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


WRITE_FOR_EVER = """
import itertools, sys
from tsi_keras.training.whole_files import whole_file

for number in itertools.count():
    with whole_file(sys.argv[1]) as path, open(path, "wb") as file:
        for _ in range(100):
            file.write(bytes([number % 256]) * 10_000)
"""


def test_killed_writer_leaves_a_whole_file(tmp_path, repository):
    target = tmp_path / "file"
    rng = np.random.default_rng()
    cut_off = 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(target)]
        begin = target.stat().st_ino if target.exists() else None
        with subprocess.Popen(command, cwd=repository) as process:
            while not target.exists() or target.stat().st_ino == begin:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        content = target.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1
        cut_off += len(list(tmp_path.iterdir())) > 1
        whole_files.remove_unfinished(tmp_path)
        assert list(tmp_path.iterdir()) == [target]
    # Otherwise the kills came when nothing was written.
    assert cut_off


def test_state_is_renamed_only_when_on_disk(tmp_path, monkeypatch):
    """The order that survives a power cut: bytes, name, folder, and then the old one."""
    model = trained()
    saved(model, tmp_path, 0, 3)
    events = []

    def record(module, name):
        function = getattr(module, name)

        def recorder(*args):
            events.append((name, len(list(tmp_path.glob("epoch-*")))))
            return function(*args)

        monkeypatch.setattr(module, name, recorder)

    record(whole_files, "flush_file")
    record(whole_files.os, "replace")
    record(whole_files, "flush_folder")
    record(states, "keep_only")
    saved(model, tmp_path, 1, 0)
    names = ["flush_file", "replace", "flush_folder", "keep_only"]
    assert events == list(zip(names, [1, 1, 2, 2], strict=True))
