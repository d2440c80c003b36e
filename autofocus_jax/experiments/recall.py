"""Fig. 6: the share of small objects that FocusPixels and FocusChips find, against their share of the area.

Recall is measured at each scale but the last, over whole levels. It is given for all ground truth, and for the objects
that the detector finds with confidence. Only a missed region with confident objects costs AP.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments import figure, paper
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe, indices
from autofocus_jax.experiments.levels import Levels, keep_levels, level_sizes, merge_levels
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus.chips import focus_chips
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.plan import Plan
from autofocus_jax.metrics.focus import FocusCurve, chip_recall, pixel_curve
from autofocus_jax.structures import Detections, FocusRange, GroundTruth, Scale

ALL, CONFIDENT = "ground truth", "confident detections"


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    min_score: float = 0.5
    """score above which a detection is confident"""
    min_iou: float = 0.5
    """IoU above which it is one of an object of its class"""
    thresholds: tuple[float, ...] = (
        0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99,
    )  # fmt: skip
    """thresholds t of the curves; dilation and least side of the chips are those of the config's chip rules"""


class LevelTruth(NamedTuple):
    """The objects of one image in the frame of a level, without ignore regions."""

    boxes: np.ndarray  # [n, 4] float32, level px
    confident: np.ndarray  # [n] bool, found by a confident detection


def confident(truth: GroundTruth, found: Detections, min_score: float, min_iou: float) -> np.ndarray:
    """Return which objects a detection of their class above min_score overlaps with an IoU above min_iou, [G] bool."""
    sure = np.asarray(found.scores) > min_score
    overlap = box_ops.iou(truth.boxes, found.boxes[sure]) > min_iou
    return (overlap & (truth.labels[:, None] == found.labels[sure][None])).any(axis=1)


def level_truth(truth: GroundTruth, found: np.ndarray, size: tuple[int, int], level: tuple[int, int]) -> LevelTruth:
    """Return the objects of one image in the frame of a level.

    Args:
        truth: ground truth, image frame.
        found: [G] bool, of confident().
        size: (height, width) of the image, px.
        level: (height, width) of the level, px.
    """
    boxes = box_ops.scale(truth.boxes, level[1] / size[1], level[0] / size[0])
    objects = ~truth.ignore
    return LevelTruth(boxes[objects].astype(np.float32), found[objects])


def focus_pixels(
    maps: Sequence[np.ndarray], truths: Sequence[LevelTruth], levels: Sequence[tuple[int, int]],
    focus_range: FocusRange, thresholds: Sequence[float],
) -> dict[str, FocusCurve]:  # fmt: skip
    """Return the recall of FOCUS cells against area at each threshold, for all objects and for confidently found ones.

    `maps` are focus maps of whole levels of `levels` (height, width) px.
    """

    def curve(shown: Sequence[np.ndarray]) -> FocusCurve:
        labels = [focus_labels(boxes, *level, focus_range) for boxes, level in zip(shown, levels)]
        return pixel_curve(maps, labels, np.asarray(thresholds))

    return {ALL: curve([truth.boxes for truth in truths]), CONFIDENT: curve([t.boxes[t.confident] for t in truths])}


def focus_chips_curves(
    maps: Sequence[np.ndarray], truths: Sequence[LevelTruth], levels: Sequence[tuple[int, int]],
    scale: Scale, focus_range: FocusRange, thresholds: Sequence[float],
) -> dict[str, FocusCurve]:  # fmt: skip
    """Return the recall of objects in the focus range that lie whole in a chip, against the chips' area.

    Chips are made from the whole level's map, with dilation and least side of the scale's rule. The form is that of
    focus_pixels.
    """
    small = []
    for truth in truths:
        side = np.sqrt(box_ops.area(truth.boxes))
        small.append((focus_range.a < side) & (side < focus_range.b))
    points: dict[str, list[tuple[float, float]]] = {ALL: [], CONFIDENT: []}
    for threshold in thresholds:
        rule = dataclasses.replace(scale.chips, threshold=threshold)
        chips = [focus_chips(focus, level, rule) for focus, level in zip(maps, levels)]
        for name, chosen in points.items():
            kept = [part if name == ALL else part & truth.confident for part, truth in zip(small, truths)]
            boxes = [truth.boxes[part] for truth, part in zip(truths, kept)]
            chosen.append(chip_recall(chips, boxes, levels))
    values = np.asarray(thresholds, np.float64)
    return {name: FocusCurve(values, *np.array(chosen).reshape(-1, 2).T) for name, chosen in points.items()}


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment. The detector runs on whole levels that are not kept yet."""
    if len(config.scales) < 2:
        raise ConfigError(f"config {config.name!r} has one scale; FocusPixels need two or more")
    if not arguments.thresholds or not all(0 < value < 1 for value in arguments.thresholds):
        raise ConfigError(f"--thresholds {arguments.thresholds}; want some, each above 0 and below 1")
    dataset = open_images(arguments, config)
    kept = keep_levels(arguments, config, load_detector(arguments, config), dataset, indices(arguments, dataset), track)
    truths = [dataset.ground_truth(index) for index in kept.indices]
    curves = {}
    plan = Plan.of(config).pyramid()
    sure = found_objects(kept.levels, truths, config, arguments)
    for number, scale in enumerate(track(config.scales[:-1], "scales"), 1):
        thresholds = sorted({*arguments.thresholds, scale.chips.threshold} - {0.0})
        sizes = [level_sizes(item.size, plan)[number - 1] for item in kept.levels]
        in_level = [
            level_truth(truth, found, item.size, size)
            for truth, found, item, size in zip(truths, sure, kept.levels, sizes)
        ]
        maps = [item.focus[number - 1] for item in kept.levels]
        focus = config.focus_range
        curves[f"FocusPixels, scale {number}"] = focus_pixels(maps, in_level, sizes, focus, thresholds)
        curves[f"FocusChips, scale {number}"] = focus_chips_curves(maps, in_level, sizes, scale, focus, thresholds)
    rows = report_rows(curves, config)
    objects = sum(int(np.count_nonzero(~truth.ignore)) for truth in truths)
    certain = sum(int(np.count_nonzero(found & ~truth.ignore)) for found, truth in zip(sure, truths))
    facts = {
        **describe(arguments, config, len(kept.indices)),
        "objects": objects,
        "confidently found": certain,
        "focus_range": list(dataclasses.astuple(config.focus_range)),
    }
    formats = {
        "what": "{}", "t": "{:g}", "of": "{}", "area": "{:.1%}", "recall": "{:.1%}",
    }  # fmt: skip
    shown = [row for row in rows if row["config's rule"]]
    title = f"Fig. 6 at the config's thresholds: {config.name}, {arguments.split}, {len(kept.indices)} images"
    notes = (
        f"{certain} of {objects} objects are found confidently (IoU > {arguments.min_iou:g}, score > "
        f"{arguments.min_score:g}) by the whole pyramid. Chips come from maps of whole levels, also after scale 1.",
        "The paper, COCO val: all that is found confidently is covered when FocusPixels cover "
        + " and ".join(f"{of['focus pixels']:.0%} of scale {scale} (chips {of['chips more']:.0%} more)"
                       for scale, of in paper.COVERAGE.items()) + ".",
        *(f"skipped: {reason}" for reason in kept.skipped),
    )  # fmt: skip
    return Result(facts, rows, (table(title, shown, formats),), lambda: draw(curves, config), notes)


def found_objects(
    levels: Sequence[Levels], truths: Sequence[GroundTruth], config: Config, arguments: Arguments
) -> list[np.ndarray]:
    """Return confident() of each image, by the detections of the whole pyramid."""
    merged = [merge_levels(item, config.scales, config) for item in levels]
    return [confident(*pair, arguments.min_score, arguments.min_iou) for pair in zip(truths, merged, strict=True)]


def report_rows(curves: dict[str, dict[str, FocusCurve]], config: Config) -> list[dict]:
    """Return a row for each panel, kind of objects and threshold."""
    rows = []
    for what, parts in curves.items():
        rule = config.scales[int(what.rsplit(" ", 1)[1]) - 1].chips
        for name, curve in parts.items():
            for threshold, recall, area in zip(*(values.tolist() for values in curve)):
                here = math.isclose(threshold, rule.threshold)
                point = {"t": threshold, "area": area, "recall": recall, "config's rule": here}
                rows.append({"what": what, "of": name, **point})
    return rows


def draw(curves: dict[str, dict[str, FocusCurve]], config: Config) -> Figure:
    """Draw a panel for FocusPixels and one for FocusChips of each scale.

    A ring marks the threshold of the config's rule.
    """
    scales = len(config.scales) - 1
    width = max(figure.COLUMN, 3.5 * scales)
    sketch, axes = figure.new(width=width, height=4.4, rows=2, columns=scales, sharey=True)
    # The two lines often lie on each other.
    looks: tuple[dict, ...] = ({}, {"linestyle": "--", "markerfacecolor": "white"})
    for row, kind in enumerate(("FocusPixels", "FocusChips")):
        for number in range(1, scales + 1):
            axis = axes[row * scales + number - 1]
            threshold = config.scales[number - 1].chips.threshold
            parts = curves[f"{kind}, scale {number}"]
            for position, ((name, curve), look) in enumerate(zip(parts.items(), looks)):
                figure.line(axis, position, 100 * curve.area, 100 * curve.recall, name, **look)
            here = np.isclose(parts[ALL].thresholds, threshold)
            ring = {"color": figure.BLACK, "markerfacecolor": "none", "markersize": 9, "linestyle": "none"}
            point = 100 * parts[ALL].area[here], 100 * parts[ALL].recall[here]
            axis.plot(*point, "o", label="threshold of the config", clip_on=False, **ring)
            most = max(1.0, *(100 * float(np.nan_to_num(curve.area).max()) for curve in parts.values()))
            letter = chr(ord("a") + row * scales + number - 1)
            axis.set(title=f"({letter}) {kind}, scale {number}", xlim=(0, min(100, 1.05 * most)), ylim=(0, 102))
            axis.set_xlabel("share of the image area (%)")
            if number == 1:
                axis.set_ylabel("recall of cells (%)" if row == 0 else "recall of objects (%)")
    axes[0].legend(loc="lower right")
    return sketch
