"""Other steps for a model that is built already."""

from functools import cache

import keras


def with_steps(model: keras.Model, steps: type) -> keras.Model:
    """Make a model one of a subclass whose methods come first.

    Its `from_config` gives a model of the class it had, and so do files.

    Args:
        model: any.
        steps: a class with methods such as `train_step`, which call `super()`.

    Returns:
        The same model.
    """
    model.__class__ = _subclass(steps, type(model))
    return model


@cache
def _subclass(steps: type, model: type) -> type:
    """The class of models like `model` with other steps."""
    namespace = {"from_config": model.from_config, "__doc__": model.__doc__}
    return type(model.__name__, (steps, model), namespace)
