"""PyTorch's files of a state dict, read without PyTorch: the zip format, and the row of pickles of before 1.6.

A pickle can name any function. Here it may name only the few functions that make tensors, and these are replaced.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from autofocus_jax.files import require_regular
from autofocus_jax.weights.safetensors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of an old file
_MOST_VALUES = 4  # of tensors, for each byte of the file: half floats have 0.5, and tensors may share them
_TYPES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16, "LongStorage": np.int64,
    "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_, "BFloat16Storage": ml_dtypes.bfloat16,
}  # fmt: skip


class _Tensor(NamedTuple):
    """A tensor whose numbers may still be to be read."""

    storage: str  # key
    kind: type  # of its numbers
    offset: int  # in numbers
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return arrays by name of a file that holds a state dict, alone or under "state_dict" or "model".

    Nothing in the file is executed.

    Raises:
        WeightsError: the file is broken, or holds anything but tensors.
    """
    try:
        require_regular(path)
        with open(path, "rb") as file:
            loaded, numbers = _zipped(file) if zipfile.is_zipfile(file) else _old(file)
            for key in ("state_dict", "model"):
                if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
                    loaded = loaded[key]
            if not isinstance(loaded, Mapping) or not all(isinstance(value, _Tensor) for value in loaded.values()):
                raise WeightsError(
                    f"weights {path} hold no state dict (names and tensors); save model.state_dict()"
                )  # fmt: skip
            size, values = os.fstat(file.fileno()).st_size, sum(math.prod(tensor.shape) for tensor in loaded.values())
            if values > _MOST_VALUES * size:
                raise ValueError(f"tensors of {values} values in {size} bytes")
            return {str(name): _array(tensor, numbers) for name, tensor in loaded.items()}
    except WeightsError:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise WeightsError(f"weights {path} cannot be read as PyTorch's ({reason}); get the file anew, or save the "
                           "state dict alone") from None  # fmt: skip


def _zipped(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    archive = zipfile.ZipFile(file)
    if sum(member.file_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
        raise ValueError("it is packed, or its parts overlap; PyTorch does not write so")
    (inside,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    folder = inside.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    return _Unpickler(io.BytesIO(archive.read(inside))).load(), lambda key: archive.read(f"{folder}data/{key}")


def _old(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """Five pickles: a magic number, a version, facts of the machine, the content, keys; then each storage."""
    file.seek(0)
    magic, _, machine = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC or not machine["little_endian"]:
        raise ValueError("it is of no known form")
    content = _Unpickler(file)
    loaded = content.load()
    storages: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), "little") * np.dtype(content.kinds[key]).itemsize
        storages[key] = file.read(length)
    return loaded, storages.__getitem__


def _array(tensor: _Tensor, numbers: Callable[[str], bytes]) -> np.ndarray:
    """The array, float32; ValueError where the tensor reaches past its storage."""
    flat: np.ndarray = np.frombuffer(numbers(tensor.storage), tensor.kind)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    if min((*tensor.shape, *tensor.strides, tensor.offset), default=0) < 0 or (0 not in tensor.shape and
                                                                              last >= len(flat)):  # fmt: skip
        raise ValueError(f"a tensor of shape {tensor.shape} is cut off")
    strides = [step * flat.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).astype(np.float32)


class _Unpickler(pickle._Unpickler):
    """Unpickler of dictionaries of tensors and plain values. kinds: type of the numbers of each named storage.

    It is the one in Python: that in C makes a list as long as the largest number of a memo, which a few bytes can give.
    """

    def __init__(self, file: Any):
        super().__init__(file)
        self.kinds: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a tensor")
        return known[module, name]

    def persistent_load(self, found: Any) -> tuple[str, type]:
        _, kind, key, *_ = found
        self.kinds[key] = kind
        return key, kind


def _rebuild(storage: tuple[str, type], offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    return _Tensor(*storage, offset, tuple(shape), tuple(strides))
