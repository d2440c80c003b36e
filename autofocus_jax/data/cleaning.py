"""Data that a training can rely on: opens a split, says what is wrong with it, and leaves that out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config, open_split
from autofocus_jax.data.annotations import AnnotationError, box_example
from autofocus_jax.data.inspection import file_problem
from autofocus_jax.data.problems import BAD_BOX, CUT, FLAT, OUTSIDE, TWICE, UNKNOWN_CATEGORY, Problems
from autofocus_jax.structures import Dataset, GroundTruth, ImageInfo


def open_clean(config: Config, split: str, problems: Problems, strict: bool = False) -> CleanDataset:
    """The images of a split for a training, which meets nothing bad in their ground truth.

    What is wrong is added to `problems`; problems.TREATMENT says what happens to it. strict: also reads the head of
    every image file, and raises BadDataError when anything was added. Raises ConfigError and AnnotationError for what
    leaves nothing to train on, as a file of annotations that is no JSON.
    """
    dataset = open_split(config, split, problems.report)
    clean = cleaned(dataset, problems)
    check(dataset, problems, heads=strict)
    if strict:
        problems.refuse()
    return clean


class CleanDataset:
    """A Dataset whose ground truth was read and put right beforehand; images come from the one it was made of."""

    def __init__(self, source: Dataset, truth: GroundTruth, starts: np.ndarray):
        """truth: of all images together, sorted by image; starts: [N + 1] where each image's part begins."""
        self.categories, self.source = source.categories, source
        self._truth, self._starts = truth, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, GroundTruth]:
        return self.image(index), self.ground_truth(index)

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB [h, w, 3]; raises ImageError as the source does."""
        return self.source.image(index)

    def info(self, index: int) -> ImageInfo:
        """Id, file name and size of an image."""
        return self.source.info(index)

    def ground_truth(self, index: int) -> GroundTruth:
        """Boxes [G, 4] float32 inside the image and of positive area, labels [G] and ignore flags [G]."""
        index = range(len(self))[index]
        part = slice(self._starts[index], self._starts[index + 1])
        return GroundTruth(*(values[part].copy() for values in self._truth))


def cleaned(dataset: Dataset, problems: Problems) -> CleanDataset:
    """Reads all ground truth once, adds what is wrong with it to `problems`, and puts it right.

    Boxes are cut at their image; those that are not finite, or then without area, go; of equal boxes of a class one
    stays; a label that no category has makes an ignore region. Also adds what the reader noticed itself (`noticed`).
    Raises AnnotationError when the parts of an image's ground truth differ in length.
    """
    truths = [dataset.ground_truth(index) for index in range(len(dataset))]
    for index, truth in enumerate(truths):
        if not len(truth.boxes) == len(truth.labels) == len(truth.ignore):
            raise AnnotationError(
                f"the ground truth of {dataset.info(index).file_name} has {len(truth.boxes)} boxes, "
                f"{len(truth.labels)} labels and {len(truth.ignore)} ignore flags; want as many of each"
            )
    for kind, example in getattr(dataset, "noticed", ()):
        problems.add(kind, example)
    owner = np.repeat(np.arange(len(truths)), [len(truth.labels) for truth in truths])
    given = np.concatenate([np.zeros((0, 4)), *(np.reshape(truth.boxes, (-1, 4)) for truth in truths)])
    labels = np.concatenate([np.zeros(0, np.int32), *(truth.labels for truth in truths)])
    ignore = np.concatenate([np.zeros(0, bool), *(truth.ignore for truth in truths)])
    sizes = np.array([dataset.info(index)[2:] for index in range(len(truths))], np.float64).reshape(-1, 2)[owner]

    def tell(kind: str, rows: np.ndarray, why: str = "") -> None:
        problems.add(kind, *(box_example(dataset.info(int(owner[row])), given[row]) + why
                             for row in np.flatnonzero(rows)))  # fmt: skip

    finite = np.isfinite(given).all(axis=1)
    inside = np.where(finite[:, None], given, 0)
    boxes = box_ops.clip(inside, sizes[:, 0], sizes[:, 1]).astype(np.float32)
    good = box_ops.area(boxes) > 0
    flat = (inside[:, 2:] <= inside[:, :2]).any(axis=1)
    unknown = (labels < 0) | (labels >= len(dataset.categories))
    tell(BAD_BOX, ~finite)
    tell(FLAT, finite & ~good & flat)
    tell(OUTSIDE, finite & ~good & ~flat)
    tell(CUT, good & (np.abs(inside - boxes) > 1).any(axis=1))
    tell(UNKNOWN_CATEGORY, good & unknown, " is of a category that has no name")
    labels, ignore = np.where(unknown, 0, labels).astype(np.int32), ignore | unknown
    again = _repeated(owner, boxes, labels, ignore) & good
    tell(TWICE, again, " is there twice")
    keep = good & ~again
    starts = np.searchsorted(owner[keep], np.arange(len(truths) + 1))
    return CleanDataset(dataset, GroundTruth(boxes[keep], labels[keep], ignore[keep]), starts)


def check(dataset: Dataset, problems: Problems, heads: bool = False) -> None:
    """Adds image files that are missing to `problems`; of data sets that have no files, nothing.

    heads: also reads the head of each file, which finds what is no image or has another size than its annotations say.
    Damage further inside is found when the image is decoded.
    """
    files: Sequence[Path] = getattr(dataset, "files", ())
    folders: dict[str, frozenset[str]] = {}
    for index, file in enumerate(files):
        folder, name = os.path.split(file)
        if folder not in folders:  # one listing is faster than a question for each file, above all on a network disk
            folders[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        if heads or name not in folders[folder]:
            found = file_problem(dataset, index, file)
            if found:
                problems.add(*found)


def _repeated(owner: np.ndarray, boxes: np.ndarray, labels: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """[A] bool: annotations that equal an earlier one of their image in box, label and ignore flag."""
    order = np.lexsort((ignore, labels, *boxes.T, owner))  # stable, so the first of equals stays first
    equal = np.ones(max(len(order) - 1, 0), bool)
    for values in (owner, labels, ignore, *boxes.T):
        equal &= values[order[1:]] == values[order[:-1]]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:]] = equal
    return repeated
