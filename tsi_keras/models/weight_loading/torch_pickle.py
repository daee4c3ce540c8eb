"""A pickle reader for PyTorch checkpoints that builds data and runs nothing.

A pickle is a program: it may name any importable function and call it. This reader knows
the handful of names a state dict consists of, and refuses the file at the first other
one, before anything is called. PyTorch is not needed.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tsi_keras.utils.errors import InputError

STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class Storage(NamedTuple):
    """A flat buffer of the file, by its key; not read yet.

    A tuple, as `Tensor` is, because a pickle can change any other object after it was
    checked.

    Attributes:
        key: its name in the file.
        dtype: of its elements.
        numel: elements.
        start: index of its first element in the buffer (legacy views only).
    """

    key: str
    dtype: np.dtype
    numel: int
    start: int = 0


class Tensor(NamedTuple):
    """A strided window on a `Storage`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, buffer: np.ndarray) -> np.ndarray:
        """The window as a read-only view of the storage's whole `buffer`.

        Raises:
            InputError: the window reaches outside the buffer.
        """
        buffer = buffer[self.storage.start :]
        if self.offset + _extent(self.shape, self.strides) > min(
            len(buffer), self.storage.numel
        ):
            raise InputError(
                f"A tensor of shape {self.shape} reaches outside its storage "
                f"{self.storage.key!r}; the file is damaged."
            )
        return np.lib.stride_tricks.as_strided(
            buffer[self.offset :],
            self.shape,
            [stride * buffer.itemsize for stride in self.strides],
            writeable=False,
        )


def _extent(shape, strides) -> int:
    """Elements from the first to the last of a window, both included."""
    if 0 in shape:
        return 0
    return 1 + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )


class _Builder:
    """A callable without attributes: a pickle can call it but not change it."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable):
        object.__setattr__(self, "_build", build)

    def __setattr__(self, name, value):
        raise pickle.UnpicklingError("the file tries to change its reader")

    def __call__(self, *arguments):
        return self._build(*arguments)


def _tensor(storage, offset, shape, strides, *_):
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without a storage, or without strides")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of negative or fractional size")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _Builder(tuple),
    ("torch._utils", "_rebuild_tensor"): _Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(lambda data, *_: data),
}


class RestrictedUnpickler(pickle.Unpickler):
    """Builds numbers, strings, containers, and `Tensor`s without their data.

    Raises:
        InputError: the pickle names anything else.
    """

    def __init__(self, file):
        super().__init__(file, encoding="utf-8")

    def find_class(self, module, name):
        if module == "torch" and name in STORAGE_DTYPES:
            return name
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"It holds {module}.{name}, and loading that could run code of its "
                "author's; only tensors, numbers, strings and containers of them are "
                "read. If you trust the file, write its weights alone with PyTorch: "
                'torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW), '
                "or of a whole model, torch.save(model.state_dict(), NEW)."
            )
        return _ALLOWED[module, name]

    def persistent_load(self, identifier):
        """Called for `("storage", type, key, device, numel[, view])`."""
        if not isinstance(identifier, tuple) or identifier[:1] != ("storage",):
            raise pickle.UnpicklingError(
                "a reference to something other than a storage"
            )
        _, kind, key, _, numel, *view = identifier
        if kind not in STORAGE_DTYPES or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError("a storage of unknown type or size")
        start = 0
        if view and view[0] is not None:
            _, start, numel = view[0]
        if type(start) is not int or start < 0:
            raise pickle.UnpicklingError("a storage that starts before its buffer")
        return Storage(str(key), STORAGE_DTYPES[kind], numel, start)


def unpickle(file):
    """The next object of an open pickle `file`.

    Raises:
        InputError: it holds more than data, or it is damaged.
    """
    try:
        return RestrictedUnpickler(file).load()
    except InputError:
        raise
    # A damaged pickle can fail in any way a Python expression can.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"Its pickle is damaged: {reason}.") from error
