"""The content of an input, and its pieces: images that are processed and written together.

The images of a piece depend on the input and the asked size alone. So a resumed run, on other machines or with other
workers, finds the same pieces and does only the missing ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate
from pyarrow import fs

from autofocus_jax.batch.storage import Folder, parent, resolved, split_pattern
from autofocus_jax.data.image import SUFFIXES as IMAGES
from autofocus_jax.errors import InputError

TABLES, SHARDS = (".parquet", ".pq"), (".tar", ".tar.gz", ".tgz")
KINDS = {"images": IMAGES, "Parquet files": TABLES, "tar shards": SHARDS}
BYTES = ("bytes", "image", "image_bytes", "content", "data")  # names of a column of images, the first one there counts
PATHS = ("path", "image_path", "file_name", "uri", "url")
# What reading a Parquet file raises that is damaged, or lies on a disk that is: Arrow tells most damage as an OSError,
# and text that is none when it is looked at. A store that does not answer is a StorageError.
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)


class Piece(NamedTuple):
    """Some of the input's images, in a fixed order."""

    number: int
    kind: str  # of KINDS
    files: tuple[str, ...]  # relative to the input's folder: the images, or the one table or shard
    groups: tuple[int, int] = (0, 0)  # of a table: row groups, first and behind the last
    row: int = 0  # of a table: the first one's number
    images: int | None = None  # None where nobody knows before it is read


class Plan(NamedTuple):
    folder: str  # resolved
    kind: str
    pieces: list[Piece]
    digest: str  # of the names and sizes of all files

    @property
    def images(self) -> int | None:
        """How many there are; None for shards."""
        counts = [piece.images for piece in self.pieces]
        return None if None in counts else sum(counts)


def plan(given: str, size: int) -> Plan:
    """Return the pieces, of about `size` images, of an INPUT: a folder, a file, a glob ("**" crosses folders) or a URI.

    Image files are taken `size` at a time in the order of their names. Whole row groups of Parquet files are taken
    until there are `size` rows. A shard is one piece.

    Raises:
        InputError: INPUT holds no images, or files of several kinds.
    """
    folder, files = _files(given)
    kinds = {kind: [name for name in files if name.lower().endswith(suffixes)] for kind, suffixes in KINDS.items()}
    kinds = {kind: names for kind, names in kinds.items() if names}
    if not kinds:
        raise InputError(f"{given} holds no images, Parquet files or tar shards; check the path")
    if len(kinds) > 1:
        counts = " and ".join(f"{len(names)} {kind}" for kind, names in kinds.items())
        raise InputError(f"{given} holds {counts}; choose one kind with a glob, as '{given.rstrip('/')}/**/*.tar'")
    ((kind, names),) = kinds.items()
    made = {"images": _image_pieces, "Parquet files": _table_pieces, "tar shards": _shard_pieces}[kind]
    pieces = [piece._replace(number=number) for number, piece in enumerate(made(folder, names, size))]
    listing = json.dumps([[name, files[name]] for name in names])
    return Plan(folder.uri, kind, pieces, hashlib.sha256(listing.encode()).hexdigest())


def takes_in(given: str, output: str) -> bool:
    """Return True if files written to `output`, a resolved folder, would be part of an INPUT the next time."""
    base, pattern = split_pattern(resolved(given))
    folder, target = Folder(base), Folder(output)
    root, part = f"{folder.root.rstrip('/')}/", target.path("part-00000000.parquet")
    if not folder.fs.equals(target.fs) or not part.startswith(root):
        return False
    return not pattern or re.fullmatch(glob_translate(pattern), part[len(root) :]) is not None


def _files(given: str) -> tuple[Folder, dict[str, int]]:
    """The folder and the files of it that INPUT means."""
    base, pattern = split_pattern(resolved(given))
    folder = Folder(base)
    if pattern:
        matches = re.compile(glob_translate(pattern)).fullmatch  # "**" crosses folders, "*" and "?" do not
        return folder, {name: size for name, size in folder.files().items() if matches(name)}
    kind = folder.info().type
    if kind == fs.FileType.NotFound:
        raise InputError(f"{given} does not exist; give a folder, a glob in quotes, Parquet files or tar shards")
    if kind == fs.FileType.File:
        base, name = parent(resolved(given))
        folder = Folder(base)
        return folder, {name: folder.info(name).size}
    return folder, folder.files()


def _image_pieces(folder: Folder, names: Sequence[str], size: int) -> Iterator[Piece]:
    for first in range(0, len(names), size):
        members = tuple(names[first : first + size])
        yield Piece(0, "images", members, images=len(members))


def _shard_pieces(folder: Folder, names: Sequence[str], size: int) -> Iterator[Piece]:
    for name in names:
        yield Piece(0, "tar shards", (name,))


def _table_pieces(folder: Folder, names: Sequence[str], size: int) -> Iterator[Piece]:
    with ThreadPoolExecutor(16, thread_name_prefix="footers") as pool:
        for name, groups in zip(names, pool.map(lambda name: _row_groups(folder, name), names)):
            if groups is None:  # reading the piece says why, in a row of the output
                yield Piece(0, "Parquet files", (name,), images=1)
                continue
            first = row = rows = 0
            for number, count in enumerate(groups):
                rows += count
                if rows >= size or (rows and number == len(groups) - 1):
                    yield Piece(0, "Parquet files", (name,), (first, number + 1), row, rows)
                    first, row, rows = number + 1, row + rows, 0


def _row_groups(folder: Folder, name: str) -> list[int] | None:
    """Rows of every row group; None for a damaged file."""
    try:
        with folder.open(name, seekable=True) as file:
            metadata = pq.read_metadata(file)
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    except DAMAGED:
        return None
