"""Fig. 2, 4 and 8: FocusPixels of an image over the scales, a chip before and after stacking, and the whole pipeline.

Runs the detector on a few images, spread evenly over those that hold an object, and draws three pictures: panels (what
each scale saw and found, Fig. 8), panels_labels (Fig. 2) and panels_stacking (Fig. 4).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments import figure, tiles
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe, indices
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import AnyDetect, Stage, cascade
from autofocus_jax.focus.labels import level_labels
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import FOCUS, IGNORE, Dataset, Detections, GroundTruth, ImageError, Scale

KEPT, CUT, CHIP, FOCUS_COLOR, TRUTH = figure.GREEN, figure.PURPLE, figure.YELLOW, figure.VERMILION, "#FFFFFF"


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    count: int = 3
    """how many images"""
    min_score: float = 0.3
    """detections of at least this score are drawn and counted"""


class Sample(NamedTuple):
    """One image with the record of the cascade on it; boxes in the image frame."""

    name: str
    image: np.ndarray  # [h, w, 3] uint8 RGB
    truth: GroundTruth
    labels: list[np.ndarray]  # FocusPixel labels of the whole level, one array for each scale
    stages: list[Stage]
    found: Detections


def choose(dataset: Dataset, among: Sequence[int], count: int) -> list[int]:
    """Return up to `count` of the indices, spread evenly over the images with an object that is not ignored."""
    with_objects = [index for index in among if (~dataset.ground_truth(index).ignore).any()]
    places = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    return [with_objects[place] for place in places]


def samples(
    config: Config, detect: AnyDetect, dataset: Dataset, chosen: Iterable[int]
) -> tuple[list[Sample], tuple[str, ...]]:
    """Run the cascade on each image. Return the samples, and a line for each unreadable image.

    Raises:
        ImageError: no image can be read.
    """
    result: list[Sample] = []
    skipped: list[str] = []
    for index in chosen:
        try:
            image, truth = dataset[index]
        except ImageError as error:
            skipped.append(f"skipped: {error}")
            continue
        (found,), _, (stages,) = cascade([image], detect, Plan.of(config), keys=[index])
        labels = [level_labels(image.shape[:2], truth, scale, config.focus_range) for scale in config.scales]
        result.append(Sample(dataset.info(index).file_name, image, truth, labels, stages, found))
    if not result:
        raise ImageError(f"none of the images can be read; the first: {skipped[0] if skipped else 'there is none'}")
    return result, tuple(skipped)


def chip_to_show(part: Sample, min_score: float) -> tuple[int, np.ndarray]:
    """Return (scale from 1, chip [4] in the image frame) whose borders cut most detections of at least min_score.

    If no chip cut any, the chip with most detections at the finest scale with detections is taken, else the whole
    image.
    """
    best: tuple[int, ...] = (0, 0, 0)
    answer = (1, part.stages[0].chips[0])
    for number, stage in enumerate(part.stages[1:], 2):
        cut, kept = (_inside(found, stage.chips, min_score) for found in (stage.removed, stage.kept))
        for chip, *counts in zip(stage.chips, cut, kept):
            if (rank := (*map(int, counts), number)) > best and sum(counts):
                best, answer = rank, (number, chip)
    return answer


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment."""
    if arguments.count < 1:
        raise ConfigError(f"--count {arguments.count}; want at least 1 image")
    dataset = open_images(arguments, config)
    chosen = choose(dataset, indices(arguments, dataset), arguments.count)
    if not chosen:
        raise ConfigError("no image holds an object; there is nothing to draw")
    detect = load_detector(arguments, config).detect
    parts, skipped = samples(config, detect, dataset, track(chosen, "panels", len(chosen)))
    rows = report_rows(parts, config.scales, arguments.min_score)
    summary = {**describe(arguments, config, len(chosen)), "min_score": arguments.min_score}
    formats = {
        "image": "{}", "scale": "{}", "chips": "{}", "pixels": "{}", "of level": "{:.1%}", "FocusPixels": "{}",
        "kept": "{}", "cut": "{}", "result": "{}",
    }  # fmt: skip
    shown = table("Fig. 2, 4, 8: what each scale saw and found", rows, formats)
    more = {
        "labels": lambda: draw_labels(parts, config.scales),
        "stacking": lambda: draw_stacking(parts, arguments.min_score),
    }
    return Result(
        summary, rows, (shown,), lambda: draw_pipeline(parts, config.scales, arguments.min_score), skipped, more
    )


def report_rows(parts: Sequence[Sample], scales: Sequence[Scale], min_score: float) -> list[dict[str, Any]]:
    """Return a row for each image and scale: processed pixels, and detections of at least min_score.

    "FocusPixels" counts the cells that ground truth labels on the whole level. "kept" and "cut" are detections in the
    scale's valid range before merging. "result" is the result of all scales together.
    """
    rows = []
    for part in parts:
        size = part.image.shape[:2]
        for number, (stage, scale, labels) in enumerate(zip(part.stages, scales, part.labels, strict=True), 1):
            pixels, level = _pixels(stage, size, scale), math.prod(pyramid.level_size(size[0], size[1], scale))
            rows.append(
                {
                    "image": part.name,
                    "scale": number,
                    "chips": len(stage.chips),
                    "pixels": pixels,
                    "of level": pixels / level,
                    "FocusPixels": int((labels == FOCUS).sum()),
                    "kept": int((stage.kept.scores >= min_score).sum()),
                    "cut": int((stage.removed.scores >= min_score).sum()),
                    "result": int((part.found.scores >= min_score).sum()),
                }
            )
    return rows


def draw_pipeline(parts: Sequence[Sample], scales: Sequence[Scale], min_score: float) -> Figure:
    """Draw Fig. 8: for each image and scale the processed area (bright), focus map, chips, detections; the result."""
    sketch, axes = tiles.grid([part.image for part in parts], len(scales) + 1)
    for part, places in zip(parts, axes):
        size = part.image.shape[:2]
        for number, (tile, stage, scale) in enumerate(zip(places, part.stages, scales, strict=False), 1):
            share = _pixels(stage, size, scale) / math.prod(pyramid.level_size(size[0], size[1], scale))
            chips = "1 chip" if len(stage.chips) == 1 else f"{len(stage.chips)} chips"
            tiles.show(tile, part.image, f"scale {number}: {chips}, {share:.0%} of level", brightness=0.75)
            tiles.darken(tile, stage.chips, size)
            for chip, focus in zip(stage.chips, stage.focus, strict=False):
                tiles.cells(tile, focus, chip, scale, size, figure.VERMILION, 0.7)
            tiles.outline(tile, stage.chips, CHIP, 1.2)
            tiles.outline(tile, stage.removed.boxes[stage.removed.scores >= min_score], CUT, 0.7)
            tiles.outline(tile, stage.kept.boxes[stage.kept.scores >= min_score], KEPT, 0.6)
        shown = part.found.boxes[part.found.scores >= min_score]
        tiles.show(places[-1], part.image, f"result: {len(shown)} detections")
        tiles.outline(places[-1], part.truth.boxes[~part.truth.ignore], TRUTH, 1.6)
        tiles.outline(places[-1], shown, KEPT, 0.8)
    looks = {
        "focus map": FOCUS_COLOR,
        "chip": CHIP,
        "kept, before merging": KEPT,
        "cut by a chip's border": CUT,
        "ground truth": TRUTH,
    }
    return tiles.legend(sketch, looks)


def draw_labels(parts: Sequence[Sample], scales: Sequence[Scale]) -> Figure:
    """Draw Fig. 2: for each image its objects, and the FocusPixel labels of every level."""
    sketch, axes = tiles.grid([part.image for part in parts], len(scales) + 1)
    for part, places in zip(parts, axes):
        size = part.image.shape[:2]
        tiles.show(places[0], part.image, f"image, {size[1]}x{size[0]} px")
        tiles.outline(places[0], part.truth.boxes[part.truth.ignore], figure.GREY, 1.2)
        tiles.outline(places[0], part.truth.boxes[~part.truth.ignore], TRUTH, 1.2)
        whole = np.array([0, 0, size[1], size[0]], np.float32)
        for number, (tile, scale, labels) in enumerate(zip(places[1:], scales, part.labels, strict=True), 1):
            height, width = pyramid.level_size(size[0], size[1], scale)
            share = float((labels == FOCUS).mean())
            tiles.show(tile, part.image, f"scale {number}, {width}x{height}: {share:.1%} FOCUS", brightness=0.6)
            tiles.cells(tile, labels == FOCUS, whole, scale, size, FOCUS_COLOR, 0.75)
            tiles.cells(tile, labels == IGNORE, whole, scale, size, figure.SKY, 0.6)
    return tiles.legend(sketch, {"object": TRUTH, "FOCUS": FOCUS_COLOR, "IGNORE": figure.SKY})


def draw_stacking(parts: Sequence[Sample], min_score: float) -> Figure:
    """Draw Fig. 4: for each image one chip, its place, its detections, and the result of stacking."""
    sketch, axes = tiles.grid([part.image for part in parts], 3)
    for part, (where, before, after) in zip(parts, axes):
        number, chip = chip_to_show(part, min_score)
        stage = part.stages[number - 1]
        tiles.show(where, part.image, f"a chip of scale {number}")
        tiles.outline(where, chip[None], CHIP, 1.5)
        for tile, title in ((before, "before stacking"), (after, "after stacking, all scales")):
            tiles.show(tile, part.image, title)
            margin = 0.06 * (chip[2:] - chip[:2]).max()
            tiles.darken(tile, chip[None], part.image.shape[:2])
            tile.set(xlim=(chip[0] - margin, chip[2] + margin), ylim=(chip[3] + margin, chip[1] - margin))
        for tile, found, color in ((before, stage.kept, KEPT), (before, stage.removed, CUT), (after, part.found, KEPT)):
            shown = (found.scores >= min_score) & (box_ops.coverage(found.boxes, chip[None])[:, 0] > 0.5)
            tiles.outline(tile, found.boxes[shown], color, 1.0)
        tiles.outline(before, chip[None], CHIP, 1.5)
        tiles.outline(after, chip[None], CHIP, 1.5)
    return tiles.legend(sketch, {"chip": CHIP, "whole": KEPT, "cut by its border, removed": CUT})


def _pixels(stage: Stage, size: tuple[int, int], scale: Scale) -> int:
    factor = pyramid.factor(*size, scale)
    return sum(height * width for height, width in (pyramid.chip_size(chip, factor) for chip in stage.chips))


def _inside(found: Detections, chips: np.ndarray, min_score: float) -> np.ndarray:
    """How many detections of at least min_score lie in each chip [c] (they are cut at theirs, so wholly in one)."""
    boxes = found.boxes[found.scores >= min_score]
    return (box_ops.coverage(boxes, chips) > 0.99).sum(axis=0)
