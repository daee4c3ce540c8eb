"""Averaged weights: their values, their use in evaluation, and the raw ones after it.

That replicas agree in them is tested in test_accumulation.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.run_replicas import make_optimizer
from tests.training.run_replicas import same_everywhere
from tests.training.run_replicas import small_network
from tsi_keras.training.averaging import EvaluateAverages
from tsi_keras.training.averaging import averaged_weights
from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale

DECAY = 0.8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = RNG.integers(0, 3, 24)


@pytest.mark.parametrize("name, parts", [("sgd", 1), ("sgd", 2), ("adamw", 2)])
def test_averages_are_numpys(name, parts):
    variables = small_network().trainable_variables
    optimizer = make_optimizer(name, accumulation_steps=parts, ema_decay=DECAY)
    optimizer.build(variables)
    assert optimizer.averages() == []
    expected = None
    for step in range(6 * parts):
        rng = np.random.default_rng(step)
        gradients = [tf.constant(rng.normal(size=v.shape), v.dtype) for v in variables]
        optimizer.apply(gradients, variables)
        if (step + 1) % parts:
            continue
        weights = [v.numpy().astype("float64") for v in variables]
        if expected is None:
            expected = weights
        expected = [
            DECAY * a + (1 - DECAY) * w for a, w in zip(expected, weights, strict=True)
        ]
        for (_, average), wanted in zip(optimizer.averages(), expected, strict=True):
            np.testing.assert_allclose(average.numpy(), wanted, rtol=0, atol=1e-6)
    apart = [np.abs(v.numpy() - a.numpy()).max() for v, a in optimizer.averages()]
    assert min(apart) > 1e-3


def normalized_model(ema_decay=DECAY, wrap=lambda inner: inner):
    """Compiled, with BatchNormalization, always from the same weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, name="body")(inputs)
    x = keras.layers.BatchNormalization(name="norm", momentum=0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x))
    optimizer = wrap(GroupedSGD(0.5, ema_decay=ema_decay))
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    return model


def fit(model, *callbacks, epochs=2):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    history = model.fit(
        data, validation_data=data, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return history.history


class Snapshots(keras.callbacks.Callback):
    """All values at the end of every epoch, raw and inside `averaged_weights`."""

    def __init__(self):
        super().__init__()
        self.raw, self.averaged = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.raw.append(self.model.get_weights())
        with averaged_weights(self.model):
            self.averaged.append(self.model.get_weights())


@pytest.mark.parametrize("wrap", [lambda inner: inner, ReplicaLossScale])
def test_validation_sees_the_averages_and_training_the_raw_weights(wrap):
    plain, snapshots = normalized_model(ema_decay=None, wrap=wrap), Snapshots()
    expected = fit(plain)
    model = normalized_model(wrap=wrap)
    history = fit(model, EvaluateAverages(), snapshots)
    # Training is what it is without averages, to the bit.
    assert history["loss"] == expected["loss"]
    for raw, wanted in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(raw, wanted)
    # Validation is that of a model with the averages.
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    for epoch, weights in enumerate(snapshots.averaged):
        plain.set_weights(weights)
        assert plain.evaluate(data, verbose=0) == history["val_loss"][epoch]
    assert not np.isclose(history["val_loss"], expected["val_loss"], rtol=1e-3).any()


def test_moving_statistics_are_taken_as_they_are():
    model, snapshots = normalized_model(), Snapshots()
    fit(model, snapshots)
    names = [v.name for v in model.weights]
    for name, raw, averaged in zip(
        names, snapshots.raw[-1], snapshots.averaged[-1], strict=True
    ):
        assert (raw == averaged).all() == (name in ("moving_mean", "moving_variance"))


def test_weights_are_exchanged_on_every_replica():
    strategy = make_strategy("mirrored")
    with strategy.scope():
        model = small_network()
        model.compile(make_optimizer("sgd"), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6, 6, 2)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x[:, 0, 0, :1])).batch(4)
    averaging = EvaluateAverages()
    model.fit(data, validation_data=data, verbose=0, callbacks=[averaging])
    pairs = model.optimizer.averages()
    raw = [same_everywhere(strategy, v) for v, _ in pairs]
    with pytest.raises(RuntimeError, match="in between"), averaged_weights(model):
        for variable, average in pairs:
            found = same_everywhere(strategy, variable)
            np.testing.assert_array_equal(found, same_everywhere(strategy, average))
        raise RuntimeError("in between")
    for (variable, average), before in zip(pairs, raw, strict=True):
        np.testing.assert_array_equal(same_everywhere(strategy, variable), before)
        assert (average.numpy() != before).any()


def test_nothing_happens_without_averages():
    for model in (normalized_model(ema_decay=None), normalized_model()):
        before = model.get_weights()
        with averaged_weights(model):
            for now, value in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(now, value)
    assert model.optimizer.averages() == []  # no update yet
    uncompiled = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with averaged_weights(uncompiled):
        pass


def test_a_failed_evaluation_can_be_cleared_up():
    model, averaging = normalized_model(), EvaluateAverages()
    fit(model, averaging, epochs=1)
    raw = model.get_weights()
    averaging.on_test_begin()
    assert any((a != b).any() for a, b in zip(model.get_weights(), raw, strict=True))
    averaging.on_test_begin()  # begun twice, as after an exception
    averaging.close()
    for found, expected in zip(model.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wrap", [lambda inner: inner, ReplicaLossScale])
def test_averages_are_part_of_the_saved_state(tmp_path, wrap):
    undisturbed = normalized_model(wrap=wrap)
    fit(undisturbed, EvaluateAverages(), epochs=4)
    model = normalized_model(wrap=wrap)
    fit(model, EvaluateAverages(), epochs=2)
    model.save_weights(tmp_path / "state.weights.h5")
    resumed = normalized_model(wrap=wrap)
    resumed.load_weights(tmp_path / "state.weights.h5")
    fit(resumed, EvaluateAverages(), epochs=2)
    for found, expected in zip(
        resumed.optimizer.variables, undisturbed.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    with averaged_weights(resumed), averaged_weights(undisturbed):
        for found, expected in zip(resumed.weights, undisturbed.weights, strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_keras_own_exchange_rounds():
    """The reason for our callback; when this fails, Keras has changed."""
    model = normalized_model()
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=DECAY)
    model.compile(optimizer, model.loss, jit_compile=False)
    for part in range(3):  # `fit` would end by writing the averages over the weights
        model.train_on_batch(X[8 * part :][:8], Y[8 * part :][:8])
    raw = model.get_weights()
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    swap.on_test_end()
    assert any((a != b).any() for a, b in zip(model.get_weights(), raw, strict=True))


def test_refuses_a_senseless_decay():
    for wrong in (0, 1, 1.5):
        with pytest.raises(ValueError, match=f"ema_decay={wrong}"):
            GroupedSGD(ema_decay=wrong)
