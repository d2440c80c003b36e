"""Folders and files on local disks and in object stores (s3://, gs://), through pyarrow's file systems.

pyarrow asks a store that does not answer several times, longer and longer apart, before a call fails.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import fs

from autofocus_jax.batch import local_files
from autofocus_jax.errors import StorageError
from autofocus_jax.files import DRAFTS, WriteError, write_bytes
from autofocus_jax.structures import ImageError

LARGEST = 2**28  # bytes of an image as it is stored; a file that names more is not read

_SCHEMES = ("s3://", "gs://")
_STREAM = 2**23  # bytes of a store's file that are asked for at a time where it is read from its beginning
_LEFT = 3600  # seconds since a file that is half written was last touched, until nobody writes it any more


class Folder:
    """A folder, local or in an object store. Paths in it are relative, with "/" between their parts."""

    def __init__(self, uri: str):
        """Open a folder by a URI that `resolved` returned. Raises StorageError if the URI leads to no file system."""
        self.uri = uri
        self.fs, self.root = _open(uri)
        self.local = isinstance(self.fs, fs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """Return the path that the file system knows a file by."""
        return f"{self.root.rstrip('/')}/{relative}" if relative else self.root

    def files(self) -> dict[str, int]:
        """Return the size in bytes of all files below, by path; hidden ones (a part begins with a dot) are left out.

        A folder that links lead to several times is listed once, under the first of its names. A local name that is not
        UTF-8, which tables of results could not hold, is escaped, as caf\\xe9.jpg; `read` and `open` take it so.

        Raises:
            StorageError: the store does not answer.
        """
        if self.local:
            return local_files.sizes(self.root)
        with self._told():
            found = self.fs.get_file_info(fs.FileSelector(self.root, recursive=True, allow_not_found=True))
        start = len(self.root.rstrip("/")) + 1
        names = {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}
        return {name: names[name] for name in sorted(names) if not re.search(r"(^|/)\.", name)}

    def size(self, relative: str) -> int:
        """Return the size in bytes of a file that `files` lists."""
        return os.path.getsize(local_files.stored(self.path(relative))) if self.local else self.info(relative).size

    def info(self, relative: str = "") -> fs.FileInfo:
        """Return whether the root, or a file in it, is a folder, a file or not there, and its size."""
        with self._told(relative):
            return self.fs.get_file_info(self.path(relative))

    def read(self, relative: str) -> bytes:
        """Return the bytes of an image file.

        Raises:
            ImageError: there is no such file, it must not be read, or a local disk fails.
            StorageError: the store does not answer.
        """
        path = local_files.stored(self.path(relative)) if self.local else self.path(relative)
        try:
            # A device has no end, and a pipe may have nobody who writes into it.
            if self.local and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
                raise ImageError(f"image {relative} is no regular file; leave it out")
            foreign = local_files.foreign(path)
            with open(path, "rb") if foreign else self.fs.open_input_stream(path, compression=None) as file:
                content = file.read(LARGEST + 1)
        except FileNotFoundError:
            raise ImageError(f"image {relative} does not exist; check the input") from None
        except (OSError, ValueError) as error:  # a ValueError is of a name that no file can have
            # pyarrow has no exception of its own for what a store refuses.
            if self.local or isinstance(error, ValueError) or "ACCESS_DENIED" in str(error):
                raise ImageError(f"image {relative} cannot be read ({_reason(error)}); check the input") from None
            raise StorageError(f"{self.uri}, {relative}: {_reason(error)}") from None
        if len(content) > LARGEST:
            raise ImageError(too_large(relative, self.size(relative)))
        return content

    def open(self, relative: str, seekable: bool) -> Any:
        """Open a file to read from; one that is not seekable has a `peek`.

        A store that fails is a StorageError, here and in every read. So any OSError that a reader of the file's format
        raises is of what the file holds, or of a local disk.
        """
        if self.local:
            path = local_files.stored(self.path(relative))
            return self.fs.open_input_file(path) if seekable and not local_files.foreign(path) else open(path, "rb")
        with self._told(relative):
            file = _Stored(self.fs.open_input_file(self.path(relative)), functools.partial(self._told, relative))
        return file if seekable else io.BufferedReader(file, _STREAM)

    def write(self, relative: str, content: Any) -> None:
        """Write a file that appears whole or not at all, in place of one that was there.

        Args:
            relative: its path.
            content: bytes or a pyarrow.Buffer. A local file is renamed into its place; a store shows an object when all
                of it has come.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.path(relative)
        try:
            if not self.local:
                with self.fs.open_output_stream(path, compression=None) as file:
                    file.write(content)
                return
            write_bytes(Path(path), content)
        except WriteError as error:
            raise StorageError(str(error)) from None
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written ({_reason(error)}); check OUTPUT and its free space"
            ) from None

    def sweep(self) -> None:
        """Remove half-written files of killed processes, directly in this folder, that are older than an hour.

        Newer files may belong to a run that is still writing.
        """
        if self.local:
            for draft in Path(self.root).glob(DRAFTS):
                with contextlib.suppress(FileNotFoundError):
                    if draft.stat().st_mtime < time.time() - _LEFT:
                        draft.unlink()

    @contextlib.contextmanager
    def _told(self, relative: str = "") -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.uri}, {relative or 'the folder'}: {_reason(error)}") from None


class _Stored(io.RawIOBase):
    """A store's file as Python's readers want it, whose failures are StorageErrors."""

    def __init__(self, file: Any, told: Any):
        self._file, self._told = file, told

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, target: Any) -> int:
        with self._told():
            return self._file.readinto(target)


def too_large(name: str, size: int) -> str:
    """Return the reason why an image of `size` stored bytes is not read."""
    return f"image {name} is of {size} bytes, above the limit of {LARGEST}; leave it out"


def resolved(uri: str) -> str:
    """Return a local path made absolute, and a URI of a store as it is.

    Settings of a store come from the environment of each process ($AWS_ENDPOINT_URL, $AWS_REGION, …), not from the URI.
    """
    local = re.fullmatch(r"file://[^/]*(/.*)", uri, re.DOTALL)
    if local:
        return urllib.parse.unquote(local[1])
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def split_pattern(uri: str) -> tuple[str, str]:
    """Return (folder, pattern below it) of a resolved glob; the pattern is "" where there is none."""
    parts = uri.split("/")
    first = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    return (uri, "") if first is None else ("/".join(parts[:first]), "/".join(parts[first:]))


def parent(uri: str) -> tuple[str, str]:
    """Return (folder, name) of a resolved file."""
    folder, _, name = uri.rpartition("/")
    return folder or "/", name


@functools.lru_cache(maxsize=16)
def _open(uri: str) -> tuple[fs.FileSystem, str]:
    advice = "give a path, s3://… or gs://…"
    try:
        if "://" not in uri:
            uri.encode()
            return fs.LocalFileSystem(), uri
        if not uri.startswith(_SCHEMES) or re.search(r"[?&]\w+=", uri):
            raise ValueError("not of a known scheme, or with settings")
        return fs.FileSystem.from_uri(uri.replace(" ", "%20"))
    except (ValueError, OSError) as error:  # pyarrow.ArrowInvalid and UnicodeError are ValueErrors
        shown = uri.encode("utf-8", "backslashreplace").decode()
        raise StorageError(f"{shown} leads to no file system ({_reason(error)}); {advice}") from None


def _reason(error: Exception) -> str:
    known = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join(known.split())[:200]
