"""Weights of Keras models and files, by the names of the layers that hold them.

Every weight gets a slot, `layer1_0_sme/reduce/vars/0`: the names of the layers from the
network down to the one that owns it, and its number there. Keras writes these names into
`.weights.h5` files (and the one inside a `.keras` file) beside the data, so that files of
networks with other layers can be matched by name without building those networks.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from tsi_keras.utils.errors import InputError

ARCHIVED_WEIGHTS = "model.weights.h5"
# Of a whole model's file, what belongs to its training.
_TRAINING_STATE = ("optimizer", "loss", "metrics", "compile_metrics", "loss_tracker")

# The layers above a weight, outermost first: name, whether it is a model.
Owners = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class KerasWeights:
    """Weights of a file or model.

    Attributes:
        arrays: by slot.
        flat: the slots without the names of nested models, by slot.
    """

    arrays: dict[str, np.ndarray]
    flat: dict[str, str]


def read_keras_archive(path: Path) -> KerasWeights:
    """Weights of a `.keras` file; the model itself is not built.

    Raises:
        InputError: the file holds no weights, or they have no layer names.
    """
    with zipfile.ZipFile(path) as archive:
        if ARCHIVED_WEIGHTS not in archive.namelist():
            raise InputError(f"It is a zip file without {ARCHIVED_WEIGHTS}.")
        return read_h5(io.BytesIO(archive.read(ARCHIVED_WEIGHTS)))


def read_h5(file) -> KerasWeights:
    """Weights of a `.weights.h5` file, of Keras 3 or the legacy format.

    Raises:
        InputError: the file holds no weights, or they have no layer names.
    """
    with h5py.File(file, "r") as root:
        legacy = root.get("model_weights", root)
        if "layer_names" in legacy.attrs:
            found = list(_legacy_weights(legacy))
        else:
            groups = [
                root[name]
                for name in root
                if name not in _TRAINING_STATE and isinstance(root[name], h5py.Group)
            ]
            found = [weight for group in groups for weight in _stored(group, ())]
    if not found:
        raise InputError("It holds no weights.")
    return _keyed(found)


def weights_of(model: keras.Model) -> KerasWeights:
    """Weights of a model as its file would hold them."""
    return _keyed(
        (_names(layers), index, np.asarray(keras.ops.convert_to_numpy(variable)))
        for layers, index, variable in _owned_weights(model)
    )


def _keyed(found) -> KerasWeights:
    owners, indices, arrays = zip(*found, strict=True)
    slots = [
        f"{path}/vars/{index}"
        for path, index in zip(without_backbone(list(owners)), indices, strict=True)
    ]
    flat = [
        f"{flat_path(names)}/vars/{index}"
        for names, index in zip(owners, indices, strict=True)
    ]
    return KerasWeights(
        dict(zip(slots, arrays, strict=True)), dict(zip(slots, flat, strict=True))
    )


def _stored(group: h5py.Group, owners: Owners) -> Iterator[tuple]:
    """Owners, number and data of every weight below a group of a Keras 3 file."""
    if "vars" in group:
        name = group["vars"].attrs.get("name")
        if name is None and len(group["vars"]):
            raise InputError(
                "It was saved by a Keras that did not write the names of layers (before "
                "3.9); load it into the same network with `model.load_weights` and save "
                "that again."
            )
        name = name.decode() if isinstance(name, bytes) else str(name)
        owners = (*owners, (name, "layers" in group))
        if name.startswith("seed_generator"):
            return
        for index in group["vars"]:
            yield owners, index, np.asarray(group["vars"][index])
    for name in group:
        if name != "vars" and isinstance(group[name], h5py.Group):
            yield from _stored(group[name], owners)


def _legacy_weights(root: h5py.Group) -> Iterator[tuple]:
    """The format of Keras 2, which `keras.applications` downloads.

    The group of a layer lists its weights, that of a nested model all weights of its
    layers, which only their names tell apart.
    """
    for layer in map(_text, root.attrs["layer_names"]):
        names = [_text(name) for name in root[layer].attrs["weight_names"]]
        inner = [_inner_layers(name, layer) for name in names]
        counts = Counter()
        for name, holders in zip(names, inner, strict=True):
            owners = ((layer, any(inner)), *((holder, False) for holder in holders))
            yield owners, counts[holders], np.asarray(root[layer][name])
            counts[holders] += 1


def _inner_layers(name: str, layer: str) -> tuple[str, ...]:
    """`stem/conv/kernel:0` in the group of `stem` to `("conv",)`."""
    holders = tuple(name.split("/")[:-1])
    own = holders and re.fullmatch(rf"{re.escape(layer)}(_\d+)?", holders[0])
    return holders[1:] if own else holders


def _text(name) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def model_variables(model: keras.Model) -> list[tuple[str, int, keras.Variable, tuple]]:
    """Path, number, variable and owning layers of every weight of a model or layer."""
    found = _owned_weights(model)
    paths = without_backbone([_names(layers) for layers, _, _ in found])
    return [
        (path, index, variable, layers)
        for path, (layers, index, variable) in zip(paths, found, strict=True)
    ]


def _owned_weights(model) -> list[tuple]:
    """Owning layers, number and variable of every weight, once each."""
    wanted = {id(variable) for variable in model.weights}
    found = []
    for layers, index, variable in _owned(model, ()):
        if id(variable) in wanted:
            wanted.discard(id(variable))
            found.append((layers, index, variable))
    return found


def _names(layers) -> Owners:
    return tuple((layer.name, isinstance(layer, keras.Model)) for layer in layers)


def flat_path(owners: Owners) -> str:
    """Names of the layers alone, whatever models they are nested in."""
    return "/".join(name for name, is_model in owners if not is_model)


def _owned(layer, owners) -> Iterator[tuple]:
    """Owning layers, number and variable of every weight below a layer.

    Keras has no public way to a layer's own variables or to its sub-layers; the numbers
    must be those that `save_own_variables` writes.
    """
    own = {}
    layer.save_own_variables(own)
    for index, variable in own.items():
        if isinstance(variable, keras.Variable):
            yield owners, index, variable
    for child in layer._flatten_layers(include_self=False, recursive=False):
        yield from _owned(child, (*owners, child))


def without_backbone(owners: list[Owners]) -> list[str]:
    """Paths of layer names, without the model that wraps nearly all layers.

    A classifier around a backbone and the backbone alone then agree. A small model used
    as one layer among many keeps its name.
    """
    while owners:
        first, count = Counter(path[:1] for path in owners).most_common(1)[0]
        if not first or not first[0][1] or 2 * count <= len(owners):
            break
        owners = [path[1:] if path[:1] == first else path for path in owners]
    return ["/".join(name for name, _ in path) for path in owners]
