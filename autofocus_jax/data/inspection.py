"""What a data set holds and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.data.image import image_size, read_bytes
from autofocus_jax.data.problems import MISSING, OTHER_SIZE, UNREADABLE
from autofocus_jax.structures import Dataset, ImageError

_EXAMPLES = 5
_NEARLY_SAME = 0.95  # IoU of two boxes of one class


class Problem(NamedTuple):
    """Something that is wrong, or may be."""

    what: str
    count: int
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
    files: Sequence[Path] | None = None,
    decode: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Looks at every annotation, and at the head of every image file.

    files: path of each image, where images are files; without them image files are not looked at. decode: also
    decodes every image, which finds damage that the head does not show. progress(done, all) is called for each image.
    """
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
    problems = _of_annotations(dataset, truths, owner, size, categories)
    problems += _of_files(dataset, files, decode, progress) if files is not None else []
    return Inspection(
        len(truths), int((~ignore).sum()), int(ignore.sum()), int((counts == 0).sum()),
        *(_percentiles(values) for values in (shapes[:, 0], shapes[:, 1], size[~ignore])),
        *(float(share.mean()) if share.size else 0.0 for share in (size[~ignore] < 32, size[~ignore] >= 96)),
        float(counts.mean()) if len(counts) else 0.0, int(counts.max(initial=0)), categories,
        [problem for problem in problems if problem.count],
    )  # fmt: skip


def to_json(report: Inspection) -> dict[str, Any]:
    """The report as JSON data; what is NaN becomes None."""
    plain = report._asdict() | {"percentiles": list(PERCENTILES)}
    for name in ("heights", "widths", "sizes"):
        plain[name] = [None if np.isnan(value) else float(value) for value in plain[name]]
    plain["categories"] = [entry._asdict() | {"size": None if np.isnan(entry.size) else entry.size}
                           for entry in report.categories]  # fmt: skip
    plain["problems"] = [problem._asdict() | {"examples": list(problem.examples)} for problem in report.problems]
    return plain


def _percentiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, PERCENTILES) if values.size else np.full(len(PERCENTILES), np.nan)


def _of_annotations(dataset: Dataset, truths, owner, size, categories: Sequence[CategoryCount]) -> list[Problem]:
    name = lambda index: dataset.info(int(index)).file_name  # noqa: E731
    dropped = int(getattr(dataset, "dropped", 0))
    twice = [(index, *pair) for index, truth in enumerate(truths) for pair in _duplicates(truth)]
    ids = [dataset.info(index).file_name for index in range(len(truths))]
    repeated = [file for file, count in zip(*np.unique(np.array(ids, dtype=str), return_counts=True)) if count > 1]
    tiny = np.flatnonzero(size < 2)
    empty = [entry.name for entry in categories if not entry.objects]
    cut = np.asarray(getattr(dataset, "cut", ()), np.int64)
    return [
        Problem("boxes that reach over their image by more than 1 px; they are cut there", len(cut),
                tuple(dict.fromkeys(name(index) for index in cut[:_EXAMPLES]))),
        Problem("boxes of which nothing lies in their image, or without area; they are left out", dropped, ()),
        Problem("boxes that are there twice (same class, nearly the same box)", len(twice),
                tuple(f"{name(index)}: boxes {a} and {b}" for index, a, b in twice[:_EXAMPLES])),
        Problem("boxes below 2 px", len(tiny),
                tuple(f"{name(owner[row])}: {size[row]:.2g} px" for row in tiny[:_EXAMPLES])),
        Problem("images that are listed twice", len(repeated), tuple(map(str, repeated[:_EXAMPLES]))),
        Problem("categories without an object", len(empty), tuple(empty[:_EXAMPLES])),
    ]  # fmt: skip


def _duplicates(truth) -> list[tuple[int, int]]:
    """Pairs of positions, first < second, of nearly the same box of one class."""
    if len(truth.labels) < 2:
        return []
    same = (box_ops.iou(truth.boxes, truth.boxes) >= _NEARLY_SAME) & (truth.labels[:, None] == truth.labels)
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(same, 1))]


def file_problem(dataset: Dataset, index: int, file: Path, decode: bool = False) -> tuple[str, str] | None:
    """What is wrong with the file of an image, (kind of data/problems, a line that names it); None for nothing.

    Looks at the head of the file alone, unless `decode`.
    """
    try:
        if not file.is_file():
            read_bytes(file)  # says why
        if decode:
            dataset.image(index)
            return None
        sizes = {image_size(file), image_size(file, oriented=True)}
    except ImageError as error:
        return (UNREADABLE if os.path.exists(file) else MISSING), str(error)
    info = dataset.info(index)
    if (info.height, info.width) in sizes:
        return None
    height, width = sizes.pop()
    return OTHER_SIZE, f"{info.file_name}: {width}x{height}, annotated {info.width}x{info.height}"


def _of_files(dataset: Dataset, files: Sequence[Path], decode: bool, progress) -> list[Problem]:
    found: dict[str, list[str]] = {MISSING: [], UNREADABLE: [], OTHER_SIZE: []}
    for index, file in enumerate(files):
        problem = file_problem(dataset, index, file, decode)
        if problem:
            kind, example = problem
            found[kind].append(str(file) if kind == MISSING else example)
        if progress is not None:
            progress(index + 1, len(files))
    return [Problem(kind, len(cases), tuple(cases[:_EXAMPLES])) for kind, cases in found.items()]
