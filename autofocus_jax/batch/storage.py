"""Folders and files on local disks and in object stores (s3://, gs://), through pyarrow's file systems."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import time
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from pyarrow import fs

from autofocus_jax.batch.stored_file import StoredFile
from autofocus_jax.structures import AutoFocusError, ImageError

Answer = TypeVar("Answer")

LARGEST = 2**28  # bytes of an image as it is stored; a file that names more is not read

_MAGIC = re.compile(r"[*?\[]")
_TRIES = 4  # of what an object store refuses
_STREAM = 2**23  # bytes of a store's file that are asked for at a time where it is read from its beginning
_LEFT = 3600  # seconds since a file that is half written was last touched, until nobody writes it any more
_PARTIAL = re.compile(r"^\.(.+)\.[0-9a-f]{32}\.partial$")  # names of files that are being written


class StorageError(AutoFocusError):
    """A folder or file cannot be reached; not the fault of a single image."""


class UriError(StorageError):
    """A text that leads to no folder or file, whatever a store answers."""


class Folder:
    """A folder, local or in an object store. Paths in it are relative, with "/" between their parts."""

    def __init__(self, uri: str):
        """uri: as `resolved` gives it. Raises UriError for one that leads to no file system, else StorageError."""
        self.uri = uri
        self.fs, self.root = _open(uri)
        self.local = isinstance(self.fs, fs.LocalFileSystem)

    def __reduce__(self):
        return Folder, (self.uri,)

    def path(self, relative: str) -> str:
        return f"{self.root.rstrip('/')}/{relative}" if relative else self.root

    def files(self) -> dict[str, int]:
        """Size in bytes of all files below, by path; hidden ones (a part that begins with a dot) are passed over.

        A folder that links lead to several times is listed once, under the first of its names. Raises StorageError, also
        for a name that is not UTF-8: tables of results could not hold it.
        """
        if self.local:
            return _local_files(self.root)
        selector = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        found = self._try(lambda: self.fs.get_file_info(selector), "")
        start = len(self.root.rstrip("/")) + 1
        names = {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}
        return {name: names[name] for name in sorted(names) if not re.search(r"(^|/)\.", name)}

    def kind(self) -> fs.FileType:
        """Whether the root is a folder, a file or not there."""
        return self._try(lambda: self.fs.get_file_info(self.root), "").type

    def read(self, relative: str) -> bytes:
        """The bytes of an image file; ImageError where there is none, StorageError where the store does not answer."""
        try:
            return self._read(relative) if self.local else self._try(lambda: self._read(relative), relative)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            reason = {FileNotFoundError: "does not exist", PermissionError: "must not be read"}.get(type(error))
            raise ImageError(f"image {relative} {reason or 'is a folder'}; check the input") from None
        except (OSError, ValueError) as error:  # of a local disk, or of a name that no file can have
            raise ImageError(f"image {relative} cannot be read ({_reason(error)}); check the input") from None

    def open(self, relative: str, seekable: bool) -> Any:
        """A file to read from, to be closed, and one with a `peek` unless it is seekable. Raises OSError where there is
        none, or a local disk fails.

        A store that does not answer is asked again, here and in every read, and then, or if it refuses, is a
        StorageError. So any OSError that a reader of the file's format raises is of what the file holds, or of a local
        disk.
        """
        if self.local:
            path = self.path(relative)
            return self.fs.open_input_file(path) if seekable else open(path, "rb")

        def ask(call: Callable[[], Answer]) -> Answer:
            try:
                return self._try(call, relative)
            except PermissionError as error:  # of one file among many, more likely of credentials than of the file
                raise StorageError(
                    f"{self.uri}, {relative} must not be read ({error}); check the credentials"
                ) from None

        file = StoredFile(lambda: self.fs.open_input_file(self.path(relative)), ask)
        return file if seekable else io.BufferedReader(file, _STREAM)

    def write(self, relative: str, content: Any) -> None:
        """Writes a file that appears whole or not at all, in place of one that was there; StorageError if it cannot.

        content: bytes or a pyarrow.Buffer. A local file is renamed into its place; a store shows an object when all of
        it has come.
        """
        path = self.path(relative)
        try:
            if not self.local:
                self._try(lambda: self._put(path, content), relative)
                return
            folder, name = os.path.split(path)
            partial = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.partial")
            os.makedirs(folder, exist_ok=True)
            try:
                with open(partial, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())  # or a power cut may leave the name without the content
                os.replace(partial, path)
            except BaseException:
                if os.path.exists(partial):
                    os.unlink(partial)
                raise
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written ({_reason(error)}); check OUTPUT and its free space"
            ) from None

    def sweep(self) -> None:
        """Removes what processes that were killed left half written, directly in this folder, an hour ago or more.

        What is newer may be another run's, which still writes it.
        """
        if self.local and os.path.isdir(self.root):
            for entry in os.scandir(self.root):
                with contextlib.suppress(FileNotFoundError):
                    if _PARTIAL.match(entry.name) and entry.stat().st_mtime < time.time() - _LEFT:
                        os.unlink(entry.path)

    def size(self, relative: str) -> int:
        """Bytes of a file, 0 where there is none."""
        return self._try(lambda: self.fs.get_file_info(self.path(relative)), relative).size or 0

    def _read(self, relative: str) -> bytes:
        path = self.path(relative)
        # A device has no end, and a pipe may have nobody who writes into it.
        if self.local and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ImageError(f"image {relative} is no regular file; leave it out")
        with self.fs.open_input_stream(path, compression=None) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ImageError(too_large(relative, self.size(relative)))
        return content

    def _put(self, path: str, content: Any) -> None:
        with self.fs.open_output_stream(path, compression=None) as file:
            file.write(content)

    def _try(self, call: Callable[[], Answer], relative: str) -> Answer:
        """What `call` returns; a store that does not answer is asked again, longer and longer apart."""
        for attempt in range(_TRIES):
            try:
                return call()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
                raise
            except OSError as error:
                if "ACCESS_DENIED" in str(error):
                    raise PermissionError(_reason(error)) from None
                if self.local or attempt == _TRIES - 1:
                    raise StorageError(f"{self.uri}, {relative or 'the folder'}: {_reason(error)}") from None
                time.sleep(0.5 * 2**attempt)
        raise AssertionError  # the last attempt returns or raises


def too_large(name: str, size: int) -> str:
    """The reason why an image of `size` stored bytes is not read."""
    return f"image {name} is of {size} bytes, above the limit of {LARGEST}; leave it out"


def resolved(uri: str) -> str:
    """A local path made absolute; a URI of a store as it is, S3's with the endpoint of $AWS_ENDPOINT_URL, if set.

    So the same text means the same place in every process of a cluster.
    """
    if "://" not in uri:
        return os.path.abspath(os.path.expanduser(uri))
    local = re.fullmatch(r"file://[^/]*(/.*)", uri, re.DOTALL)
    if local:
        return urllib.parse.unquote(local[1])
    body, query = _without_query(uri)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if uri.startswith("s3://") and endpoint and "endpoint_override" not in query:
        query += ("&" if query else "?") + urllib.parse.urlencode({"endpoint_override": endpoint}, safe=":/")
    return body + query


def split_pattern(uri: str) -> tuple[str, str]:
    """(folder, pattern below it) of a resolved glob; the pattern is "" where there is none."""
    body, query = _without_query(uri)
    parts = body.split("/")
    first = next((number for number, part in enumerate(parts) if _MAGIC.search(part)), None)
    if first is None:
        return uri, ""
    return "/".join(parts[:first]) + query, "/".join(parts[first:])


def parent(uri: str) -> tuple[str, str]:
    """(folder, name) of a resolved file."""
    body, query = _without_query(uri)
    folder, _, name = body.rpartition("/")
    return (folder or "/") + query, name


def _without_query(uri: str) -> tuple[str, str]:
    """A URI's settings ("?region=…") taken off; "?" is also the sign of a glob."""
    match = re.search(r"\?[a-z_]+=", uri) if "://" in uri else None
    return (uri[: match.start()], uri[match.start() :]) if match else (uri, "")


@functools.lru_cache(maxsize=16)
def _open(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        if "://" not in uri:
            uri.encode()
            return fs.LocalFileSystem(), uri
        return fs.FileSystem.from_uri(uri.replace(" ", "%20"))
    except (ValueError, OSError) as error:  # pyarrow.ArrowInvalid and UnicodeError are ValueErrors
        forever = isinstance(error, ValueError) or re.search("Bucket '.*' not found", str(error))
        shown = uri.encode("utf-8", "backslashreplace").decode()
        raise (UriError if forever else StorageError)(
            f"{shown} leads to no file system ({_reason(error)}); give a path, s3://… or gs://…"
        ) from None


def _local_files(root: str) -> dict[str, int]:
    """Size in bytes of the regular files below a local folder, by path, without hidden ones."""
    files, seen = {}, set()
    for folder, below, names in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        # Real folders come before links, so that a link never takes the place of what it leads to.
        below.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        kept = []
        for name in below:
            target = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and target not in seen:
                seen.add(target)
                kept.append(name)
        below[:] = kept
        for name in (*names, *below):
            path = os.path.join(folder, name)
            if re.search("[\udc80-\udcff]", name):
                raise StorageError(f"{ascii(path)[1:-1]} has a name that is not UTF-8; rename it")
            if not name.startswith(".") and os.path.isfile(path):
                files[os.path.relpath(path, root)] = os.path.getsize(path)
    return dict(sorted(files.items()))


def _reason(error: Exception) -> str:
    known = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join(known.split())[:200]
