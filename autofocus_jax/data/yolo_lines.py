"""Lines of YOLO's text files: boxes, polygons and keypoints, distinguished over a whole data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from autofocus_jax.data.annotations import AnnotationError, read_lines
from autofocus_jax.data.findings import BAD_BOX, BAD_FILE, UNKNOWN_CATEGORY, Report

Texts = Sequence[tuple[Path, Sequence[str]]]  # files with their lines

_FEW = 3  # lines that agree by chance
_SLACK = 1e-3  # how far a corner may lie outside, as a share of a side


class Form(NamedTuple):
    """Content of a data set's lines behind the class."""

    points: int = 0  # numbers of the keypoints behind the box of a line; 0: none


class Classes(NamedTuple):
    """The number of classes, and the file that says so."""

    count: int  # type: ignore[assignment]
    file: Path


def read_lines_or_report(path: Path, report: Report) -> list[str] | None:
    """Return the lines of a file of labels, or None after reporting an unreadable file."""
    try:
        return read_lines(path)
    except AnnotationError as error:
        report(BAD_FILE, *str(error).split("; ", 1))
        return None


def form_of(layout: dict, texts: Texts) -> Form:
    """Return the kind of lines of a data set, by its .yaml file and by the shape of all lines together.

    A single line of seven numbers may be a triangle, a box with one keypoint, or a box with score and track. All lines
    together tell these apart. `task: segment` (or detect, obb) in the .yaml file says that lines are boxes or polygons.

    Raises:
        AnnotationError: the lines are results of tracking, or keypoints without `kpt_shape`.
    """
    shape, task = layout.get("kpt_shape"), str(layout.get("task") or "")
    if shape:
        try:
            count, each = (int(value) for value in shape)
        except (TypeError, ValueError):
            count = each = 0
        if not (0 < count < 10000 and each in (2, 3)):
            raise AnnotationError(f"kpt_shape of data.yaml is {shape}; want two numbers, as [17, 3] (points, 2 or 3)")
        return Form(count * each)
    if task in ("detect", "segment", "obb"):
        return Form()
    lines = [(path, number, _numbers(line)) for path, content in texts for number, line in enumerate(content, 1)]
    lines = [(path, number, values[1:]) for path, number, values in lines if len(values) >= 7]
    if not lines:
        return Form()
    path, number, first = lines[0]
    where = f"{path}, line {number}"
    last = [values[-1] for *_, values in lines]
    if all(len(values) % 2 == 0 and values[-1] % 1 == 0 for *_, values in lines) and (
        max(last) > 1 or (len(lines) >= _FEW and min(last) == 1)
    ):
        raise AnnotationError(
            f"{where}: the last number of every such line is whole, as the track of a result ({first[-1]:g}); results "
            "of tracking are no labels: keep `class cx cy w h` of each line"
        )
    if task == "pose" or _are_poses([values for *_, values in lines]):
        raise AnnotationError(
            f"{where}: lines of {len(first) + 1} numbers look like labels of the task pose, a box and its keypoints; "
            "write `kpt_shape: [POINTS, 2 or 3]` into data.yaml, or `task: segment` where they are polygons"
        )
    return Form()


def _are_poses(lines: Sequence[list[float]]) -> bool:
    """Return True if lines, without their class, are boxes with keypoints: all equally long, every point in its box."""
    length = len(lines[0])
    if any(len(values) != length for values in lines) or not all(map(_inside, lines)):
        return False
    for each in (3, 2):
        if (length - 4) % each:
            continue
        points = [values[start : start + each] for values in lines for start in range(4, length, each)]
        if each == 3 and not all(point[2] in (0, 1, 2) for point in points):
            continue
        enough = len(lines) > _FEW or (each == 3 and (length % 2 or any(point[2] == 2 for point in points)))
        if enough and all(_holds(values, each) for values in lines):
            return True
    return False


def _inside(values: Sequence[float]) -> bool:
    """Return True if a line begins with a box inside the image."""
    x, y, width, height = values[:4]
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    return low >= -_SLACK and high <= 1 + _SLACK and min(width, height) > 0


def _holds(values: Sequence[float], each: int) -> bool:
    """Return True if a line's box holds its points, without those that are not annotated."""
    x, y, width, height = values[:4]
    return all(
        values[start : start + 2] == [0, 0]
        or (abs(values[start] - x) <= width / 2 + _SLACK and abs(values[start + 1] - y) <= height / 2 + _SLACK)
        for start in range(4, len(values), each)
    )  # fmt: skip


def _numbers(line: str) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def boxes_of(path: Path, lines: Sequence[str], form: Form, classes: Classes, report: Report) -> list[tuple[float, ...]]:
    """Return (class, cx, cy, w, h) of each line, as shares of the image's sides; class -1 for an unknown class."""
    rows = []
    for number, line in enumerate(lines, 1):
        label, *values = _numbers(line) or [math.nan]
        polygon = not form.points and len(values) >= 6 and len(values) % 2 == 0 and _corners_inside(values) >= 3
        if form.points and len(values) == 4 + form.points:
            values = values[:4]
        if not (len(values) == 4 or polygon) or not all(abs(value) <= 2 for value in values):
            kinds = f"and {form.points} numbers of keypoints, as kpt_shape says," if form.points else (
                "or the corners of a polygon,")  # fmt: skip
            wanted = f"want a class and cx cy w h, {kinds} as shares of the image's sides between 0 and 1"
            report(BAD_BOX, f"{path}, line {number}: {line[:80]!r}", wanted)
            continue
        if label not in range(classes.count):
            what = f"{path}, line {number}: class {line.split()[0]}, and {classes.file} names 0 to {classes.count - 1}"
            report(UNKNOWN_CATEGORY, what, "name the class there, or mend the line")
            label = -1
        if polygon:
            x, y = values[0::2], values[1::2]
            values = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
        rows.append((label, *values))
    return rows


def _corners_inside(values: Sequence[float]) -> int:
    return sum(
        -_SLACK <= x <= 1 + _SLACK and -_SLACK <= y <= 1 + _SLACK for x, y in zip(values[0::2], values[1::2])
    )  # fmt: skip
