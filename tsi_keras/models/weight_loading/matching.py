"""Which entry of a source goes into which weight of a model, and what does not fit."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from tsi_keras.models.weight_loading import naming
from tsi_keras.models.weight_loading.conversion import PARAMETERS
from tsi_keras.models.weight_loading.conversion import to_keras
from tsi_keras.models.weight_loading.conversion import widen_input
from tsi_keras.models.weight_loading.frame_counts import FrameCounts
from tsi_keras.models.weight_loading.report import KEPT
from tsi_keras.models.weight_loading.report import LOADED
from tsi_keras.models.weight_loading.report import MISFIT
from tsi_keras.models.weight_loading.report import MISSING
from tsi_keras.models.weight_loading.report import UNEXPECTED
from tsi_keras.models.weight_loading.report import UNUSED
from tsi_keras.models.weight_loading.report import WeightRow
from tsi_keras.models.weight_loading.sources import Source
from tsi_keras.models.weight_loading.targets import HEAD
from tsi_keras.models.weight_loading.targets import ModelWeight
from tsi_keras.models.weight_loading.targets import is_head

SOURCE_ONLY = "source only"


@dataclass(frozen=True)
class Plan:
    """What loading would do.

    Attributes:
        rows: as in `LoadReport`.
        values: new values by path of the weight.
    """

    rows: tuple[WeightRow, ...]
    values: dict[str, np.ndarray]


class Matcher:
    """Decides row by row.

    Args:
        model: the model to be filled.
        weights: its weights.
        source: the weights to be loaded.
        head: as for `load_weights_from`.
    """

    def __init__(
        self, model: keras.Model, weights: list[ModelWeight], source: Source, head: str
    ):
        self.weights = weights
        self.source = source
        self.head = head
        finder = _torch_finder if source.layout == "torch" else _keras_finder
        self.find = finder(weights, source)
        self.frame_counts = FrameCounts()
        self.joined = {
            layer.name.removesuffix("_concat")
            for layer in model._flatten_layers()
            if layer.name.endswith("_concat")
        }

    def plan(self) -> Plan:
        """Match everything; nothing is assigned."""
        keys, leftovers = self._assign_keys()
        owners = {
            (weight.owner, weight.group)
            for weight in self.weights
            if weight.path in keys
        }
        rows, values = [], {}
        for weight in self.weights:
            key = keys.get(weight.path)
            if key is None:
                present = (weight.owner, weight.group) in owners
                rows.append(self._absent(weight, present))
                continue
            row, value = self._fit(weight, key)
            rows.append(row)
            if row.status == LOADED:
                values[weight.path] = value
        return Plan((*rows, *leftovers), values)

    def _assign_keys(self) -> tuple[dict[str, str], list[WeightRow]]:
        """Source key by path of the weight, and rows for the keys without a weight."""
        keys, leftovers = {}, []
        for key in self.source.arrays:
            weight = self.find(key)
            if self._is_head_key(key) and (weight is None or self.head == "replace"):
                leftovers.append(self._unused_head(key))
            elif weight is None:
                leftovers.append(_unknown(key))
            elif weight.path in keys:
                reason = f"names the same weight as {keys[weight.path]}"
                leftovers.append(_leftover(key, UNEXPECTED, reason))
            else:
                keys[weight.path] = key
        leftovers += [
            _leftover(key, UNUSED, "not a tensor") for key in self.source.others
        ]
        return keys, leftovers

    def _is_head_key(self, key) -> bool:
        if self.source.layout == "keras":
            return is_head(key)
        return naming.split_key(key)[0] == naming.HEAD

    def _unused_head(self, key) -> WeightRow:
        if self.head == "replace":
            return WeightRow(None, key, UNUSED, 'head="replace"', HEAD)
        return WeightRow(None, key, UNEXPECTED, "the model has no such head", HEAD)

    def _absent(self, weight, present) -> WeightRow:
        """The row of a weight that the source does not have."""
        if weight.group == HEAD:
            status, reason = self._absent_head()
        elif weight.is_temporal and not present:
            status, reason = KEPT, "temporal module, not in the source"
        elif weight.is_temporal:
            status = MISSING
            reason = f"the source has {weight.owner}, but not all of its weights"
        else:
            status, reason = MISSING, "not in the source"
        return WeightRow(weight.path, None, status, reason, weight.group)

    def _absent_head(self):
        if self.head == "replace":
            return KEPT, 'head="replace"'
        if self.head == "error" and not any(map(self._is_head_key, self.source.arrays)):
            return KEPT, "the source has no head"
        return MISSING, "not in the source"

    def _fit(self, weight, key) -> tuple[WeightRow, np.ndarray]:
        """The row of a weight with an entry in the source, and its value."""
        value = self.source.arrays[key]
        if self.source.layout == "torch":
            value = to_keras(value, weight.shape, weight.layers[-1])
        status, reason = LOADED, ""
        if value.shape != weight.shape:
            status, reason = self._other_shape(weight, value.shape)
            if status == LOADED:
                value = widen_input(value, weight.shape[-2])
        return WeightRow(weight.path, key, status, reason, weight.group), value

    def _other_shape(self, weight, shape) -> tuple[str, str]:
        if self._is_widened(weight, shape):
            return LOADED, "its input is several maps side by side, equal shares"
        if weight.is_temporal:
            frames = self.frame_counts.other(weight, shape)
            if frames is not None:
                return KEPT, f"depends on num_frames, the source's is {frames}"
        return MISFIT, f"{shape} in the source, {weight.shape} in the model"

    def _is_widened(self, weight, shape) -> bool:
        """Whether `fusion="concat"` gives the convolution a multiple of its input."""
        mine = weight.shape
        return (
            weight.owner.rpartition("_")[0] in self.joined
            and len(shape) == len(mine) == 4
            and shape[:2] == mine[:2]
            and shape[3] == mine[3]
            and shape[2] > 0
            and mine[2] % shape[2] == 0
        )


def _unknown(key) -> WeightRow:
    if naming.IGNORED.search(key):
        return _leftover(key, UNUSED, "a counter of PyTorch's, which Keras has not")
    return _leftover(key, UNEXPECTED, "no such weight in the model")


def _leftover(key, status, reason) -> WeightRow:
    return WeightRow(None, key, status, reason, SOURCE_ONLY)


def _torch_finder(weights, source) -> Callable[[str], ModelWeight | None]:
    known = {}
    for weight in weights:
        module, _, name = weight.path.rpartition("/")
        module = naming.HEAD if weight.group == HEAD else module.replace("/", "_")
        known[module, name] = weight

    def find(key):
        module, parameter = naming.split_key(key)
        names = PARAMETERS.get(parameter, (parameter,))
        return next((known[module, n] for n in names if (module, n) in known), None)

    return find


def _keras_finder(weights, source) -> Callable[[str], ModelWeight | None]:
    """By path or slot; else by the loose slot if only one weight has it."""
    known = {_one_head(weight.path): weight for weight in weights}
    known |= {_one_head(weight.slot): weight for weight in weights}
    found = {known[key].path for key in map(_one_head, source.arrays) if key in known}
    count = Counter(weight.loose for weight in weights)
    loose = {
        weight.loose: weight
        for weight in weights
        if count[weight.loose] == 1 and weight.path not in found
    }

    def find(key):
        flat = source.flat.get(key, key)
        unnumbered = re.sub(r"_\d+(?=/vars/\d+$)", "", flat)
        named = known.get(_one_head(key))
        return named or loose.get(flat) or loose.get(unnumbered)

    return find


def _one_head(key: str) -> str:
    """Heads have many names: `predictions/vars/0` is `classifier/vars/0`."""
    return f"{naming.HEAD}/{key.partition('/')[2]}" if is_head(key) else key
