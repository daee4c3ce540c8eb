"""Accumulated gradients equal the large batch, on one, two and four replicas."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.run_replicas import difference
from tests.training.run_replicas import make_optimizer
from tests.training.run_replicas import same_everywhere
from tests.training.run_replicas import small_network
from tests.training.run_replicas import train
from tsi_keras.training.building import dtype_policy
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import ClippedAdamW
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ParameterGroup
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.schedule import StepDecay

EVERYTHING = [ParameterGroup("all", "")]
ONE_DEVICE = tf.distribute.get_strategy()


@pytest.fixture(scope="module")
def large_batch():
    """What each optimizer trains from whole batches on one device."""
    return {name: train(ONE_DEVICE, name) for name in ("sgd", "adamw")}


def test_the_reference_clips_and_moves(large_batch):
    """Otherwise equality with it would say little."""
    start = {v.path: v.numpy() for v in small_network().trainable_variables}
    for name, found in large_batch.items():
        assert found["iterations"] == 5
        moved = [np.abs(found[path] - value).max() for path, value in start.items()]
        assert min(moved) > 1e-4
        # Gradients lie on both sides of the norm, which would hide a wrong scale.
        for other in (None, 0.2):
            clipped_otherwise = train(ONE_DEVICE, name, clip_norm=other)
            assert difference(clipped_otherwise, found) > 0.003
    assert large_batch["sgd"]["learning rate"] == 0.125


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_equal_the_large_batch(large_batch, name, parts):
    found = train(ONE_DEVICE, name, parts)
    print(f"largest difference {difference(found, large_batch[name]):.2g}")
    assert difference(found, large_batch[name]) < 1e-6


@pytest.mark.parametrize("name, parts", [("sgd", 1), ("sgd", 2), ("adamw", 4)])
def test_parts_on_two_replicas_equal_the_large_batch(large_batch, name, parts):
    found = train(make_strategy("mirrored"), name, parts)
    print(f"largest difference {difference(found, large_batch[name]):.2g}")
    assert difference(found, large_batch[name]) < 1e-6


def test_norms_that_round_do_not_part_the_replicas(monkeypatch):
    """On CPUs they do differ in the last bit at times; here they always do, by more."""
    norm = tf.linalg.global_norm

    def rounded(gradients):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return norm(gradients) * (1.0 + 1e-3 * tf.cast(replica, tf.float32))

    monkeypatch.setattr(tf.linalg, "global_norm", rounded)
    train(make_strategy("mirrored"), "sgd", clip_norm=0.05)  # compares the replicas


def test_parts_on_four_replicas_equal_the_large_batch(
    large_batch, repository, tmp_path
):
    cases = ["sgd:2", "adamw:4"]
    subprocess.run(
        [sys.executable, "-m", "tests.training.run_replicas", "4", "four.npz", *cases],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        check=True,
    )
    with np.load(tmp_path / "four.npz") as file:
        results = {key.replace("|", "/"): file[key] for key in file}
    for case in cases:
        found = {
            key.removeprefix(f"{case} "): value
            for key, value in results.items()
            if key.startswith(case)
        }
        expected = large_batch[case.split(":")[0]]
        print(f"largest difference {difference(found, expected):.2g}")
        assert difference(found, expected) < 1e-6


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_half_precision_with_loss_scaling(strategy):
    """float16 sums differ with the shares; parts must not add to that."""
    with dtype_policy("mixed_float16"):
        whole = train(ONE_DEVICE, "sgd", scaled=True)
        found = train(make_strategy(strategy), "sgd", 2, scaled=True)
    assert found["iterations"] == 5
    assert difference(found, whole) < 2e-3


def gradients(variables, seed):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=v.shape), v.dtype) for v in variables]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_parts_in_between_change_nothing_but_the_sums(name):
    variables = small_network().trainable_variables
    optimizer = make_optimizer(name, accumulation_steps=3)
    optimizer.build(variables)
    own = [v.path for v in optimizer.variables if "accumulator" in v.path]
    assert len(own) == len(variables)

    def values():
        return [
            v.numpy()
            for v in (*variables, *optimizer.variables)
            if v.path not in own and v is not optimizer._iterations
        ]

    for step in range(7):
        before, rate = values(), float(optimizer.learning_rate)
        optimizer.apply(gradients(variables, step), variables)
        complete = step % 3 == 2
        equal = [(a == b).all() for a, b in zip(before, values(), strict=True)]
        assert not any(equal[: len(variables)]) if complete else all(equal)
        assert optimizer.iterations.numpy() == (step + 1) // 3
        held = [a.numpy() for a in optimizer._accumulators]
        if complete:
            assert not any(a.any() for a in held)
            # The schedule counts updates: 2 of them lower the rate.
            assert (float(optimizer.learning_rate) < rate) == (step == 5)
    for total, gradient in zip(held, gradients(variables, 6), strict=True):
        np.testing.assert_array_equal(total, gradient)


def test_variables_of_tensorflow():
    """Which have no path, and so no groups."""
    variable = tf.Variable([1.0, 2.0])
    optimizer = ClippedAdamW(0.1, accumulation_steps=2, ema_decay=0.5)
    for _ in range(2):
        np.testing.assert_array_equal(variable.numpy(), [1.0, 2.0])
        optimizer.apply([tf.ones(2)], [variable])
    (_, average), *rest = optimizer.averages()
    assert not rest
    np.testing.assert_allclose(variable.numpy(), [0.9, 1.9], atol=1e-3)
    np.testing.assert_array_equal(average.numpy(), variable.numpy())


def overflowing_batches(part):
    """Four batches of 8 in two parts; one sample overflows in a part of the second."""
    x = np.random.default_rng(3).normal(size=(32, 3)).astype("float32")
    good = np.delete(x, np.s_[8:16], axis=0)
    x[8 + 4 * part + 3] = np.inf  # seen by the last replica only
    return x, good


def linear(strategy, optimizer, x, size):
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.layers[0].set_weights([np.ones((3, 1), "float32"), np.zeros(1)])
        model.compile(optimizer(), "mse", jit_compile=False)
    model.fit(tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(size), verbose=0)
    return model


@pytest.mark.parametrize("kind", ["one_device", "mirrored"])
@pytest.mark.parametrize("part", [0, 1])
def test_overflow_leaves_out_the_whole_batch(kind, part):
    def plain(parts=1):
        rate = StepDecay(0.1, [2], 0.5)
        return GroupedSGD(rate, groups=EVERYTHING, accumulation_steps=parts)

    x, good = overflowing_batches(part)
    expected = linear(ONE_DEVICE, plain, good, 8)
    strategy = make_strategy(kind)
    model = linear(
        strategy, lambda: ReplicaLossScale(plain(2), initial_scale=1024.0), x, 4
    )
    for found, wanted in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(
            same_everywhere(strategy, found), wanted.numpy(), rtol=0, atol=1e-6
        )
    optimizer = model.optimizer
    assert optimizer.iterations.numpy() == 3
    assert optimizer.dynamic_scale.numpy() == 512.0
    for variable in optimizer.variables:
        value = same_everywhere(strategy, variable)
        assert np.isfinite(value).all()
        if "accumulator" in variable.path or "spoiled" in variable.path:
            assert not value.any()


def compiled(wrap):
    model = small_network()
    optimizer = wrap(make_optimizer("sgd", accumulation_steps=3))
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    return model


@pytest.mark.parametrize("wrap", [lambda inner: inner, ReplicaLossScale])
@pytest.mark.parametrize("file", ["state.weights.h5", "model.keras"])
def test_resumed_between_the_parts_of_a_batch(tmp_path, wrap, file):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(7, 4, 6, 6, 2)).astype("float32")
    labels = rng.integers(0, 3, (7, 4))

    def steps(model, numbers):
        for number in numbers:
            model.train_on_batch(images[number], labels[number])

    undisturbed = compiled(wrap)
    steps(undisturbed, range(7))
    interrupted = compiled(wrap)
    steps(interrupted, range(5))
    if file.endswith(".h5"):
        interrupted.save_weights(tmp_path / file)
        resumed = compiled(wrap)
        resumed.load_weights(tmp_path / file)
    else:
        interrupted.save(tmp_path / file)
        resumed = keras.saving.load_model(tmp_path / file)
    inner = getattr(resumed.optimizer, "inner_optimizer", resumed.optimizer)
    assert any(a.numpy().any() for a in inner._accumulators)
    steps(resumed, range(5, 7))
    for mine, theirs in (
        (resumed.weights, undisturbed.weights),
        (resumed.optimizer.variables, undisturbed.optimizer.variables),
    ):
        for found, expected in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert resumed.optimizer.iterations.numpy() == 2


@pytest.mark.parametrize("make", [GroupedSGD, ClippedAdamW])
def test_refuses_a_senseless_number_of_parts(make):
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"accumulation_steps={wrong}"):
            make(accumulation_steps=wrong)
