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
    """A model with one variable of every group but the first convolution's."""
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


def convolutional_model():
    """Variables of every group; strides and padding as PyTorch's defaults."""
    inputs = keras.Input((6, 6, 2))
    # tanh: BatchNormalization right behind it would take conv1's bias off again.
    x = keras.layers.Conv2D(3, 3, name="conv1", activation="tanh")(inputs)
    x = keras.layers.BatchNormalization(name="bn1", epsilon=1e-5)(x)
    x = keras.layers.Conv2D(4, 3, name="conv2", activation="tanh")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x))


def pytorch_model(torch, weights):
    """The same network with the same weights, by Keras' names."""
    nn = torch.nn
    layers = {
        "conv1": nn.Conv2d(2, 3, 3),
        "bn1": nn.BatchNorm2d(3),
        "conv2": nn.Conv2d(3, 4, 3),
        "classifier": nn.Linear(4, 3),
    }
    parameters = {}
    for layer, module in layers.items():
        module.double()
        other = ("gamma", "beta") if layer == "bn1" else ("kernel", "bias")
        for name, parameter in zip(other, module.parameters(), strict=True):
            parameters[f"{layer}/{name}"] = parameter
            value = torch.from_numpy(pytorch_order(weights[f"{layer}/{name}"]))
            parameter.data.copy_(value)

    def forward(images):
        x = layers["bn1"](torch.tanh(layers["conv1"](images.permute(0, 3, 1, 2))))
        x = torch.tanh(layers["conv2"](x)).mean((2, 3))
        return layers["classifier"](x)

    return forward, parameters


def pytorch_order(array):
    """Keras puts the output channels last, PyTorch first."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


# As get_optim_policies of TSM and TEA: factors on learning rate and decay.
POLICIES = {
    "conv1/kernel": (1, 1),
    "conv1/bias": (2, 0),
    "bn1/gamma": (1, 0),
    "bn1/beta": (1, 0),
    "conv2/kernel": (1, 1),
    "conv2/bias": (2, 0),
    "classifier/kernel": (5, 1),
    "classifier/bias": (10, 0),
}


def train_with_pytorch(torch, weights, images, labels):
    """50 steps; the weights, and in how many of the steps the gradient was clipped."""
    forward, parameters = pytorch_model(torch, weights)
    rate, decay, clipped = 0.0625, 0.03125, 0
    optimizer = torch.optim.SGD(
        [
            {"params": [p], "lr": a * rate, "weight_decay": b * decay}
            for p, (a, b) in zip(parameters.values(), POLICIES.values(), strict=True)
        ],
        momentum=0.9,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [20, 35], gamma=0.5)
    for x, y in zip(images, labels, strict=True):
        logits = forward(torch.from_numpy(x))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
        clipped += torch.nn.utils.clip_grad_norm_(parameters.values(), 0.5) > 0.5
        optimizer.step()
        schedule.step()
    return {name: p.detach().numpy() for name, p in parameters.items()}, int(clipped)


def test_training_equals_pytorchs():
    """A network trained by both for 50 steps in float64, from its own gradients."""
    torch = pytest.importorskip("torch")
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    try:
        model = convolutional_model()
        # Exact in float32 too, in which schedules compute.
        optimizer = GroupedSGD(
            StepDecay(0.0625, [20, 35], 0.5), 0.9, 0.03125, clip_norm=0.5
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=False)
        rng = np.random.default_rng(0)
        images, labels = rng.normal(size=(50, 8, 6, 6, 2)), rng.integers(0, 3, (50, 8))
        start = {v.path: v.numpy() for v in model.trainable_variables}
        assert list(start) == list(POLICIES)
        expected, clipped = train_with_pytorch(torch, start, images, labels)
        data = tf.data.Dataset.from_tensor_slices((images, labels))
        model.fit(data, verbose=0)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert 5 < clipped < 45
    found = {v.path: pytorch_order(v.numpy()) for v in model.trainable_variables}
    worst = max(np.abs(found[name] - expected[name]).max() for name in expected)
    print(f"clipped {clipped} of 50, largest difference {worst:.2g}")
    assert worst < 1e-10
    for name, value in start.items():
        assert np.abs(pytorch_order(value) - expected[name]).max() > 1e-3, name


def test_groups_of_a_network_with_their_rates():
    variables = convolutional_model().trainable_variables
    optimizer = GroupedSGD(StepDecay(0.5, [1], 0.1))
    optimizer.build(variables)
    names = {
        "head weights": ["classifier/kernel"],
        "head biases": ["classifier/bias"],
        "first convolution weights": ["conv1/kernel"],
        "first convolution biases": ["conv1/bias"],
        "normalisation": ["bn1/gamma", "bn1/beta"],
        "biases": ["conv2/bias"],
        "weights": ["conv2/kernel"],
    }
    assert optimizer.variables_by_group() == names
    rates = dict(zip(names, [2.5, 5.0, 0.5, 1.0, 0.5, 1.0, 0.5], strict=True))
    assert optimizer.learning_rates() == pytest.approx(rates)
    optimizer.apply([tf.ones_like(v) for v in variables], variables)
    lower = {name: rate / 10 for name, rate in rates.items()}
    assert optimizer.learning_rates() == pytest.approx(lower)
    assert ReplicaLossScale(optimizer).learning_rates() == pytest.approx(lower)


def test_rates_name_groups_in_use_only():
    optimizer = GroupedSGD(0.5, groups=tsn_groups(first_convolution="stem"))
    optimizer.build(convolutional_model().trainable_variables)
    assert not [name for name in optimizer.learning_rates() if "first" in name]
    assert "conv1/kernel" in optimizer.variables_by_group()["weights"]
    assert ClippedAdamW(0.25).learning_rates() == {"all": 0.25}


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
    groups = tsn_groups("top", "stem.1")
    optimizer = GroupedSGD(StepDecay(0.5, [3], 0.2), 0.8, 1e-3, None, groups, 4, 0.99)
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.get_config() == optimizer.get_config()
    assert restored.groups[0]["pattern"] == r"(^|/)top/kernel$"
    assert restored.groups[2]["pattern"] == r"(^|/)stem\.1/kernel$"
    assert (restored.accumulation_steps, restored.ema_decay) == (4, 0.99)


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
    optimizer = ClippedAdamW(StepDecay(0.5, [3], 0.2), 1e-3, 2.0, 4, 0.99)
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.get_config() == optimizer.get_config()
    assert (restored.accumulation_steps, restored.ema_decay) == (4, 0.99)


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


@pytest.mark.parametrize(
    "theirs, ours",
    [("gradient_accumulation_steps", "accumulation_steps"), ("use_ema", "ema_decay")],
)
def test_adamw_refuses_what_depends_on_replicas(theirs, ours):
    with pytest.raises(ValueError, match=f"use `{ours}`. Received: {theirs}=2"):
        ClippedAdamW(**{theirs: 2})
