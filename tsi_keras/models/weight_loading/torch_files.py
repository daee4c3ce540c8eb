"""Reading the files of `torch.save`, of PyTorch 1.6 and later (zip) and before."""

import io
import struct
import zipfile
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tsi_keras.models.weight_loading.torch_pickle import Storage
from tsi_keras.models.weight_loading.torch_pickle import Tensor
from tsi_keras.models.weight_loading.torch_pickle import unpickle
from tsi_keras.utils.errors import InputError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_zip(path: Path, select: Callable):
    """What `select` picks from a zip checkpoint, its tensors as NumPy arrays.

    Args:
        path: the file.
        select: called with the saved object, whose tensors are still `Tensor`s; only
            what it returns is read, so that an optimizer's state costs nothing.

    Raises:
        InputError: not such a file, damaged, or more than data.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name[: -len("data.pkl")] for name in names if _is_pickle(name)]
        if len(roots) != 1:
            raise InputError("It is a zip file without the data.pkl of PyTorch.")
        root = roots[0]
        if f"{root}constants.pkl" in names:
            raise InputError(
                "It is a TorchScript program; save its weights alone with "
                "torch.save(torch.jit.load(FILE).state_dict(), NEW)."
            )
        _check_byte_order(archive, root, names)
        content = select(unpickle(io.BytesIO(_read_stored(archive, f"{root}data.pkl"))))
        return _fill(content, lambda storage: _read_member(archive, root, storage))


def read_legacy(path: Path, select: Callable):
    """As `read_zip`, for the format before PyTorch 1.6.

    Raises:
        InputError: not such a file, damaged, or more than data.
    """
    with path.open("rb") as file:
        if unpickle(file) != LEGACY_MAGIC or unpickle(file) != LEGACY_PROTOCOL:
            raise InputError("It is a pickle, but not one of torch.save.")
        if not unpickle(file).get("little_endian", True):
            raise InputError("It was written on a big-endian machine.")
        content = unpickle(file)
        storages = {storage.key: storage for storage in _storages(content)}
        content = select(content)
        wanted = {storage.key for storage in _storages(content)}
        buffers = {}
        for key in map(str, unpickle(file)):
            data = _read_next(file, path.stat().st_size, storages.get(key))
            if key in wanted:
                buffers[key] = data
    return _fill(content, lambda storage: _known(buffers, storage))


def _is_pickle(name: str) -> bool:
    return name == "data.pkl" or name.endswith("/data.pkl")


def _check_byte_order(archive, root, names):
    name = f"{root}byteorder"
    if name in names and archive.read(name).strip() != b"little":
        raise InputError("It was written on a big-endian machine.")


def _read_member(archive, root, storage: Storage) -> np.ndarray:
    data = _read_stored(archive, f"{root}data/{storage.key}")
    if len(data) < storage.numel * storage.dtype.itemsize:
        raise InputError(f"Its storage {storage.key!r} is cut short.")
    return np.frombuffer(data, storage.dtype, storage.numel)


def _read_stored(archive, name) -> bytes:
    if name not in archive.namelist():
        raise InputError(f"Its member {name!r} is missing.")
    # PyTorch stores uncompressed; a compressed member could expand without bound.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise InputError(f"Its member {name!r} is compressed, as PyTorch leaves none.")
    return archive.read(name)


def _read_next(file, size: int, storage: Storage | None) -> np.ndarray:
    """The next storage of a legacy file: its length, then its elements."""
    (numel,) = struct.unpack("<q", _read_exactly(file, 8, size))
    if storage is None:
        raise InputError("It lists a storage that no tensor uses.")
    data = _read_exactly(file, numel * storage.dtype.itemsize, size)
    return np.frombuffer(data, storage.dtype)


def _read_exactly(file, count: int, size: int) -> bytes:
    if not 0 <= count <= size - file.tell():
        raise InputError("It is cut short.")
    return file.read(count)


def _known(buffers, storage: Storage) -> np.ndarray:
    if storage.key not in buffers or buffers[storage.key].dtype != storage.dtype:
        raise InputError(f"Its storage {storage.key!r} is missing.")
    return buffers[storage.key]


def _storages(content):
    """Every storage that `content` refers to."""
    if isinstance(content, Tensor):
        yield content.storage
    elif isinstance(content, Storage):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _storages(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _storages(value)


def _fill(content, read_storage: Callable[[Storage], np.ndarray]):
    """Put arrays in the place of `Tensor`s; a shared storage is read once."""
    buffers = {}

    def fill(value):
        if isinstance(value, Tensor):
            if value.storage not in buffers:
                buffers[value.storage] = read_storage(value.storage)
            return value.read(buffers[value.storage])
        if isinstance(value, Mapping):
            return {key: fill(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [fill(entry) for entry in value]
        return value

    return fill(content)
