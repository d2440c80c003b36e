"""Report on a data set: its content and its faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.data.findings import (
    CROWDED,
    EMPTY_CATEGORY,
    LISTED_TWICE,
    MISSING,
    NEARLY_TWICE,
    ORIENTATION,
    OTHER_SIZE,
    OVERFULL,
    TINY,
    UNREADABLE,
    Findings,
)
from autofocus_jax.data.image import image_head, read_bytes
from autofocus_jax.structures import Dataset, GroundTruth, ImageError

_EXAMPLES = 5
_NEARLY_SAME = 0.95  # IoU of two boxes of one class
# Detections of an image that COCO's AP counts, and that focus stacking keeps unless a config says otherwise.
_COUNTED = ((CROWDED, 100), (OVERFULL, StackingConfig.max_detections))


class Problem(NamedTuple):
    """A fault, or a possible fault."""

    what: str
    count: int  # type: ignore[assignment]
    examples: tuple[str, ...]  # a few of them


class CategoryCount(NamedTuple):
    """A line of the table of categories."""

    name: str
    objects: int  # ignore regions not counted
    images: int
    size: float  # median of sqrt(box area), image px; NaN without objects


class Inspection(NamedTuple):
    """A report. Sizes are sqrt(box area) in image px; percentiles are the 1st, 10th, 25th, 50th, 75th, 90th, 99th."""

    images: int
    objects: int
    ignored: int  # ignore regions
    empty: int  # images without an object
    heights: np.ndarray  # [7] percentiles, px
    widths: np.ndarray  # [7] percentiles, px
    sizes: np.ndarray  # [7] percentiles
    small: float  # share below 32 px, and of the others
    large: float  # share from 96 px on
    per_image: float  # objects
    most: int  # objects in one image
    categories: list[CategoryCount]
    problems: list[Problem]


PERCENTILES = (1, 10, 25, 50, 75, 90, 99)


def inspect(
    dataset: Dataset,
    found: Findings | None = None,
    decode: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at every annotation, and at the head of every image file.

    Args:
      dataset: what to look at.
      found: what its reader reported before; all else is added to it.
      decode: also decode every image, which finds damage that the head does not show.
      progress: called as progress(done, all) for each image file.
    """
    found = Findings(_EXAMPLES) if found is None else found
    truths = [dataset.ground_truth(index) for index in range(len(dataset))]
    infos = [dataset.info(index) for index in range(len(dataset))]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(truth.boxes for truth in truths)])
    labels = np.concatenate([np.zeros(0, np.int32), *(truth.labels for truth in truths)])
    ignore = np.concatenate([np.zeros(0, bool), *(truth.ignore for truth in truths)])
    owner = np.repeat(np.arange(len(truths)), [len(truth.labels) for truth in truths])
    size = np.sqrt(box_ops.area(boxes))
    counts = np.bincount(owner[~ignore], minlength=len(truths))
    categories = []
    for label, name in enumerate(dataset.categories):
        rows = (labels == label) & ~ignore
        middle = float(np.median(size[rows])) if rows.any() else float("nan")
        categories.append(CategoryCount(name, int(rows.sum()), len(np.unique(owner[rows])), middle))
    shapes = np.array([(info.height, info.width) for info in infos], np.float64).reshape(-1, 2)
    found.extend(dataset.noticed)
    found.extend(_of_annotations(dataset, truths, owner, size, counts))
    found.extend((EMPTY_CATEGORY, entry.name) for entry in categories if not entry.objects)
    _look_at_files(dataset, found, decode, progress)
    return Inspection(
        len(truths), int((~ignore).sum()), int(ignore.sum()), int((counts == 0).sum()),
        _percentiles(shapes[:, 0]), _percentiles(shapes[:, 1]), _percentiles(size[~ignore]),
        _share(size[~ignore] < 32), _share(size[~ignore] >= 96),
        float(counts.mean()) if len(counts) else 0.0, int(counts.max(initial=0)), categories,
        [Problem(kind, count, found.examples(kind)) for kind, count in found.counts().items()],
    )  # fmt: skip


def to_json(report: Inspection) -> dict[str, Any]:
    """Return the report as JSON data; NaN becomes None."""
    plain = report._asdict() | {"percentiles": list(PERCENTILES)}
    for name in ("heights", "widths", "sizes"):
        plain[name] = [None if np.isnan(value) else float(value) for value in plain[name]]
    plain["categories"] = [entry._asdict() | {"size": None if np.isnan(entry.size) else entry.size}
                           for entry in report.categories]  # fmt: skip
    plain["problems"] = [problem._asdict() | {"examples": list(problem.examples)} for problem in report.problems]
    return plain


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _percentiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, PERCENTILES) if values.size else np.full(len(PERCENTILES), np.nan)


def _of_annotations(
    dataset: Dataset, truths: Sequence[GroundTruth], owner: np.ndarray, size: np.ndarray, counts: np.ndarray
) -> Iterable[tuple[str, str]]:
    """(kind, example) of what may be wrong with boxes that every reader takes."""
    name = lambda index: dataset.info(int(index)).file_name  # noqa: E731
    for index, truth in enumerate(truths):
        yield from ((NEARLY_TWICE, f"{name(index)}: boxes {a} and {b}") for a, b in _duplicates(truth))
    yield from ((TINY, f"{name(owner[row])}: box {row}, {size[row]:.2g} px") for row in np.flatnonzero(size < 2))
    for kind, most in _COUNTED:
        yield from ((kind, f"{name(index)}: {counts[index]}") for index in np.flatnonzero(counts > most))
    places = [os.path.realpath(file) if os.path.lexists(file) else str(file) for file in dataset.files]
    if not places:
        places = [str(name(index)) for index in range(len(truths))]
    seen: set[str] = set()
    for index, place in enumerate(places):
        if place in seen:
            yield LISTED_TWICE, f"{name(index)} (image {index})"
        seen.add(place)


def _duplicates(truth: GroundTruth) -> list[tuple[int, int]]:
    """Pairs of positions, first < second, of nearly the same box of one class."""
    if len(truth.labels) < 2:
        return []
    same = (box_ops.iou(truth.boxes, truth.boxes) >= _NEARLY_SAME) & (truth.labels[:, None] == truth.labels)
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(same, 1))]


def file_problem(dataset: Dataset, index: int, file: Path, decode: bool = False) -> tuple[str, str] | None:
    """Return the fault of an image's file, (kind of data/findings, a line that names it), or None.

    Only the head of the file is read, unless `decode` is set.
    """
    info = dataset.info(index)
    try:
        if not os.path.isfile(file):
            read_bytes(file)  # says why
        head = image_head(file)
        if decode or head.sixteen:
            dataset.image(index)
    except ImageError as error:
        return (UNREADABLE if os.path.lexists(file) else MISSING), str(error)
    stored, shown = head.size(oriented=False), head.size(oriented=True)
    if (info.height, info.width) not in (stored, shown):
        return OTHER_SIZE, f"{info.file_name}: {stored[1]}x{stored[0]}, annotated {info.width}x{info.height}"
    if head.orientation > 1 and stored == shown and not dataset.oriented:
        return ORIENTATION, f"{info.file_name}: tag {head.orientation}, {stored[1]}x{stored[0]}"
    return None


def _look_at_files(
    dataset: Dataset, found: Findings, decode: bool, progress: Callable[[int, int], None] | None
) -> None:
    for index, file in enumerate(dataset.files):
        problem = file_problem(dataset, index, file, decode)
        if problem:
            found.add(problem[0], str(file) if problem[0] == MISSING else problem[1])
        if progress is not None:
            progress(index + 1, len(dataset.files))
