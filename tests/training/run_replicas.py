"""A small training on any number of replicas, in this process or in one of its own.

Logical devices must be made before TensorFlow starts, so four replicas need a process:
`python -m tests.training.run_replicas 4 result.npz sgd:2 adamw:4`.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from tsi_keras.training.distribution import make_strategy
from tsi_keras.training.optimizer import ClippedAdamW
from tsi_keras.training.optimizer import GroupedSGD
from tsi_keras.training.optimizer import ReplicaLossScale
from tsi_keras.training.schedule import StepDecay

BATCH, UPDATES = 16, 5


def make_optimizer(name, clip_norm=0.35, **options):
    """Decay, averages, a schedule of updates, and clipping: of some but not all."""
    schedule = StepDecay(0.5 if name == "sgd" else 0.05, [2, 4], 0.5)
    options = {"clip_norm": clip_norm, "ema_decay": 0.7, **options}
    if name == "sgd":
        return GroupedSGD(schedule, weight_decay=0.01, **options)
    return ClippedAdamW(schedule, weight_decay=0.1, epsilon=1e-3, **options)


def small_network():
    """A convolution and two Dense layers without BatchNormalization, always the same."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="conv1", activation="tanh")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="tanh", name="body")(x)
    head = keras.layers.Dense(3, name="classifier", dtype="float32")
    return keras.Model(inputs, head(x))


def batches(parts):
    """The batches, each in `parts` of the same size."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH * UPDATES, 6, 6, 2)).astype("float32")
    labels = rng.integers(0, 3, BATCH * UPDATES)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH // parts)


def train(strategy, name, parts=1, *, scaled=False, **options):
    """Train on the batches; returns everything trained, by name."""
    with strategy.scope():
        model = small_network()
        optimizer = make_optimizer(name, accumulation_steps=parts, **options)
        if scaled:
            optimizer = ReplicaLossScale(optimizer, initial_scale=1024.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=False)
    model.fit(batches(parts), verbose=0)
    inner = optimizer.inner_optimizer if scaled else optimizer
    found = {}
    for variable, average in inner.averages():
        found[variable.path] = same_everywhere(strategy, variable)
        found[f"average of {variable.path}"] = same_everywhere(strategy, average)
    found["iterations"] = optimizer.iterations.numpy()
    found["learning rate"] = np.array(optimizer.learning_rate)
    return found


def same_everywhere(strategy, variable):
    """The value of a variable, which all replicas must agree in."""
    copies = [np.array(x) for x in strategy.experimental_local_results(variable.value)]
    for copy in copies[1:]:
        np.testing.assert_array_equal(copy, copies[0])
    return copies[0]


def difference(found, expected):
    """The largest difference of two trainings."""
    assert found.keys() == expected.keys()
    return max(np.abs(found[name] - expected[name]).max() for name in expected)


def main(replicas, target, *cases):
    """Run the cases, each `optimizer:parts`, and save what they trained."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(replicas),
    )
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == int(replicas)
    results = {}
    for case in cases:
        name, parts = case.split(":")
        for key, value in train(strategy, name, int(parts)).items():
            results[f"{case} {key}"] = value
    np.savez(target, **{key.replace("/", "|"): v for key, v in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
