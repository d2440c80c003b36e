"""From the PATHs of a command line to images and videos, each with a name for its results."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from autofocus_jax.data.image import SUFFIXES
from autofocus_jax.data.reading import walk
from autofocus_jax.errors import InputError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class Item(NamedTuple):
    """An image or a video."""

    path: Path
    name: str  # of its results: a relative path without suffix, unlike every other item's
    file_name: str  # what the results call it: a relative path
    video: bool


def collect(paths: Sequence[str]) -> list[Item]:
    """Return the images and videos of files, folders (with all that is below them) and globs, in a stable order.

    Each file comes once, also where several paths or links lead to it. In a folder everything without the suffix of an
    image or a video is passed over, and so are hidden files; links to folders are followed (data.reading.walk). A file
    that is named itself is taken as it is. A file is called by its path below the folder that was given, or, of several
    folders, below the folder that holds them all. Raises InputError, which names the PATH, when one leads to nothing.
    """
    found: dict[str, Path] = {}  # by what it really is
    bases: dict[str, str] = {}  # of the folders that were given, by what they really are
    for given in paths:
        files = list(_files(given))
        if not files:
            raise InputError(_nothing(given))
        for path, base in files:
            found.setdefault(os.path.realpath(path), path.absolute())
            bases.setdefault(os.path.realpath(base), os.path.abspath(base))
    common = Path(os.path.commonpath(bases.values())) if bases else Path()
    items: list[Item] = []
    taken: set[str] = set()
    for path in found.values():
        whole = Path(os.path.abspath(path))
        relative = whole.relative_to(common) if whole.is_relative_to(common) else Path(path.name)
        # A name of bytes that are no UTF-8 would end writers and OpenCV; results call it with the bytes escaped.
        relative = Path(os.fsencode(relative).decode("utf-8", "backslashreplace"))
        name = _free(Path(*map(shortened, relative.parts)), taken)
        taken.add(name)
        items.append(Item(path, name, relative.as_posix(), path.suffix.lower() in VIDEOS))
    return items


def shortened(part: str) -> str:
    """A name that a file system takes with other suffixes: above 200 bytes its beginning and a digest of all of it."""
    content = part.encode()
    if len(content) <= 200:
        return part
    return content[:160].decode(errors="ignore") + hashlib.sha256(content).hexdigest()[:16] + Path(part).suffix[:16]


def _files(given: str) -> Iterator[tuple[Path, Path]]:
    """(path, folder that names are relative to) of everything that one PATH leads to."""
    path = Path(given).expanduser()
    if not given:
        return
    if path.is_dir():
        yield from ((file, path) for file in walk(path, SUFFIXES + VIDEOS))
    elif os.path.lexists(path):
        yield path, path.parent
    elif glob.has_magic(given):
        for match in sorted(glob.glob(str(path), recursive=True)):
            matched = Path(match)
            if matched.is_dir():
                yield from ((file, matched.parent) for file in walk(matched, SUFFIXES + VIDEOS))
            else:
                yield matched, matched.parent


def _nothing(given: str) -> str:
    path = Path(given).expanduser()
    if not given:
        return "an empty PATH; give files, folders or globs"
    if path.is_dir():
        return f"folder {given} holds no image and no video ({', '.join(SUFFIXES[:5])} …); name the files themselves"
    if glob.has_magic(given):
        return f"no file matches {given}; check the pattern"
    return f"{given} does not exist; give files, folders or globs"


def _free(relative: Path, taken: set[str]) -> str:
    """A name that is not taken: without suffix, else with the suffix in it, else with a number too."""
    plain = relative.with_suffix("")
    name = plain.as_posix()
    if name in taken:
        name = f"{name}_{relative.suffix.lstrip('.')}"
    first, number = name, 2
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    return name
