"""The images of a piece, each with a reader. The caller of the reader fetches and decodes the image."""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autofocus_jax.batch.plan import BYTES, DAMAGED, PATHS, Piece
from autofocus_jax.batch.storage import LARGEST, Folder, StorageError, parent, resolved, too_large
from autofocus_jax.data.image import SUFFIXES, decode_image
from autofocus_jax.structures import ImageError

Reader = Callable[[], np.ndarray]  # gives an image, uint8 RGB [h, w, 3], or raises ImageError

_ROWS = 32  # of a Parquet file that are read at a time
_BUFFER = 2**23  # bytes of a column of a Parquet file, or behind the end of a shard, that are read at a time
_UNPACKED, _RATIO = 2**32, 200  # bytes that any shard may unpack to, and more for each of its packed ones
_HEADER = 2**20  # bytes of a header of a shard that gives a long name or settings
_HELD = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def images(folder: Folder, piece: Piece, anywhere: bool = False) -> Iterator[tuple[str, Reader]]:
    """Yield (id, reader) of every image of a piece, in order.

    The id is the path below the input's folder for an image file, and the paths of shard and member for a shard. For a
    Parquet file it is the value of the column `id`, or else the path, "#" and the number of the row. If reading a shard
    or a Parquet file fails midway, one more image, named after the file, stands for the rest; its reader raises
    ImageError with the reason.

    Args:
        folder: folder of the input.
        piece: which of its images.
        anywhere: accept paths in a Parquet file that are absolute, URIs or lead out of the input's folder. The author
            of the table chooses the paths, so by default each such row is an error.
    """
    if piece.kind == "images":
        return ((name, partial(_decoded, folder, name)) for name in piece.files)
    return _table(folder, piece, anywhere) if piece.kind == "Parquet files" else _shard(folder, piece.files[0])


def _table(folder: Folder, piece: Piece, anywhere: bool) -> Iterator[tuple[str, Reader]]:
    name, row = piece.files[0], piece.row
    try:
        with folder.open(name, seekable=True) as file:
            # By default the whole row group's bytes are held, whatever the size of a batch.
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
            column, names = _image_column(table.schema_arrow), "id" in table.schema_arrow.names
            if column is None:
                known = ", ".join(table.schema_arrow.names)
                raise ImageError(f"{name} has no column of images or of their paths ({', '.join((*BYTES, *PATHS))}); "
                                 f"it has {known}")  # fmt: skip
            wanted = [column, "id"] if names else [column]
            # The planner gives no groups of a file that it could not read; it may have been the disk.
            groups = list(range(*piece.groups) if any(piece.groups) else range(table.num_row_groups))
            for batch in table.iter_batches(_ROWS, groups, columns=wanted, use_threads=False):
                ids = batch.column("id") if names else itertools.repeat(pa.scalar(None))
                for given, value in zip(ids, batch.column(column)):
                    place = f"{name}#{row}"
                    yield _text(given) or place, _value(folder, value.as_py(), place, anywhere)
                    row += 1
    except ImageError as error:
        yield name, partial(_raise, str(error))
    except DAMAGED as error:
        reason = f"{name} cannot be read from row {row} on ({error}); copy it again"
        yield name, partial(_raise, " ".join(reason.split()))


def _shard(folder: Folder, name: str) -> Iterator[tuple[str, Reader]]:
    seen = 0
    try:
        with folder.open(name, seekable=False) as file, _opened(file) as shard:
            most = _UNPACKED + _RATIO * folder.size(name)
            members = 0
            for member in shard:
                members += 1
                # The offset is where the next header begins: the bytes that passing over this member would unpack.
                if shard.offset > most:
                    raise tarfile.ReadError(f"it unpacks to more than {most} bytes")
                if not (member.isfile() or member.issym() or member.islnk()):
                    continue
                if not member.name.lower().endswith(SUFFIXES):
                    continue
                # Names of other encodings come as surrogates, which no table holds.
                path = f"{name}/{PurePosixPath(member.name)}".encode("utf-8", "backslashreplace").decode()
                if not member.isfile():
                    fix = "put the file itself there, or leave the link out"
                    reader = partial(_raise, f"image {path} is a link to {member.linkname!r} in its archive; {fix}")
                elif member.size > LARGEST:
                    reader = partial(_raise, too_large(path, member.size))
                else:
                    reader = partial(decode_image, shard.extractfile(member).read(), path, oriented=True)
                seen += 1
                yield path, reader
            if not members:
                raise tarfile.ReadError("it holds nothing")
            # A block of zeros marks the end; it is a hole, as downloads leave them, where anything follows.
            unpacked = shard.offset
            while block := shard.fileobj.read(_BUFFER):
                unpacked += len(block)
                if unpacked > most:
                    raise tarfile.ReadError(f"it unpacks to more than {most} bytes")
                if block.strip(b"\0"):
                    raise tarfile.ReadError("zeros in place of a header")
    except (
        tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, TypeError, OverflowError
    ) as error:  # fmt: skip
        reason = f"shard {name} ends after {seen} images ({error}); copy it again"
        yield name, partial(_raise, " ".join(reason.split()))


def _opened(file: io.BufferedReader) -> tarfile.TarFile:
    """Open a shard that may be packed with gzip, and with nothing else.

    Python's gzip makes its checks and reads files of several parts to the end; tarfile would not. tarfile would also
    unpack a packed file once more, and formats that expand a million times.
    """
    unzipped: Any = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(b"\x1f\x8b") else file
    return tarfile.open(fileobj=unzipped, mode="r|", tarinfo=_Checked)


class _Checked(tarfile.TarInfo):
    """Headers of a shard; one that is damaged or missing is an error, where tarfile takes it for the end."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> _Checked:
        info = super().frombuf(*arguments)
        # tarfile holds such a header whole: long names, and tables of settings.
        if info.type in _HELD and info.size > _HEADER:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info

    @classmethod
    def fromtarfile(cls, shard: tarfile.TarFile) -> _Checked:
        try:
            return super().fromtarfile(shard)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in typeshed
            raise  # the mark of the end
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _image_column(schema: pa.Schema) -> str | None:
    """The column that holds the images or their paths."""
    for name in (*BYTES, *PATHS):
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) or any(
                test(kind)
                for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
            ):
                return name
    return None


def _text(given: pa.Scalar) -> str | None:
    """Return an id as text; None for null. Times that Python cannot hold are the numbers that are stored."""
    try:
        value = given.as_py()
    except (ValueError, OverflowError):
        value = given.value
    return None if value is None else str(value)


def _value(folder: Folder, value: Any, name: str, anywhere: bool) -> Reader:
    """Return a reader of a cell's value: bytes, a path, or a struct of both, as in Hugging Face's data sets."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        if len(value) > LARGEST:
            return partial(_raise, too_large(name, len(value)))
        return partial(decode_image, value, name, oriented=True)
    if not value:
        return partial(_raise, f"image {name} is null; leave the row out")
    if not isinstance(value, str):
        return partial(_raise, f"image {name} is of type {type(value).__name__}; want bytes or a path")
    if "://" in value or value.startswith("/") or ".." in value.split("/"):
        if not anywhere:
            return partial(_raise, f"image {name} has the path {value!r}, which is no path below the input's folder; "
                                   "paths elsewhere are read only if that is asked for")  # fmt: skip
        return partial(_elsewhere, folder, value, name)
    return partial(_decoded, folder, value)


def _decoded(folder: Folder, name: str) -> np.ndarray:
    return decode_image(folder.read(name), name, oriented=True)


def _elsewhere(folder: Folder, path: str, name: str) -> np.ndarray:
    """The image of an absolute path, a URI or a path that leads upwards; ImageError for one that leads nowhere.

    A URI with settings is refused always: an `endpoint_override` sends requests signed with the worker's credentials
    to whatever host it names.
    """
    if "://" in path and re.search(r"[?&][^/]*=", path):
        raise ImageError(f"image {name} has the URI {path!r} with settings; give it without")
    if "://" not in path and not path.startswith("/"):
        return _decoded(folder, path)
    try:
        base, relative = parent(resolved(path))
        folder = Folder(base)
    except (StorageError, ValueError) as error:  # a ValueError is urllib's
        raise ImageError(f"image {name} cannot be read: {error}") from None
    return _decoded(folder, relative)


def _raise(reason: str) -> np.ndarray:
    raise ImageError(reason)
