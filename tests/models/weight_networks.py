"""Networks with random weights, and what loading changes in them."""

import functools

import numpy as np
import pytest

from tsi_keras.models import video_resnet
from tsi_keras.models.weight_loading import load_weights_from

HEAD = {"classifier/kernel", "classifier/bias"}


class Options(dict):
    """`temporal_options` that `functools.cache` can tell apart."""

    def __hash__(self):
        return hash(repr(self))


def network(temporal="none", seed=0, classes=5, frames=2, **options):
    """A classifier whose every weight is random, so that each must be in its place.

    ResNet-18 with temporal layers in res2: 100 weights of the image network, 48 of TSI.
    """
    options = {"depth": 18, "base_width": 16, "stages": (2,), **options}
    options["num_classes"] = classes
    model = video_resnet(temporal=temporal, num_frames=frames, **options)
    return randomize(model, seed)


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@functools.cache
def source(temporal="none", **options):
    """A network to load from; nothing changes it."""
    return network(temporal, seed=1, **options)


def values(model):
    """Weights by their path."""
    return {variable.path: np.array(variable) for variable in model.weights}


def changed(model, before):
    return {
        path
        for path, value in values(model).items()
        if not np.array_equal(value, before[path])
    }


def load(model, source, head="replace"):
    return load_weights_from(model, source, head, verbose=False)


def refusal(model, given, head="replace") -> str:
    """The message of the error; the model must be as it was."""
    before = values(model)
    with pytest.raises(ValueError) as error:
        load(model, given, head)
    assert not changed(model, before)
    return str(error.value)
