"""Generic checks every layer goes through; a layer's own test adds its numbers."""

import json

import keras
import numpy as np
from keras import ops


def run_layer_test(
    cls,
    init_kwargs,
    input_shape,
    *,
    trainable: int,
    non_trainable: int,
    tmp_path,
    without_gradient: str = "",
):
    """Config, shapes, dynamic sizes, saving, precision policies, gradients, counts.

    Args:
        cls: layer class.
        init_kwargs: arguments of its constructor.
        input_shape: full shape of one input batch `(N*T, H, W, C)`.
        trainable: expected number of trainable parameters.
        non_trainable: expected number of other parameters.
        tmp_path: folder for saved files.
        without_gradient: end of the paths of weights that the mathematics leaves
            without influence on the output.
    """
    x = np.random.default_rng(0).normal(size=input_shape).astype("float32")
    layer = cls(**init_kwargs)
    y = layer(x)
    assert tuple(y.shape) == tuple(layer.compute_output_shape(input_shape))
    assert _count(layer.trainable_weights) == trainable
    assert _count(layer.non_trainable_weights) == non_trainable
    _check_config(layer)
    _check_dynamic_size(layer, x, y)
    _check_saving(layer, x, tmp_path)
    _check_precision(cls, init_kwargs, layer, x)
    _check_training(cls, init_kwargs, x, without_gradient)


def _count(weights) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


def _check_config(layer):
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    whole = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert (
        keras.saving.deserialize_keras_object(whole).get_config() == again.get_config()
    )


def _functional(layer, channels):
    inputs = keras.Input((None, None, channels), name="frames")
    return keras.Model(inputs, layer(inputs))


def _check_dynamic_size(layer, x, y):
    model = _functional(layer, x.shape[-1])
    assert np.allclose(model.predict(x, batch_size=len(x), verbose=0), y, atol=1e-5)
    wider = np.concatenate([x, x[:, :, :3]], axis=2)
    assert model(wider).shape == wider.shape


def _check_saving(layer, x, tmp_path):
    model = _functional(layer, x.shape[-1])
    expected = ops.convert_to_numpy(model(x))
    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras")
    assert np.array_equal(ops.convert_to_numpy(loaded(x)), expected)
    if keras.backend.backend() == "tensorflow":
        _check_saved_model(model, x, expected, tmp_path)


def _check_saved_model(model, x, expected, tmp_path):
    import tensorflow as tf

    model.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    assert np.allclose(loaded.serve(x), expected, atol=1e-5)


def _check_precision(cls, init_kwargs, layer, x):
    expected = ops.convert_to_numpy(layer(x))
    for policy, tolerance in (("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)):
        mixed = cls(**init_kwargs, dtype=policy)
        mixed.build(x.shape)
        mixed.set_weights(layer.get_weights())
        y = mixed(x)
        assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
        y = ops.convert_to_numpy(ops.cast(y, "float32"))
        assert np.abs(y - expected).max() < tolerance * np.abs(expected).max()


def _check_training(cls, init_kwargs, x, without_gradient):
    """One optimizer step moves every trainable weight and leaves it finite."""
    layer = cls(**init_kwargs)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    rng = np.random.default_rng(1)
    # A generic point: zero-initialised gates and ones have zero gradients.
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0.3, 0.3, size=weight.shape))
    before = [ops.convert_to_numpy(w) for w in layer.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, rng.normal(size=x.shape))
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        new = ops.convert_to_numpy(weight)
        assert np.isfinite(new).all(), weight.path
        if not (without_gradient and weight.path.endswith(without_gradient)):
            assert not np.array_equal(new, old), f"no gradient reached {weight.path}"
