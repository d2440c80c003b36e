"""Data for training: opens a split, reports faults in it, and leaves faulty annotations out."""

from __future__ import annotations

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config, open_split
from autofocus_jax.data.annotations import AnnotationError, DatasetView
from autofocus_jax.data.findings import LOST, MISSING, OTHER_SIZE, UNREADABLE, BadDataError, Findings, listen, put_right
from autofocus_jax.data.inspection import file_problem
from autofocus_jax.data.reading import Listings
from autofocus_jax.structures import Dataset, GroundTruth, ImageError

_TRIED = 32  # images whose heads tell whether most of them can be used


def open_clean(config: Config, split: str, found: Findings, strict: bool = False) -> CleanDataset:
    """Open the images of a split for a training, with faultless ground truth.

    Args:
        config: the settings.
        split: name of the split.
        found: gets the faults; findings.TREATMENT says what happens to each kind.
        strict: also read the head of every image file, and refuse any fault.

    Raises:
        ConfigError: nothing is left to train on.
        AnnotationError: a file of annotations cannot be read, for example because it is no JSON.
        BadDataError: no object or no image is left, or `strict` found a fault.
    """
    listen(found)
    dataset = open_split(config, split, found.report)
    clean = cleaned(dataset, found)
    check(dataset, found, heads=strict)
    if strict:
        found.refuse()
    _require_objects(clean, found)
    _require_images(clean, found)
    return clean


class CleanDataset(DatasetView):
    """A Dataset whose ground truth was read and corrected beforehand. Images come from the source Dataset."""

    def __init__(self, source: Dataset, truth: GroundTruth, starts: np.ndarray):
        """Join images and corrected ground truth.

        Args:
            source: the images.
            truth: of all images together, sorted by image.
            starts: [N + 1] where each image's part begins.
        """
        super().__init__(source)
        self.truth, self._starts = truth, starts

    def ground_truth(self, index: int) -> GroundTruth:
        """Return boxes [G, 4] float32 inside the image and of positive area, labels [G] and ignore flags [G]."""
        index = range(len(self))[index]
        part = slice(self._starts[index], self._starts[index + 1])
        return GroundTruth(*(values[part].copy() for values in self.truth))


def cleaned(dataset: Dataset, found: Findings) -> CleanDataset:
    """Read all ground truth once, add its faults to `found`, and correct it (findings.put_right).

    One of several equal boxes of a class stays. Remarks of the reader (`noticed`) are added too.

    Raises:
        AnnotationError: the parts of an image's ground truth differ in length.
    """
    truths = [dataset.ground_truth(index) for index in range(len(dataset))]
    for index, truth in enumerate(truths):
        if not len(truth.boxes) == len(truth.labels) == len(truth.ignore):
            raise AnnotationError(
                f"the ground truth of {dataset.info(index).file_name} has {len(truth.boxes)} boxes, "
                f"{len(truth.labels)} labels and {len(truth.ignore)} ignore flags; want as many of each"
            )
    found.extend(dataset.noticed)
    owner = np.repeat(np.arange(len(truths)), [len(truth.labels) for truth in truths])
    given = np.concatenate([np.zeros((0, 4)), *(np.reshape(truth.boxes, (-1, 4)) for truth in truths)])
    labels = np.concatenate([np.zeros(0, np.int32), *(truth.labels for truth in truths)])
    ignore = np.concatenate([np.zeros(0, bool), *(truth.ignore for truth in truths)])
    infos = [dataset.info(index) for index in range(len(truths))]
    arranged = put_right(infos, len(dataset.categories), owner, given, labels, ignore, once=True)
    found.extend(arranged.found)
    truth = GroundTruth(arranged.boxes, arranged.labels, arranged.ignore)
    return CleanDataset(dataset, truth, arranged.starts)


def check(dataset: Dataset, found: Findings, heads: bool = False) -> None:
    """Add missing image files to `found`. Data sets without files add nothing.

    Args:
        dataset: the images.
        found: gets the faults.
        heads: also read the head of each file, which finds non-images and images of another size than annotated. Damage
            further inside shows when the image is decoded.
    """
    listings = Listings()
    spread = set(np.linspace(0, len(dataset.files) - 1, min(_TRIED, len(dataset.files))).astype(int).tolist())
    bad = missing = 0
    for index, file in enumerate(dataset.files):
        there = listings.find(file) is not None
        missing += not there
        if there and not heads and index not in spread:
            continue
        problem = file_problem(dataset, index, file)
        if problem:
            found.add(*problem)
            bad += index in spread and problem[0] in (MISSING, UNREADABLE, OTHER_SIZE)
    if 2 * missing > len(dataset.files):
        found.alarm(f"MOST IMAGES ARE MISSING: {missing} of {len(dataset.files)} image files are not there")
    elif 2 * bad > len(spread):
        found.alarm(f"MOST IMAGES CANNOT BE USED: {bad} of {len(spread)} that were tried, spread over the data")


def _require_objects(clean: CleanDataset, found: Findings) -> None:
    """Raise BadDataError when no object of 1 px or more is left; sound the alarm when most are lost."""
    counts, truth = found.counts(), clean.truth
    lost = sum(counts.get(kind, 0) for kind in LOST)
    objects = int((~truth.ignore).sum())
    large = int((~truth.ignore & (np.sqrt(box_ops.area(truth.boxes)) >= 1)).sum())
    if not large:
        small = ", all below 1 px" if objects else ""
        raise BadDataError(
            f"no object is left to train on: {objects} objects{small}, {int(truth.ignore.sum())} ignore regions and "
            f"{lost} annotations that cannot be used{found.reasons()} | mend the annotations"
        )
    if lost > large:
        found.alarm(f"MOST ANNOTATIONS ARE LOST: {lost} of {lost + len(truth.labels)} cannot be used")


def _require_images(clean: CleanDataset, found: Findings) -> None:
    """Raise BadDataError when not one image with an object can be decoded; normally decodes a single image."""
    filled = [index for index in range(len(clean)) if not clean.ground_truth(index).ignore.all()]
    first = None
    for index in filled:
        try:
            clean.image(index)
            return
        except ImageError as error:
            first = first or str(error)
    raise BadDataError(
        f"none of the {len(filled)} images that hold an object can be used; the first: {first}{found.reasons()}"
    )
