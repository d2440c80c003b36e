"""From the PATHs of a command line to images and videos, each with a name for its results."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from autofocus_jax.structures import AutoFocusError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2", ".gif")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class InputError(AutoFocusError):
    """A PATH leads to nothing that can be looked at."""


class Item(NamedTuple):
    """An image or a video."""

    path: Path
    name: str  # of its results: a relative path without suffix, unlike every other item's
    file_name: str  # what the results call it: a relative path
    video: bool


def collect(paths: Sequence[str]) -> list[Item]:
    """The images and videos of files, folders (with all that is below them) and globs, each once, in a stable order.

    In a folder everything without the suffix of an image or a video is passed over, and so are hidden files; a file
    that is named itself is taken as it is. Raises InputError, which names the PATH, when one leads to nothing.
    """
    found: dict[Path, Path] = {}  # resolved -> relative, for the names
    for given in paths:
        files = list(_files(given))
        if not files:
            raise InputError(_nothing(given))
        for path, relative in files:
            found.setdefault(path.absolute(), relative)
    items, taken = [], set()
    for path, relative in found.items():
        name = _free(relative, taken)
        taken.add(name)
        items.append(Item(path, name, relative.as_posix(), path.suffix.lower() in VIDEOS))
    return items


def _files(given: str) -> Iterator[tuple[Path, Path]]:
    """(path, path relative to what was given) of everything that one PATH leads to."""
    path = Path(given).expanduser()
    if not given:
        return
    if path.is_dir():
        yield from ((file, file.relative_to(path)) for file in _walk(path))
    elif path.is_file():
        yield path, Path(path.name)
    elif path.exists():
        raise InputError(f"{given} is neither a file nor a folder; give files, folders or globs")
    elif glob.has_magic(given):
        for match in sorted(glob.glob(str(path), recursive=True)):
            matched = Path(match)
            if matched.is_dir():
                yield from ((file, file.relative_to(matched.parent)) for file in _walk(matched))
            elif matched.is_file():
                yield matched, Path(matched.name)


def _walk(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGES + VIDEOS and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _nothing(given: str) -> str:
    path = Path(given).expanduser()
    if not given:
        return "an empty PATH; give files, folders or globs"
    if path.is_dir():
        return f"folder {given} holds no image and no video ({', '.join(IMAGES[:5])} …); name the files themselves"
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
