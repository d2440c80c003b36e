"""MXNet's .params files, lists of named NDArrays, in plain NumPy.

Layout, little-endian (MXNet's ndarray.cc): uint64 0x112, uint64 0, uint64 count, the arrays, uint64 count, the names,
each a uint64 length and its bytes. The first uint32 of an array tells its version:

- 0xF993FACA (V3, 2019, NumPy semantics) and 0xF993FAC9 (V2, 2017): int32 storage type, shape, context, type, values
- 0xF993FAC8 (V1, 2017): the same without the storage type
- any other number (before 2017): it is the number of dimensions itself, and the dimensions are uint32

A shape is an int32 number of dimensions (-1: unknown) and int64 dimensions; a context is two int32 (device, number); a
type is an int32. An array without values (no shape, or one of 0 dimensions before V3) ends after its shape.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autofocus_jax.files import require_regular
from autofocus_jax.weights.safetensors import WeightsError

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA

_DENSE = 0
_STORAGE = {-1: "undefined", 1: "row_sparse", 2: "csr"}
_TYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?", "<i2", "<u2", "<u4", "<u8")  # mshadow's type flags
_MOST_DIMENSIONS = 32
_MOST_VALUES = 2**40  # if the sides of 0 were 1: the length of the file does not bound the others


def read(path: str | os.PathLike, progress: Callable[[int, int], None] | None = None) -> dict[str, np.ndarray]:
    """Return arrays by name, in the file's order. Arrays are read-only views of the file, of the file's types.

    Args:
        path: the .params file.
        progress: called with (done, total) after each array.

    Raises:
        WeightsError: the file is missing, truncated or no list of NDArrays, or holds sparse or empty arrays or types
            that NumPy lacks.
    """
    try:
        require_regular(path)
        with open(path, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}); give an MXNet .params file") from None
    reader = _Reader(data, Path(path))
    if reader.number("<Q", "its magic number") != LIST_MAGIC:
        raise WeightsError(f"weights {path} are no list of MXNet arrays (their magic number is another); "
                           "give a .params file written by mx.nd.save")  # fmt: skip
    reader.number("<Q", "its header")
    count = reader.number("<Q", "its number of arrays")
    arrays = []
    for index in range(count):
        arrays.append(_array(reader, f"array {index + 1} of {count}"))
        if progress is not None:
            progress(index + 1, count)
    names = _names(reader, count)
    if reader.left:
        raise reader.broken(f"has {reader.left} bytes after its end")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Reader of numbers and bytes from the front of a file. Missing bytes raise WeightsError."""

    def __init__(self, data: bytes | mmap.mmap, path: Path):
        self.data, self.path, self.position = data, path, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def skip(self, size: int, what: str) -> int:
        """Passes `size` bytes and returns where they begin."""
        if size > self.left:
            raise self.broken(f"ends inside {what} ({size} bytes wanted, {self.left} left)")
        start = self.position
        self.position += size
        return start

    def number(self, layout: str, what: str) -> int:
        return self.numbers(layout, 1, what)[0]

    def numbers(self, layout: str, count: int, what: str) -> tuple[int, ...]:
        layout = f"{layout[0]}{count}{layout[1:]}"
        return struct.unpack_from(layout, self.data, self.skip(struct.calcsize(layout), what))

    def broken(self, why: str) -> WeightsError:
        return WeightsError(f"weights {self.path} are truncated or damaged: the file {why}; get the file anew")


def _array(reader: _Reader, what: str) -> np.ndarray:
    version = reader.number("<I", what)
    if version in (V2, V3):
        storage = reader.number("<i", f"the storage type of {what}")
        if storage != _DENSE:
            kind = _STORAGE.get(storage, f"of the unknown storage type {storage}")
            raise WeightsError(f"weights {reader.path}: {what} is {kind}, want dense; use tostype('default')")
    shape = _shape(reader, version, what)
    if shape is None:
        raise WeightsError(f"weights {reader.path}: {what} is empty (it has no shape); save the network initialised")
    reader.skip(8, f"the context of {what}")
    flag = reader.number("<i", f"the type of {what}")
    if not 0 <= flag < len(_TYPES):
        raise WeightsError(f"weights {reader.path}: {what} has the unknown type {flag}; want float16, float32, "
                           "float64, bool or integers; cast it with astype('float32')")  # fmt: skip
    dtype = np.dtype(_TYPES[flag])
    size = math.prod(shape)
    start = reader.skip(size * dtype.itemsize, f"the values of {what}, shape {_shown(shape)} {dtype.name}")
    values = np.frombuffer(reader.data, dtype, size, start) if size else np.zeros(0, dtype)
    return values.reshape(shape)


def _shape(reader: _Reader, version: int, what: str) -> tuple[int, ...] | None:
    """None for an array without values."""
    where = f"the shape of {what}"
    modern = version in (V1, V2, V3)
    count = reader.number("<i", where) if modern else version
    if count == -1 or (count == 0 and version != V3):
        return None
    if not 0 <= count <= _MOST_DIMENSIONS:
        raise reader.broken(f"gives {what} {count} dimensions")
    shape = reader.numbers("<q" if modern else "<I", count, where) if count else ()
    if min(shape, default=0) < 0 or (0 in shape and math.prod(filter(None, shape)) > _MOST_VALUES):
        raise reader.broken(f"gives {what} the shape {_shown(shape)}")
    return shape


def _names(reader: _Reader, arrays: int) -> list[str]:
    count = reader.number("<Q", "its number of names")
    if count != arrays:
        raise reader.broken(f"has {count} names for {arrays} arrays")
    names = []
    for index in range(count):
        what = f"name {index + 1} of {count}"
        size = reader.number("<Q", f"the length of {what}")
        start = reader.skip(size, what)
        try:
            names.append(reader.data[start : start + size].decode("utf-8"))
        except UnicodeDecodeError:
            raise reader.broken(f"has a {what} that is no text") from None
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise reader.broken(f"names two arrays {name!r}")
        seen.add(name)
    return names


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
