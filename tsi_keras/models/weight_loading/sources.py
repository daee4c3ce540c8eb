"""Whatever weights come from, as named NumPy arrays."""

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import keras
import numpy as np

from tsi_keras.models.weight_loading.keras_files import KerasWeights
from tsi_keras.models.weight_loading.keras_files import read_h5
from tsi_keras.models.weight_loading.keras_files import read_keras_archive
from tsi_keras.models.weight_loading.keras_files import weights_of
from tsi_keras.models.weight_loading.torch_files import read_legacy
from tsi_keras.models.weight_loading.torch_files import read_zip
from tsi_keras.models.weight_loading.torch_pickle import Tensor
from tsi_keras.utils.errors import InputError

# Where training scripts put the network's state dict among other things.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
FILES = ".pth, .pt, .tar or .bin (PyTorch), .safetensors, .keras, .weights.h5 or .h5"
# What readers let through when a file is damaged or not what it says.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Source:
    """Weights and where they are from.

    Attributes:
        name: of the file or model, for messages.
        layout: `"torch"` (keys with dots, PyTorch's layouts) or `"keras"` (slots or
            paths with slashes, as they are in the model).
        arrays: the weights.
        others: keys whose values are not arrays.
        flat: slots without the names of nested models, by key (`"keras"` only).
    """

    name: str
    layout: str
    arrays: dict[str, np.ndarray]
    others: tuple[str, ...] = ()
    flat: dict[str, str] = field(default_factory=dict)


def read_source(source) -> Source:
    """The weights of a file, a Keras model, a state dict or a PyTorch module.

    Raises:
        InputError: there is nothing to read, or it is damaged or unsafe.
        ValueError: not a kind of source.
    """
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source).expanduser())
    if isinstance(source, keras.Model):
        return _from_keras(f"the Keras model {source.name}", weights_of(source))
    if hasattr(source, "state_dict"):
        source = source.state_dict()
    if isinstance(source, Mapping):
        return _from_mapping("the given dict", source)
    raise ValueError(
        f"`source` must be a path to a file ({FILES}), a Keras model, or a dict of "
        f"arrays such as a PyTorch state dict. Received: {type(source).__name__}"
    )


def _read_file(path: Path) -> Source:
    if not path.is_file():
        raise InputError(
            f"`source` {path} is not a file; give the path of a downloaded {FILES} file."
        )
    try:
        return _read_kind(path)
    except _DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"`source` {path} cannot be read. {reason}") from error


def _read_kind(path: Path) -> Source:
    """Told by the content: endings such as `.pth.tar` and `.bin` say little."""
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return _from_keras(path.name, read_h5(path))
    if not start:
        raise InputError("It is empty (0 bytes); download it again.")
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise InputError(
            f"It is cut short ({path.stat().st_size:,} bytes); download it again."
        )
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            is_keras = "config.json" in archive.namelist()
        if is_keras:
            return _from_keras(path.name, read_keras_archive(path))
        return _from_mapping(path.name, read_zip(path, find_state_dict))
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"
    if is_safetensors or path.suffix == ".safetensors":
        return _from_mapping(path.name, _read_safetensors(path))
    if start.startswith(b"\x80"):
        return _from_mapping(path.name, read_legacy(path, find_state_dict))
    raise InputError(f"It is none of the known kinds: {FILES}.")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise InputError(
            "Reading .safetensors needs the package safetensors; pip install safetensors."
        ) from None
    # ml_dtypes, imported with torch_pickle, is what lets NumPy hold bfloat16.
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"It is no .safetensors file: {error}") from error


def find_state_dict(content) -> Mapping:
    """The state dict in what a training script saved.

    Raises:
        InputError: there is none.
    """
    while isinstance(content, Mapping):
        inner = [content[name] for name in WRAPPERS if name in content]
        inner = [value for value in inner if isinstance(value, Mapping)]
        if not inner:
            break
        content = inner[0]
    if isinstance(content, Mapping) and any(map(_is_array, content.values())):
        return content
    keys = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
    raise InputError(
        f"It holds no state dict: expected tensors by name, perhaps under "
        f"{', '.join(map(repr, WRAPPERS))}. Received: {keys}"
    )


def _from_keras(name: str, weights: KerasWeights) -> Source:
    return Source(name, "keras", weights.arrays, flat=weights.flat)


def _from_mapping(name: str, mapping: Mapping) -> Source:
    mapping = find_state_dict(mapping)
    arrays = {
        str(key): _to_numpy(value) for key, value in mapping.items() if _is_array(value)
    }
    others = tuple(str(key) for key, value in mapping.items() if not _is_array(value))
    keras_names = all("/" in key for key in arrays)
    return Source(name, "keras" if keras_names else "torch", arrays, others)


def _is_array(value) -> bool:
    return isinstance(value, Tensor) or (
        hasattr(value, "shape") and hasattr(value, "dtype")
    )


def _to_numpy(value) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # PyTorch, whose bfloat16 NumPy does not know
        value = value.detach().cpu()
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    return np.asarray(keras.ops.convert_to_numpy(value))
