"""Files and folders: reading regular files, writing whole or not at all, JSON, NumPy archives, the cache folder."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax.errors import WriteError

DRAFTS = ".*.partial*"  # names of files that are being written


@contextlib.contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a draft path. The draft becomes `path` when the block ends and is removed when the block fails.

    Args:
        path: the file; its folder is made. The draft lies beside it and has the same suffix, by which some writers
            choose the format.
        sync: wait until the content is on the disk, so that a power cut leaves no half file. Without `sync`, many small
            files are written faster.

    Raises:
        WriteError: the file system refuses; an earlier file stays as it was.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}.partial{path.suffix}")  # short, however long the name is
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        if sync:
            _sync(draft)
        os.replace(draft, path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({reason(error)}); check the folder and the free space") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty draft folder. The draft becomes `path` when the block ends and is removed when the block fails.

    If another process made `path` meanwhile, that folder stays and the draft is removed.

    Raises:
        OSError: the file system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        draft.mkdir()
        yield draft
        try:
            os.rename(draft, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_bytes(path: Path, content: bytes | np.ndarray, sync: bool = True) -> Path:
    """Write a file whole or not at all and return its path. Raises WriteError."""
    with whole_file(path, sync) as draft:
        draft.write_bytes(content)  # type: ignore[arg-type]  # NumPy does not say that arrays are buffers
    return path


def write_text(path: Path, text: str, sync: bool = True) -> Path:
    """Write a UTF-8 file whole or not at all and return its path. Raises WriteError."""
    return write_bytes(path, text.encode(), sync)


def write_json(path: Path, content: Any) -> Path:
    """Write JSON whole or not at all and return its path. Raises WriteError.

    NaN and infinities, which JSON lacks, become null. NumPy's numbers and arrays become numbers and lists.
    """
    return write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, Any], compress: bool = True) -> Path:
    """Write arrays to a NumPy archive, whole or not at all, and return its path. Raises WriteError."""
    with whole_file(path) as draft, draft.open("wb") as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)
    return path


def read_regular(path: str | os.PathLike, limit: float = math.inf) -> bytes:
    """Return the content of a regular file.

    Devices, pipes and sockets are refused before they are opened, because reading one may never end.

    Args:
        path: the file; links are followed.
        limit: most bytes that the file may have.

    Raises:
        OSError: the file cannot be read, is no regular file or is too large; `strerror` says why.
        ValueError: no system takes this path, for example one with a null character.
    """
    require_regular(path, limit)
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        _require_regular(status, limit)  # the path may lead elsewhere by now
        return file.read(status.st_size)  # a buffer of `limit` bytes would be made before it is filled


def require_regular(path: str | os.PathLike, limit: float = math.inf) -> None:
    """Raise OSError unless the path leads to a regular file of at most `limit` bytes. Nothing is opened."""
    _require_regular(os.stat(path), limit)


def _require_regular(status: os.stat_result, limit: float) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, above the limit of {limit}")


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return all arrays of a NumPy archive, by name.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged or no archive.
    """
    require_regular(path)
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except Exception as error:  # of zipfile, zlib, tokenize …: a wrong byte shows wherever it happens to lie
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"damaged, or no archive of NumPy: {reason[:200]}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy gives the bytes of what does not begin as an array
            raise ValueError(f"damaged, or no archive of NumPy: {name[:200]!r} is no array")
    return arrays


def make_folder(path: Path) -> Path:
    """Make a folder with its parents, unless it exists, and return it. Raises WriteError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"folder {path} cannot be made ({reason(error)}); choose another folder") from None
    return path


def cache_folder() -> Path:
    """Return $AUTOFOCUS_CACHE, else $XDG_CACHE_HOME/autofocus_jax, else ~/.cache/autofocus_jax. No folder is made."""
    if named := os.environ.get("AUTOFOCUS_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "autofocus_jax"


def plain(value: Any) -> Any:
    """Return a value as dictionaries, lists, numbers and text that JSON knows (see write_json)."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: Exception) -> str:
    """Return the cause of an error in one line, without the path that OSError adds."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
