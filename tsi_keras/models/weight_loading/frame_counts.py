"""Whether a temporal weight would fit with another number of frames."""

import keras

from tsi_keras.models.weight_loading.keras_files import model_variables
from tsi_keras.models.weight_loading.targets import ModelWeight

FRAME_COUNTS = (8, 16, 4, 32, 2, 3, 5, 6, 7, 10, 12, 20, 24, 48, 64)


class FrameCounts:
    """Told by building twins of a layer, so that it holds for whatever layer: kernels
    over all frames, and kernels whose length follows the number of frames.
    """

    def __init__(self):
        self._shapes = {}
        self._independent = set()

    def other(self, weight: ModelWeight, shape: tuple[int, ...]) -> int | None:
        """A `num_frames` with which the temporal weight would have `shape`, or None."""
        layer = next((x for x in weight.layers if _has_num_frames(x)), None)
        if layer is None:
            return None
        slot = weight.slot.split(f"{layer.name}/", 1)[-1]
        # One layer of a class speaks for the others: a network has many.
        if (type(layer), slot) in self._independent:
            return None
        for frames in FRAME_COUNTS:
            if (
                frames != layer.num_frames
                and self._of(layer, frames).get(slot) == shape
            ):
                return frames
        self._independent.add((type(layer), slot))
        return None

    def _of(self, layer, frames) -> dict[str, tuple[int, ...]]:
        key = layer.name, frames
        if key not in self._shapes:
            self._shapes[key] = _twin_shapes(layer, frames)
        return self._shapes[key]


def _has_num_frames(layer) -> bool:
    return hasattr(layer, "num_frames") and not isinstance(layer, keras.Model)


def _twin_shapes(layer, frames) -> dict[str, tuple[int, ...]]:
    """Shapes by slot of the layer's twin for `frames` frames; none if there is no such."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None:
        return {}
    try:
        twin = type(layer).from_config({**layer.get_config(), "num_frames": frames})
        twin.build((None, *shape[1:]))
    except (ValueError, TypeError):
        return {}
    return {
        f"{path}/vars/{index}".lstrip("/"): tuple(variable.shape)
        for path, index, variable, _ in model_variables(twin)
    }
