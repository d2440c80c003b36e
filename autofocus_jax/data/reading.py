"""Files and folders that data name: limits of their sizes, folders with their links, names in other forms."""

from __future__ import annotations

import collections
import logging
import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

LARGEST_IMAGE = 2**30  # bytes of an encoded image file
LARGEST_TEXT = 2**26  # bytes of a file of labels, an XML file, a list or a YAML file
LARGEST_TABLE = 2**33  # bytes of a JSON file of annotations, also once it is expanded

log = logging.getLogger("autofocus_jax.data")


def walk(folder: str | os.PathLike, suffixes: Collection[str]) -> list[Path]:
    """Return the files below a folder, sorted, whose lower-case suffix is one of `suffixes`.

    - Links to folders are followed. If several paths lead to a folder, it is read once, by a path without links if
      there is one. The other paths are logged.
    - Hidden files and folders are skipped: macOS leaves `._NAME` beside NAME on foreign disks.
    - Devices and broken links are returned as files; reading them gives the error.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders, links = collections.deque([Path(folder)]), collections.deque[Path]()
    while folders or links:
        place = folders.popleft() if folders else links.popleft()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                log.warning("%s leads to a folder that is looked at already; it is passed over", place)
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(place))
        except OSError as error:
            log.warning("folder %s cannot be read (%s); it is passed over", place, error.strerror)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = place / entry.name
            if path.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in suffixes:
                found.append(path)
    return sorted(found)


class Listings:
    """Contents of folders. Each folder is listed once, which is faster than a query for each file."""

    def __init__(self):
        self._names: dict[str, frozenset[str]] = {}
        self._forms: dict[str, dict[str, str]] = {}

    def find(self, path: Path) -> Path | None:
        """Return the path under which a file exists, or None.

        The file may have the other Unicode form of its name: macOS stores decomposed names, annotations hold composed
        names.
        """
        folder, name = os.path.split(path)
        if name in self._listed(folder) or os.path.lexists(path):
            return path
        if not folder or folder == str(path):
            return None
        if not os.path.isdir(folder):
            other = self.find(Path(folder))
            return None if other is None or str(other) == folder else self.find(other / name)
        if folder not in self._forms:
            self._forms[folder] = {unicodedata.normalize("NFC", other): other for other in self._listed(folder)}
        stored = self._forms[folder].get(unicodedata.normalize("NFC", name))
        return None if stored is None else Path(folder) / stored

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = frozenset()
        return self._names[folder]
