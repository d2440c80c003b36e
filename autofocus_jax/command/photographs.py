"""Photographs of a command line as a data set, with boxes from a file or without any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autofocus_jax.command.annotations import open_annotations
from autofocus_jax.command.inputs import InputError, collect
from autofocus_jax.config import ConfigError
from autofocus_jax.data.annotations import AnnotatedImages, DatasetView
from autofocus_jax.data.findings import Findings
from autofocus_jax.data.image import image_size, read_image
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.structures import Dataset, GroundTruth, ImageError, ImageInfo


class OfClasses(DatasetView):
    """A dataset with some of its classes alone, in an order of one's own."""

    def __init__(self, dataset: Dataset, names: Sequence[str]):
        """Keep the boxes of the classes `names`; ConfigError for a name that is none of the dataset's."""
        unknown = [name for name in names if name not in dataset.categories]
        if unknown:
            raise ConfigError(f"the annotations have no class {unknown[0]!r}; they have "
                              f"{', '.join(dataset.categories)}")  # fmt: skip
        super().__init__(dataset)
        self.categories = tuple(names)
        self._label = np.full(len(dataset.categories), -1)
        for label, name in enumerate(names):
            self._label[dataset.categories.index(name)] = label
        if hasattr(dataset, "category_ids"):
            self.category_ids = np.asarray(dataset.category_ids)[[dataset.categories.index(name) for name in names]]

    def ground_truth(self, index: int) -> GroundTruth:
        boxes, labels, ignore = super().ground_truth(index)
        labels = self._label[labels]
        keep = labels >= 0
        return GroundTruth(boxes[keep], labels[keep].astype(np.int32), ignore[keep])


def annotated(photos: Sequence[str], annotations: str) -> tuple[Dataset, Findings]:
    """Return the photographs of a folder with the boxes of a file of annotations, and what is wrong with the boxes."""
    if len(photos) != 1 or not Path(photos[0]).expanduser().is_dir():
        raise ConfigError(f"with --annotations PHOTOS is the one folder of their images, got {' '.join(photos)}")
    found = Findings()
    dataset = open_annotations(annotations, "val", found, photos[0]).dataset
    found.extend(dataset.noticed)
    return dataset, found


def plain(photos: Sequence[str], categories: Sequence[str]) -> tuple[Dataset, list[Skipped]]:
    """Return photographs without boxes as a dataset, and those whose size cannot be read, which are not in it.

    Args:
        photos: files, folders and globs. Videos are passed over.
        categories: names of the classes.

    Raises:
        InputError: there is no photograph.
    """
    infos, files, skipped = [], [], []
    for number, item in enumerate(item for item in collect(photos) if not item.video):
        try:
            height, width = image_size(item.path, oriented=True)
        except ImageError as error:
            skipped.append(Skipped(number, item.file_name, str(error)))
            continue
        infos.append(ImageInfo(number, item.file_name, height, width))
        files.append(item.path)
    if not infos:
        reason = f"; the first: {skipped[0].reason}" if skipped else ""
        raise InputError(f"no photograph in {' '.join(photos)} can be read{reason}")
    nothing = np.zeros(0, np.int64)
    read = lambda path, height, width: read_image(path, oriented=True)  # noqa: E731
    dataset = AnnotatedImages(categories, infos, files, nothing, np.zeros((0, 4)), nothing, nothing.astype(bool), read)
    return dataset, skipped


def spread(count: int, most: int | None) -> list[int]:
    """Return at most `most` of the indices 0..count-1, spread evenly."""
    if most is None or most >= count:
        return list(range(count))
    return [math.floor(number * count / most) for number in range(most)]
