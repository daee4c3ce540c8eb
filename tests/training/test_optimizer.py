"""The optimizer against PyTorch's rule, and its clipping against replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import ClippedAdamW
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ParameterGroup
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.optimizer import tsn_groups
from tsi_keras.training.schedule import StepDecay

EVERYTHING = [ParameterGroup("all", "")]


def small_model() -> keras.Model:
    """A model with one variable of every group."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, name="body", bias_initializer="random_normal")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x))


def pytorch_step(weights, velocities, gradients, groups, rate, clip, decay=0.05):
    """`clip_grad_norm_` and `torch.optim.SGD`, momentum 0.9, in float64."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    scale = min(1.0, clip / (norm + 1e-6))
    for w, v, g, (rate_factor, decay_factor) in zip(
        weights, velocities, gradients, groups, strict=True
    ):
        v[...] = 0.9 * v + g * scale + decay_factor * decay * w
        w -= rate_factor * rate * v


def test_trajectory_is_pytorchs():
    model = small_model()
    optimizer = GroupedSGD(StepDecay(0.1, [8, 15]), weight_decay=0.05, clip_norm=2.0)
    variables = model.trainable_variables
    names = [v.path.split("/")[-2:] for v in variables]
    assert names == [
        ["body", "kernel"],
        ["body", "bias"],
        ["bn", "gamma"],
        ["bn", "beta"],
        ["classifier", "kernel"],
        ["classifier", "bias"],
    ]
    groups = [(1, 1), (2, 0), (1, 0), (1, 0), (5, 1), (10, 0)]
    weights = [v.numpy().astype("float64") for v in variables]
    velocities = [np.zeros_like(w) for w in weights]
    rng = np.random.default_rng(0)
    clipped = 0
    for step in range(20):
        size = 0.4 if step % 3 else 0.2
        gradients = [rng.normal(0, size, v.shape).astype("float32") for v in variables]
        clipped += np.sqrt(sum((g**2).sum() for g in gradients)) > 2.0
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        rate = 0.1 if step < 8 else 0.01 if step < 15 else 0.001
        pytorch_step(weights, velocities, gradients, groups, rate, clip=2.0)
        for variable, expected in zip(variables, weights, strict=True):
            np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=2e-6)
    assert 0 < clipped < 20


def one_step(strategy, optimizer, x):
    """A linear model's weights after one step on `x` with targets 0."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.layers[0].set_weights([np.ones((3, 1), "float32"), np.zeros(1)])
        model.compile(optimizer(), "mse")
    model.fit(tf.data.Dataset.from_tensor_slices((x, x[:, :1] * 0)).batch(4), verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.fixture
def two_replicas():
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


def test_clips_after_the_sum_over_replicas(two_replicas):
    x = np.array([[100, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], "float32")
    ours = lambda: GroupedSGD(1.0, clip_norm=1.0, groups=EVERYTHING)  # noqa: E731
    keras_own = lambda: keras.optimizers.SGD(1.0, global_clipnorm=1.0)  # noqa: E731
    one = one_step(tf.distribute.get_strategy(), ours, x)
    two = one_step(two_replicas, ours, x)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
    # The reason for our class; when this fails, Keras has changed.
    one = one_step(tf.distribute.get_strategy(), keras_own, x)
    assert np.abs(one - one_step(two_replicas, keras_own, x)).max() > 0.1


def test_adamw_clips_after_the_sum_over_replicas(two_replicas):
    """Adam hides a common scale in its first step, so both clip to below its epsilon."""
    x = np.array([[100, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], "float32")
    ours = lambda: ClippedAdamW(1.0, 0.0, 1e-2, epsilon=1e-2)  # noqa: E731
    keras_own = lambda: keras.optimizers.AdamW(  # noqa: E731
        1.0, 0.0, epsilon=1e-2, global_clipnorm=1e-2
    )
    one = one_step(tf.distribute.get_strategy(), ours, x)
    np.testing.assert_allclose(one, one_step(two_replicas, ours, x), atol=1e-6)
    one = one_step(tf.distribute.get_strategy(), keras_own, x)
    assert np.abs(one - one_step(two_replicas, keras_own, x)).max() > 0.01


def test_adamw_equals_keras_without_clipping_and_spares_biases():
    rng = np.random.default_rng(0)
    results = []
    for make in (ClippedAdamW, keras.optimizers.AdamW):
        weights = [
            keras.Variable(np.ones((2, 3), "float32"), name="kernel"),
            keras.Variable(np.ones(3, "float32"), name="bias"),
        ]
        clip = {"clip_norm": None} if make is ClippedAdamW else {}
        optimizer = make(0.1, weight_decay=0.5, **clip)
        if make is keras.optimizers.AdamW:
            optimizer.exclude_from_weight_decay(var_list=[weights[1]])
        for seed in range(3):
            rng = np.random.default_rng(seed)
            gradients = [
                tf.constant(rng.normal(size=w.shape), "float32") for w in weights
            ]
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
        results.append([w.numpy() for w in weights])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_overflow_on_any_replica_skips_the_step(two_replicas):
    x = np.ones((4, 3), "float32")
    x[3] = np.inf
    optimizers = []

    def scaled():
        inner = GroupedSGD(0.1, groups=EVERYTHING)
        optimizers.append(ReplicaLossScale(inner, initial_scale=1024.0))
        return optimizers[-1]

    weights = one_step(two_replicas, scaled, x)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])
    assert optimizers[0].dynamic_scale.numpy() == 512.0
    assert optimizers[0].iterations.numpy() == 0


def test_loss_scale_does_not_change_the_step(two_replicas):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    plain = lambda: GroupedSGD(0.1, clip_norm=0.5, groups=EVERYTHING)  # noqa: E731
    scaled = lambda: ReplicaLossScale(plain())  # noqa: E731
    expected = one_step(tf.distribute.get_strategy(), plain, x)
    np.testing.assert_allclose(one_step(two_replicas, scaled, x), expected, atol=1e-6)


def test_serialization_keeps_everything():
    optimizer = GroupedSGD(StepDecay(0.5, [3], 0.2), 0.8, 1e-3, None, tsn_groups("top"))
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.get_config() == optimizer.get_config()
    assert restored.groups[0]["pattern"] == r"(^|/)top/kernel$"


def test_saved_with_a_compiled_model(tmp_path):
    model = small_model()
    model.compile(GroupedSGD(0.1), "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 3)), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert restored.optimizer.iterations.numpy() == 2
    for ours, theirs in zip(
        model.optimizer.variables, restored.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_adamw_is_serializable():
    optimizer = ClippedAdamW(StepDecay(0.5, [3], 0.2), 1e-3, 2.0)
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.get_config() == optimizer.get_config()


def test_missing_head_is_an_error():
    optimizer = GroupedSGD(groups=tsn_groups("predictions"))
    with pytest.raises(ValueError, match="predictions"):
        optimizer.build(small_model().trainable_variables)


def test_variable_without_group_is_an_error():
    optimizer = GroupedSGD(groups=[ParameterGroup("biases", "bias$")])
    with pytest.raises(ValueError, match="body/kernel"):
        optimizer.build(small_model().trainable_variables)


def test_refuses_a_senseless_clip_norm():
    with pytest.raises(ValueError, match="clip_norm=0"):
        GroupedSGD(clip_norm=0)
