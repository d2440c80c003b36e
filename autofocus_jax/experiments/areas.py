"""Fig. 1: what share of the objects, and of the image area, is small, medium and large; the rest is background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config
from autofocus_jax.experiments import figure, paper
from autofocus_jax.experiments.inputs import Inputs, describe, indices, open_dataset
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.structures import GroundTruth

SIZES = ("small", "medium", "large")
LIMITS = (32**2, 96**2)  # COCO's: small is an area below the first, large one above the second; image px^2

NOTES = (
    "Sizes and areas are those of boxes: small below 32² px, large above 96². COCO's own, by which the paper seems to "
    "go, are those of masks, which are smaller. In 'area' every pixel counts once, for the smallest object over it.",
)

Arguments = Inputs


class Areas(NamedTuple):
    """Areas of one image. Every pixel belongs to one row: to the smallest object over the pixel."""

    objects: np.ndarray  # [3] int64, number of small, medium and large objects
    area: np.ndarray  # [5] float64, image px^2: small, medium, large, ignore regions only, background
    boxes: np.ndarray  # [3] float64, image px^2: sum of the boxes, overlaps counted as often as they occur


def image_areas(truth: GroundTruth, height: int, width: int) -> Areas:
    """Return the areas of one image of height x width px, exact for boxes with fractions of pixels."""
    area = box_ops.area(truth.boxes.astype(np.float64))
    size = np.where(truth.ignore, 3, (area >= LIMITS[0]).astype(int) + (area > LIMITS[1]))
    objects = np.bincount(size, minlength=4)[:3]
    covered = [_union(truth.boxes[size <= largest].astype(np.float64)) for largest in range(4)]
    rows = np.diff([0.0, *covered, float(height * width)])
    return Areas(objects, rows, np.bincount(size, weights=area, minlength=4)[:3])


def measure(truths: Iterable[tuple[GroundTruth, int, int]]) -> Areas:
    """Return the sum of image_areas over (ground truth, height, width) of one image or more."""
    parts = [image_areas(*item) for item in truths]
    return Areas(*(np.sum(column, axis=0) for column in zip(*parts, strict=True)))


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment; no image is opened."""
    dataset = open_dataset(arguments, config)
    chosen = indices(arguments, dataset)
    infos = ((index, dataset.info(index)) for index in track(chosen, "areas"))
    total = measure((dataset.ground_truth(index), info.height, info.width) for index, info in infos)
    printed = paper.AREAS if paper.is_coco(dataset) else {}
    rows = report_rows(total, printed)
    summary = {
        **describe(arguments, config, len(chosen)),
        "objects": int(total.objects.sum()),
        "mean_image_side": float(np.sqrt(total.area.sum() / len(chosen))),
        "paper": printed or None,
    }
    formats = {
        "size": "{}", "objects": "{:.1%}", "paper objects": "{:.0%}", "area": "{:.2%}", "paper area": "{:.1%}",
        "sum of boxes": "{:.2%}",
    }  # fmt: skip
    title = f"Fig. 1: {len(chosen)} images, {total.objects.sum()} objects"
    return Result(summary, rows, (table(title, rows, formats),), lambda: draw(rows), NOTES)


def report_rows(total: Areas, printed: Mapping[str, Mapping[str, float]]) -> list[dict]:
    """Return a row for each size, for areas of ignore regions alone, and for the background; shares of 1.

    Args:
        total: areas of all images.
        printed: the paper's shares, as paper.AREAS.
    """
    objects, image = max(1, total.objects.sum()), total.area.sum()
    rows = []
    for number, name in enumerate((*SIZES, "ignored", "background")):
        size = number < len(SIZES)
        rows.append(
            {
                "size": name,
                "objects": float(total.objects[number] / objects) if size else None,
                "paper objects": printed.get(name, {}).get("objects"),
                "area": float(total.area[number] / image),
                "paper area": printed.get(name, {}).get("area"),
                "sum of boxes": float(total.boxes[number] / image) if size else None,
            }
        )
    return rows


def draw(rows: list[dict]) -> Figure:
    """Draw bars from the smallest size to the background, objects above area, with their numbers beside them."""
    shown = [row for row in rows if row["size"] != "ignored" or row["area"] >= 0.0005]
    sketch, (axes,) = figure.new(height=2.2)
    place = np.arange(len(shown))
    for key, what, color, offset in (
        ("objects", "objects", figure.BLUE, -0.2),
        ("area", "image area", figure.ORANGE, 0.2),
    ):
        values = [100 * (row[key] or 0) for row in shown]
        axes.barh(place + offset, values, 0.38, color=color, label=f"share of {what}")
        for y, value, row in zip(place + offset, values, shown):
            printed = row[f"paper {key}"]
            text = f"{value:.1f}%" if printed is None else f"{value:.1f}% (paper, COCO: {100 * printed:g}%)"
            if row[key] is not None:
                axes.annotate(text, (value, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_yticks(place, [row["size"] for row in shown])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="share (%)", xlim=(0, 1.2 * max(100 * max(row["objects"] or 0, row["area"]) for row in shown)))
    sketch.legend(loc="outside upper center", ncols=2, handlelength=1.2)
    return sketch


def _union(boxes: np.ndarray) -> float:
    """Area that any of the boxes [n, 4] covers: exact, on the grid of their own edges."""
    xs, x = np.unique(boxes[:, 0::2], return_inverse=True)
    ys, y = np.unique(boxes[:, 1::2], return_inverse=True)
    x, y = x.reshape(-1, 2), y.reshape(-1, 2)
    corners = np.zeros((len(ys) + 1, len(xs) + 1), np.int32)
    for row, column, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
        np.add.at(corners, (y[:, row], x[:, column]), sign)
    covered = corners.cumsum(axis=0).cumsum(axis=1)[: max(0, len(ys) - 1), : max(0, len(xs) - 1)] > 0
    return float(np.diff(ys) @ covered @ np.diff(xs)) if len(boxes) else 0.0
