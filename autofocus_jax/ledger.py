"""Folders of results that know what they depend on, used by one run at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax.errors import LedgerError
from autofocus_jax.files import DRAFTS, WriteError, make_folder, plain, reason, write_json
from autofocus_jax.structures import Dataset

LOCK = "ledger.lock"  # stays in a folder; the operating system's lock on it ends with the process
_VERSION = 1  # of a ledger's note
_SAMPLE = 4096  # bytes
_ABANDONED = 3600  # seconds since a draft was last written, until nobody writes it any more


def digest(content: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of JSON data. 5 and 5.0 give the same digits."""
    same = json.loads(json.dumps(plain(content)), parse_int=float)
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(variables: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of nested dictionaries of arrays, whatever file they came from."""
    sums = hashlib.sha256()

    def add(tree: Mapping[str, Any], prefix: str) -> None:
        for name in sorted(tree):
            if isinstance(tree[name], Mapping):
                add(tree[name], f"{prefix}{name}/")
                continue
            array = np.asarray(tree[name])
            sums.update(f"{prefix}{name} {array.dtype} {array.shape}\n".encode())
            sums.update(array.tobytes())

    add(variables, "")
    return sums.hexdigest()[:16]


def data_identity(
    dataset: Dataset,
    indices: Iterable[int] | None = None,
    contents: bool = False,
    boxes: bool = False,
) -> dict[str, Any]:
    """Return JSON data that identify images and their order.

    Args:
        dataset: the images; none is decoded.
        indices: indices of the images that count; by default all.
        contents: include the size of each file and 4 KiB of its beginning, middle and end, if the dataset has `files`.
            Otherwise names, heights and widths count.
        boxes: include categories, boxes, labels and ignore flags.
    """
    chosen = list(range(len(dataset)) if indices is None else indices)
    infos = [dataset.info(index) for index in chosen]
    names = [[info.file_name, info.height, info.width] for info in infos]
    files = getattr(dataset, "files", ()) if contents else ()
    found = {"images": len(chosen), "names and sizes": digest([names, [_bytes(files[i]) for i in chosen if files]])}
    if files:
        found["samples"] = digest([_sample(files[index]) for index in chosen])
    if boxes:
        sums = hashlib.sha256()
        for truth in map(dataset.ground_truth, chosen):
            sums.update(f"{len(truth.labels)}\n".encode())
            for values, kind in zip(truth, (np.float32, np.int32, bool), strict=True):
                sums.update(np.asarray(values, kind).tobytes())
        found |= {"categories": list(dataset.categories), "boxes": sums.hexdigest()[:16]}
    return found


def differences(before: Any, after: Any) -> list[str]:
    """Return the differences of two pieces of JSON data as lines "key: x -> y", sorted by key."""
    old, new = _flatten(before), _flatten(after)
    shown = ((key, old.get(key, "nothing"), new.get(key, "nothing")) for key in sorted(old.keys() | new.keys()))
    return [f"{key}: {was} -> {now}" for key, was, now in shown if was != now]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for this run. The lock ends with the process.

    Raises:
        LedgerError: another run holds the folder; the message names its process.
        WriteError: the folder cannot be written.
    """
    path = make_folder(folder) / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({reason(error)}); choose another folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 200, 0).decode(errors="replace").strip()
            raise LedgerError(f"{folder} is in use by {owner or 'another run'}; wait for its end, or choose another "
                              "folder") from None  # fmt: skip
        except OSError as error:  # some network disks have no locks
            warnings.warn(f"{folder} cannot be locked ({reason(error)}); let no other run use it now", stacklevel=4)
        with contextlib.suppress(OSError):  # on a full disk the name is missing in the other run's message
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """A folder of results whose note (FOLDER/NOTE) says what the results depend on.

    Attributes:
        folder: need not exist.
        depends_on: JSON data: settings, weights_digest, data_identity …
        note: file name of the note.
        makes: globs of the result files, relative to the folder. Only such files are ever removed, and never a folder.
            With globs, the folder must be new, empty or made by a ledger. Without globs, any folder is accepted and
            nothing is removed.
        fix: advice for a user whose folder holds other results; ends the error message.
        upgrade: converts the note of an older version. Without it, folders of older versions are refused.
    """

    folder: Path
    depends_on: Mapping[str, Any]
    note: str = "ledger.json"
    makes: tuple[str, ...] = ()
    fix: str = "choose another folder"
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def recorded(self) -> dict[str, Any] | None:
        """Return what the results in the folder depend on, or None without a note.

        Raises:
            LedgerError: the note is damaged or of another version.
        """
        path = self.folder / self.note
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("ledger", None)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise LedgerError(f"{path} is damaged ({reason(error)}); put it back, or {self.fix}") from None
        if version not in (_VERSION, None):
            raise LedgerError(f"{self.folder} was made by another version of this program; update it, or {self.fix}")
        if version is None and self.upgrade is None:
            raise LedgerError(f"{self.folder} was made by an older version of this program; remove the folder, or "
                              f"{self.fix}")  # fmt: skip
        return content

    def changes(self) -> list[str]:
        """Return the differences between the recorded and the present dependences: lines "key: before -> now"."""
        before = self.recorded()
        if before is None:
            return []
        return differences(self.upgrade(before) if self.upgrade else before, plain(self.depends_on))

    @contextlib.contextmanager
    def claim(self, anew: bool = False, accept: bool = False) -> Iterator[list[str]]:
        """Make or continue the folder and lock it while the block runs. Yields the changes that were accepted.

        Args:
            anew: remove the existing results.
            accept: continue although the results depend on something else, and update the note.

        Raises:
            LedgerError: the folder holds other results or foreign files, or another run holds it.
            WriteError: the folder cannot be written.
        """
        if self.makes and self.recorded() is None and (stranger := self._stranger()):
            raise LedgerError(f"{self.folder} was not made by this version of the program: it holds {stranger}; move "
                              f"the folder away, or {self.fix}")  # fmt: skip
        with locked(self.folder):
            changed = self.changes()
            if changed and not anew and not accept:
                raise LedgerError(f"{self.folder} holds results of other settings or inputs ({'; '.join(changed)}); "
                                  f"{self.fix}")  # fmt: skip
            self._sweep(anew)
            now = {**plain(self.depends_on), "ledger": _VERSION}
            if self.recorded() != plain(self.depends_on):
                write_json(self.folder / self.note, now)
            yield [] if anew else changed

    def _stranger(self) -> str | None:
        """The name of a file or folder that no claim of a ledger leaves in a folder without a note."""
        entries = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return next((entry.name for entry in entries if entry.name != LOCK and not entry.match(DRAFTS)), None)

    def _sweep(self, results: bool) -> None:
        """Remove the drafts of killed runs and, if asked for, the results."""
        for pattern in ("*", *self.makes):
            for draft in self.folder.glob(str(Path(pattern).with_name(DRAFTS))):
                with contextlib.suppress(FileNotFoundError):
                    if draft.is_file() and draft.stat().st_mtime < time.time() - _ABANDONED:
                        draft.unlink()
        for pattern in self.makes if results else ():
            for path in self.folder.glob(pattern):
                if path.is_file() and not path.parent.is_symlink():
                    path.unlink()


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    nested = isinstance(tree, dict) or (isinstance(tree, list) and any(isinstance(item, dict) for item in tree))
    if not nested or (prefix and not tree):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _sample(path: str | os.PathLike) -> str | None:
    """A digest of 4 KiB of the beginning, the middle and the end of a file."""
    sums = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            for start in (0, size // 2, max(0, size - _SAMPLE)):
                file.seek(start)
                sums.update(file.read(_SAMPLE))
    except OSError:
        return None
    return sums.hexdigest()


def _bytes(path: str | os.PathLike) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
