"""Section 5.1: the share of each level that is FocusPixels, by ground truth, before and after dilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments import figure, paper
from autofocus_jax.experiments.inputs import Inputs, describe, indices, open_dataset
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.labels import level_labels
from autofocus_jax.structures import FOCUS, STRIDE, FocusRange, GroundTruth, Scale

KEYS = ("level side", "focus side", "side ratio", "dilated side ratio")  # what the paper printed too
NOTES = (
    "FocusPixels are labelled on each whole level, by boxes. What the paper calls their percentage is the ratio of the "
    "sides: 63/1602 and 102/940.",
)


@dataclasses.dataclass(frozen=True)
class Arguments(Inputs):
    dilation: int = 3
    """side of the square that the FocusPixels are dilated with, cells; odd"""


class LevelStats(NamedTuple):
    """FocusPixels of one whole level of one image."""

    pixels: int  # of the level
    cells: int
    focus_cells: int
    dilated_cells: int
    focus_pixels: float  # level px that FocusPixels cover, cells cut at the level's border
    dilated_pixels: float


def level_stats(
    size: tuple[int, int], truth: GroundTruth, scale: Scale, focus_range: FocusRange, dilation: int
) -> LevelStats:
    """Return the FocusPixel counts of an image of `size` (height, width) at a scale, from its boxes (image frame)."""
    height, width = pyramid.level_size(*size, scale)
    focus = level_labels(size, truth, scale, focus_range) == FOCUS
    dilated = ndimage.maximum_filter(focus, dilation, mode="constant") if focus.any() else focus
    rows, columns = (np.diff([*range(0, length, STRIDE), length]) for length in (height, width))
    covered = [float(rows @ mask @ columns) for mask in (focus, dilated)]
    return LevelStats(height * width, focus.size, int(focus.sum()), int(dilated.sum()), *covered)


def measure(
    items: Iterable[tuple[tuple[int, int], GroundTruth]],
    scales: Sequence[Scale],
    focus_range: FocusRange,
    dilation: int = 3,
) -> list[LevelStats]:
    """Return the sum of level_stats over images ((height, width), ground truth), one for each scale."""
    totals = np.zeros((len(scales), len(LevelStats._fields)))
    for size, truth in items:
        totals += [level_stats(size, truth, scale, focus_range, dilation) for scale in scales]
    return [LevelStats._make(row) for row in totals.tolist()]


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment; no image is opened."""
    if arguments.dilation < 1 or arguments.dilation % 2 == 0:
        raise ConfigError(f"--dilation {arguments.dilation}; want an odd number of cells")
    dataset = open_dataset(arguments, config)
    chosen = indices(arguments, dataset)
    infos = ((dataset.info(index), dataset.ground_truth(index)) for index in track(chosen, "FocusPixels"))
    items = (((info.height, info.width), truth) for info, truth in infos)
    totals = measure(items, config.scales, config.focus_range, arguments.dilation)
    known = paper.same_levels(config, dataset)
    rows = report_rows(totals, len(chosen), paper.FOCUS_PIXELS if known else {})
    side = float(np.sqrt(sum(total.pixels for total in totals) / len(chosen)))
    summary = {
        **describe(arguments, config, len(chosen)),
        "focus_range": dataclasses.astuple(config.focus_range),
        "dilation": arguments.dilation,
        "pyramid side": side,
        "paper": {"pyramid side": paper.PYRAMID_SIDE, "scales": paper.FOCUS_PIXELS} if known else None,
    }
    levels = table(
        f"Levels: {len(chosen)} images; the pyramid's side is {side:.1f} px"
        + (f" (paper, COCO: {paper.PYRAMID_SIDE})" if known else ""),
        rows, {"scale": "{}", "level side": "{:.1f}", "paper level side": "{}", "share of cells": "{:.2%}",
               "dilated share of cells": "{:.2%}"},
    )  # fmt: skip
    areas = table(
        "FocusPixels: side of the area they cover, px, and over the side of the level, before and after dilation",
        rows, {"scale": "{}", "focus side": "{:.1f}", "paper focus side": "{}", "side ratio": "{:.1%}",
               "paper side ratio": "{:.0%}", "dilated side ratio": "{:.1%}", "paper dilated side ratio": "{:.0%}"},
    )  # fmt: skip
    return Result(summary, rows, (levels, areas), lambda: draw(rows, arguments.dilation), NOTES)


def report_rows(totals: Sequence[LevelStats], images: int, printed: Mapping[int, Mapping[str, float]]) -> list[dict]:
    """Return a row for each scale: sides in level px (square roots of means over images), shares and ratios of 1.

    `printed` holds the paper's numbers of each scale (paper.FOCUS_PIXELS).
    """
    rows = []
    for number, total in enumerate(totals, 1):
        level, focus, dilated = (
            float(np.sqrt(pixels / images)) for pixels in (total.pixels, total.focus_pixels, total.dilated_pixels)
        )
        values = {
            "level side": level,
            "focus side": focus,
            "side ratio": focus / level,
            "dilated side": dilated,
            "dilated side ratio": dilated / level,
            "share of cells": total.focus_cells / total.cells,
            "dilated share of cells": total.dilated_cells / total.cells,
        }
        rows.append({"scale": number, **values, **{f"paper {key}": printed.get(number, {}).get(key) for key in KEYS}})
    return rows


def draw(rows: Sequence[dict], dilation: int) -> Figure:
    """Draw the covered area of each scale, as a side and as a share of cells, before and after dilation."""
    sketch, axes = figure.new(height=3.2, rows=2, sharex=True)
    place = np.arange(len(rows))
    panels = (("side ratio", "side of the area over\nside of the level (%)"), ("share of cells", "share of cells (%)"))
    for panel, (key, label) in zip(axes, panels):
        looks = (
            ("", figure.BLUE, -0.2, "FocusPixels"),
            ("dilated ", figure.ORANGE, 0.2, f"dilated {dilation}x{dilation}"),
        )
        for kind, color, offset, name in looks:
            values = [100 * row[kind + key] for row in rows]
            bars = panel.bar(place + offset, values, 0.37, color=color, label=name)
            printed = [row.get(f"paper {kind}{key}") for row in rows]
            words = [
                f"{value:.2g}" if number is None else f"{value:.2g}\npaper {100 * number:g}"
                for value, number in zip(values, printed)
            ]
            panel.bar_label(bars, words, fontsize=6, padding=1)
        panel.set_xticks(place, [f"{row['scale']}" for row in rows])
        panel.set(ylabel=label)
        panel.grid(axis="x", visible=False)
        panel.margins(y=0.15)
    axes[-1].set(xlabel="scale")
    handles, names = axes[0].get_legend_handles_labels()
    sketch.legend(handles, names, loc="outside upper center", ncols=2)
    return sketch
