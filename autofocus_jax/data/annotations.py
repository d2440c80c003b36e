"""What sources with annotations on files share: one split as flat arrays, and how a split's name becomes paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.data.image import read_bytes
from autofocus_jax.data.problems import CUT, FLAT, OUTSIDE
from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageInfo


class AnnotationError(AutoFocusError):
    """An annotation file is missing or malformed."""


class AnnotatedImages:
    """One split, held as flat arrays; implements structures.Dataset.

    categories: [K] names; label k means categories[k]. dropped: how many boxes were left out because nothing of them
    lies in their image, after all were cut at its borders. cut: positions of the images of boxes that reached over
    their image by more than 1 px, once for each box. files: [N] paths of the images. noticed: what reading found that
    is no error, (kind of data/problems, example) of each case.
    """

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
    ):
        """Sorts the annotations by image, which keeps the order of those of an image.

        Args:
          owner: [A] position of the image of each annotation. boxes: [A, 4], xyxy in image px. labels, ignore: [A].
          read: gives uint8 RGB [h, w, 3] of a file and its stated height and width, or raises ImageError.
          dropped: boxes that were left out before. noticed: what the reader found before.
        """
        self.categories, self.files = tuple(categories), list(files)
        self._infos, self._read = list(infos), read
        owner, boxes = np.asarray(owner, np.int64), np.asarray(boxes, np.float64).reshape(-1, 4)
        sizes = np.array([(info.height, info.width) for info in self._infos], dtype=np.float64).reshape(-1, 2)
        given, boxes = boxes, box_ops.clip(boxes, sizes[owner, 0], sizes[owner, 1]).astype(np.float32)
        self.cut = owner[(np.abs(given - boxes) > 1).any(axis=1)]
        keep = box_ops.area(boxes) > 0
        flat = (given[:, 2:] <= given[:, :2]).any(axis=1)
        cases = [(FLAT, ~keep & flat), (OUTSIDE, ~keep & ~flat), (CUT, keep & (np.abs(given - boxes) > 1).any(axis=1))]
        self._cases = [(kind, owner[rows], given[rows]) for kind, rows in cases]
        self._noticed = tuple(noticed)
        self.dropped = dropped + int(np.count_nonzero(~keep))
        order = np.flatnonzero(keep)[np.argsort(owner[keep], kind="stable")]
        self._boxes = boxes[order]
        self._labels, self._ignore = np.asarray(labels, np.int32)[order], np.asarray(ignore, bool)[order]
        self._starts = np.searchsorted(owner[order], np.arange(len(self._infos) + 1))

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def noticed(self) -> list[tuple[str, str]]:
        infos = self._infos
        return [
            *self._noticed,
            *((kind, box_example(infos[position], box))
              for kind, owners, boxes in self._cases for position, box in zip(owners, boxes)),
        ]  # fmt: skip

    def __getitem__(self, index: int) -> tuple[np.ndarray, GroundTruth]:
        return self.image(index), self.ground_truth(index)

    def info(self, index: int) -> ImageInfo:
        """Id, file name and size of an image, without opening it."""
        return self._infos[index]

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB [h, w, 3] of the size that info names; raises ImageError when it is missing, corrupt or another."""
        info = self._infos[index]
        return self._read(self.files[index], info.height, info.width)

    def encoded(self, index: int) -> bytes:
        """The bytes of the image file; raises ImageError when it is missing."""
        return read_bytes(self.files[index])

    def ground_truth(self, index: int) -> GroundTruth:
        """Boxes [G, 4] float32 in the image frame, labels [G] and ignore flags [G]; G may be 0."""
        index = range(len(self))[index]
        part = slice(self._starts[index], self._starts[index + 1])
        return GroundTruth(self._boxes[part].copy(), self._labels[part].copy(), self._ignore[part].copy())


def pixels(shares: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Boxes [A, 4] in image px of boxes that are given as shares of their images' sides.

    Rounded to 4 decimals, so that whole pixels, hundredths and sixteenths come back as such in spite of the division.
    """
    widths, heights = np.asarray(widths, np.float64), np.asarray(heights, np.float64)
    return np.round(shares * np.stack([widths, heights, widths, heights], axis=-1), 4)


def box_example(info: ImageInfo, box: np.ndarray) -> str:
    """One line that names a box [4] of an image, for data.problems."""
    corners = " ".join(f"{value:.6g}" for value in box)
    return f"{info.file_name} ({info.width}x{info.height}): box {corners}"


def refuse(kind: str, what: str, remedy: str) -> None:
    """A data.problems.Report that takes nothing: raises AnnotationError."""
    raise AnnotationError(f"{what}; {remedy}")


def fill(template: str, split: str, source: str) -> str:
    """A path template with `{split}` replaced; without it there is one split alone, which is called "all".

    So nobody trains on what is evaluated by accident. Raises AnnotationError, which names the source's setting.
    """
    if "{split}" in template or split == "all":
        return template.replace("{split}", split)
    raise AnnotationError(
        f"{source} {template!r} is the same for every split; put {{split}} into it for {split!r}, or take split 'all'"
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them and without empty ones; AnnotationError when unreadable."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise AnnotationError(f"{path} is no text in UTF-8; save it as such") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
