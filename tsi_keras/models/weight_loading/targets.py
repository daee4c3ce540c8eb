"""The weights of the model to be filled, and what each of them belongs to."""

import re
from dataclasses import dataclass

import keras

from tsi_keras.layers import BatchNormalization
from tsi_keras.models.weight_loading.keras_files import model_variables

IMAGE = "image backbone"
HEAD = "head"
TEMPORAL = "temporal"

# Layers of torchvision's ResNets. In TEA the 3x3 convolutions of Res2Net's image
# network live inside the temporal layer that takes the place of conv2.
_RESNET = re.compile(
    r"(conv1|bn1|layer\d_\d+_(conv\d|bn\d|downsample_[01]))/"
    r"|layer\d_\d+_\w+/(convs|bns)_\d+/"
)
# Ours, keras.applications', and those common in people's own models.
_HEAD = re.compile(
    r"(classifier|predictions|logits|conv_preds|fc|fc1000|head|\w+_head_(layernorm|dense))/"
)


@dataclass(frozen=True)
class ModelWeight:
    """One weight of the model.

    Attributes:
        path: `layer1_0_sme/reduce/kernel`.
        slot: the same in the files of Keras, `layer1_0_sme/reduce/vars/0`.
        loose: the slot without the names of nested models, and without the number that
            Keras gives to layers without a name (`layer_normalization_3`).
        variable: to be assigned.
        layers: the layers it belongs to, outermost first.
        group: `"image backbone"`, `"head"` or `"temporal: sme"`.
    """

    path: str
    slot: str
    loose: str
    variable: keras.Variable
    layers: tuple
    group: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def owner(self) -> str:
        """Name of the layer of the network that holds it, `layer1_0_sme`."""
        return self.path.split("/")[0]

    @property
    def is_temporal(self) -> bool:
        return self.group.startswith(TEMPORAL)


def is_head(path: str) -> bool:
    """Whether a path or slot is one of a classification head."""
    return bool(_HEAD.match(path))


def model_weights(model: keras.Model) -> list[ModelWeight]:
    """All weights of a model.

    Raises:
        ValueError: the model has none, or two of them share a path.
    """
    found = model_variables(model)
    if not found:
        raise ValueError(
            f"`model` {model.name!r} has no weights; build it (call it once) first."
        )
    resnet = any(path == "layer1_0_conv1" for path, *_ in found)
    weights = [
        ModelWeight(
            path=f"{path}/{variable.name}",
            slot=f"{path}/vars/{index}",
            loose=f"{_loose_path(layers)}/vars/{index}",
            variable=variable,
            layers=layers,
            group=_group(f"{path}/", layers, resnet),
        )
        for path, index, variable, layers in found
    ]
    _check_unique(weights)
    return weights


def _loose_path(layers) -> str:
    names = [layer.name for layer in layers if not isinstance(layer, keras.Model)]
    if names:
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layers[-1]).__name__)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        names[-1] = re.sub(rf"^{kind}_\d+$", kind, names[-1])
    return "/".join(names)


def _group(path, layers, resnet) -> str:
    if is_head(path):
        return HEAD
    owner = path.split("/")[0]
    if resnet:
        is_image = bool(_RESNET.match(path))
        part = re.sub(r"^layer\d+_(\d+_)?", "", owner)
    else:
        # The part of a temporal module that is a bare callable is named "temporal".
        is_image = not (_is_ours(layers) or owner.endswith("_temporal"))
        part = owner.rpartition("_")[2]
    return IMAGE if is_image else f"{TEMPORAL}: {part}"


def _is_ours(layers) -> bool:
    """Whether one of the layers is a temporal layer of this package."""
    return any(
        type(layer).__module__.startswith("tsi_keras.layers")
        and not isinstance(layer, BatchNormalization)
        for layer in layers
    )


def _check_unique(weights):
    seen = set()
    for weight in weights:
        if weight.path in seen:
            raise ValueError(
                f"`model` has two weights {weight.path!r}, which cannot be told apart by "
                "name; give its layers different names."
            )
        seen.add(weight.path)
