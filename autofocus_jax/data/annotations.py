"""Shared parts of readers of annotation files: one split as flat arrays, and paths from the name of a split."""

from __future__ import annotations

import abc
import collections
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax.config import DataSource
from autofocus_jax.data.findings import EQUAL_NAMES, LOST, Report, put_right
from autofocus_jax.data.image import read_bytes
from autofocus_jax.data.reading import LARGEST_TEXT
from autofocus_jax.errors import AnnotationError, NoSplitError
from autofocus_jax.files import read_regular
from autofocus_jax.structures import Dataset, GroundTruth, ImageInfo


class AnnotatedImages(Dataset):
    """One split, held as flat arrays, whose categories all differ."""

    def __init__(
        self,
        categories: Sequence[str],
        infos: Sequence[ImageInfo],
        files: Sequence[Path],
        owner: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        ignore: np.ndarray,
        read: Callable[[Path, int, int], np.ndarray],
        dropped: int = 0,
        noticed: Sequence[tuple[str, str]] = (),
        oriented: bool = False,
    ):
        """Sort the annotations by image and keep the order within an image.

        Args:
            categories: [K] names.
            infos: [N] images.
            files: [N] paths of the images.
            owner: [A] position of the image of each annotation.
            boxes: [A, 4], xyxy, image px.
            labels: [A].
            ignore: [A] bool.
            read: (file, stated height, stated width) -> uint8 RGB [h, w, 3]; may raise ImageError.
            dropped: number of boxes that were left out before.
            noticed: earlier remarks of the reader.
            oriented: True if images are turned as their orientation tags say.
        """
        names, equal = distinct(categories)
        self.categories, self.files, self.oriented = names, list(files), oriented
        self._infos, self._read = list(infos), read
        arranged = put_right(self._infos, len(names), owner, boxes, labels, ignore)
        self._starts, self._boxes, self._labels, self._ignore, found = arranged
        self.noticed = [*noticed, *((EQUAL_NAMES, example) for example in equal), *found]
        self.dropped = dropped + sum(kind in LOST for kind, _ in found)

    def __len__(self) -> int:
        return len(self._infos)

    def info(self, index: int) -> ImageInfo:
        return self._infos[index]

    def image(self, index: int) -> np.ndarray:
        """Return uint8 RGB [h, w, 3] of the size in `info`. Raises ImageError for an image of another size, too."""
        info = self._infos[index]
        return self._read(self.files[index], info.height, info.width)

    def encoded(self, index: int) -> bytes:
        return read_bytes(self.files[index])

    def ground_truth(self, index: int) -> GroundTruth:
        index = range(len(self))[index]
        part = slice(self._starts[index], self._starts[index + 1])
        return GroundTruth(self._boxes[part].copy(), self._labels[part].copy(), self._ignore[part].copy())


class DatasetView(Dataset):
    """Images of another dataset. Subclasses give them other boxes."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | None = None):
        """indices: which images of the dataset; by default all."""
        files = getattr(dataset, "files", ())
        self.categories, self.source = dataset.categories, dataset
        self._indices = range(len(dataset)) if indices is None else indices
        self.files = [files[index] for index in self._indices] if files else ()

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> np.ndarray:
        return self.source.image(self._indices[index])

    def info(self, index: int) -> ImageInfo:
        return self.source.info(self._indices[index])

    def ground_truth(self, index: int) -> GroundTruth:
        return self.source.ground_truth(self._indices[index])


class AnnotatedSource(DataSource):
    """A source that can report single wrong annotations and go on."""

    def open(self, split: str) -> Any:
        """Open a split as `open_tolerant` does, where a fault is an AnnotationError that names it."""
        return self.open_tolerant(split, refuse)

    @abc.abstractmethod
    def open_tolerant(self, split: str, report: Report) -> Dataset: ...


def pixels(shares: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return boxes [A, 4] in image px from boxes given as shares of their images' sides.

    Values are rounded to 4 decimals, so that whole pixels, hundredths and sixteenths survive the division.
    """
    widths, heights = np.asarray(widths, np.float64), np.asarray(heights, np.float64)
    return np.round(shares * np.stack([widths, heights, widths, heights], axis=-1), 4)


def distinct(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return names that all differ, and a line for each name that several categories have.

    Equal names get a number, as in "cat (1)", "cat (2)", because tables and scores go by name.
    """
    plain = [unicodedata.normalize("NFC", name).strip() for name in names]
    counts, numbers, taken = collections.Counter(plain), collections.Counter[str](), set(plain)
    made = []
    for name, key in zip(names, plain):
        new = name
        while counts[key] > 1 and (new == name or new in taken):
            numbers[key] += 1
            new = f"{key} ({numbers[key]})"
        made.append(new)
        taken.add(new)
    equal = [
        f"{key!r}, now {' and '.join(new for new, other in zip(made, plain) if other == key)}"
        for key, count in counts.items() if count > 1
    ]  # fmt: skip
    return tuple(made), equal


def refuse(kind: str, what: str, remedy: str) -> None:
    """Raise AnnotationError: the data.findings.Report that accepts no fault."""
    raise AnnotationError(f"{what}; {remedy}")


def fill(template: str, split: str, source: str) -> str:
    """Return a path template with `{split}` replaced. A template without it has one split, called "all" and "train".

    This prevents evaluation on training images by accident.

    Raises:
        NoSplitError: another split was asked for; the message names the source's setting.
    """
    if "{split}" in template or split in ("all", "train"):
        return template.replace("{split}", split)
    raise NoSplitError(
        f"{source} {template!r} is the same for every split; put {{split}} into it for {split!r}, or take split 'all'"
    )


def read_lines(path: Path, blank: bool = False) -> list[str]:
    """Return the lines of a text file, stripped.

    Args:
        path: the file.
        blank: keep empty lines, except at the end.

    Raises:
        AnnotationError: the file cannot be read.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise AnnotationError(f"{path} is no text in UTF-8; save it as such") from None
    lines = [line.strip() for line in text.splitlines()]
    while blank and lines and not lines[-1]:
        lines.pop()
    return lines if blank else [line for line in lines if line]


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a regular file. Raises OSError or ValueError."""
    return read_regular(path, LARGEST_TEXT).decode("utf-8-sig")


def read_classes(path: Path) -> list[str]:
    """Return the names of a list of classes. Line numbers are labels; a blank line is a class without a name."""
    return [line or f"class {number} (unnamed)" for number, line in enumerate(read_lines(path, blank=True))]
