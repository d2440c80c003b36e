"""Scores and cost of a detector with a plan on a dataset, the rows of a table by name, and the table."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import AnyDetect, Outcome, Reader
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.metrics import coco, voc
from autofocus_jax.structures import STAGES, AutoFocusError, Cost, Dataset, Detections

if TYPE_CHECKING:
    from rich.table import Table

PYRAMID, AUTOFOCUS, PERFECT = "pyramid", "autofocus", "perfect"  # names of rows

# Metric -> the keys of its scores that a row is judged by, most important first.
HEADLINES = {"coco": ("AP", "AP50"), "voc": ("AP50", "AP70")}

# Key in metrics.json -> heading; a table has the columns that its rows have.
_HEADINGS = {
    "AP": "AP", "AP50": "AP50", "AP70": "AP70", "AP75": "AP75", "APs": "S", "APm": "M", "APl": "L",
    "AP50area": "AP50 area", "AP70area": "AP70 area",
}  # fmt: skip

Scores = coco.CocoScores | voc.VocScores


class Measurement(NamedTuple):
    """Results and cost of a detector with a plan."""

    scores: Scores  # as the metric says
    run: engine.RunResult
    compilations: int  # programs compiled meanwhile
    sizes: Counter[tuple[int, int]]  # (height, width) of every chip processed here, chip px, before it is made smaller

    @property
    def cost(self) -> Cost:
        """Return the cost, summed over the images that were processed."""
        return self.run.cost


def rows(plan: Plan) -> dict[str, Plan]:
    """Return the rows of a table by name: scale1, scale2 … (each alone over its whole level), pyramid and autofocus."""
    alone = {f"scale{number}": plan.alone(number) for number in range(1, len(plan.scales) + 1)}
    return {**alone, PYRAMID: plan.pyramid(), AUTOFOCUS: plan}


def measure(
    dataset: Dataset,
    detect: AnyDetect,
    plan: Plan,
    *,
    metric: str = "coco",
    indices: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
    name: str = "measure",
    max_detections: int = coco.MAX_DETECTIONS,
) -> Measurement:
    """Run a detector over images of a dataset, timed with reading and decoding, and score the processed images.

    Several processes (jax.distributed) share the images if they share `folder`. All return the same measurement, and
    its seconds are those of an average process. Without a folder each process does everything.

    Args:
        dataset: images and ground truth. The key of an image is its index.
        detect: the detector.
        plan: the scales, buckets and rules.
        metric: "coco" or "voc".
        indices: which images; by default all.
        progress: called with the number of images done since the last call.
        folder: existing folder for finished pieces, as in inference.engine.run.
        name: name of this run, by which processes wait for each other.
        max_detections: number of detections of an image that the metric "coco" counts.

    Raises:
        AutoFocusError: no image could be processed, or the metric is unknown.
    """
    from autofocus_jax import parallel  # imports JAX, which those that only list rows need not wait for

    if metric not in HEADLINES:
        raise AutoFocusError(f"metric must be one of {', '.join(HEADLINES)}, got {metric!r}")
    indices = range(len(dataset)) if indices is None else indices
    sizes: Counter[tuple[int, int]] = Counter()

    def streamed(images: Iterable[tuple[Hashable, Reader]]) -> Generator[Outcome, None, None]:
        return _counted(engine.stream(images, detect, plan), plan, sizes)

    process, processes = parallel.process() if folder is not None else (0, 1)
    before = getattr(detect, "compilations", 0)
    if processes > 1:
        engine.run(dataset, indices, streamed, progress, folder, (process, processes))
        parallel.wait_for_all(name)
        result = engine.gather(len(indices), folder)
    else:
        result = engine.run(dataset, indices, streamed, progress, folder)
    if result.cost is None:
        reason = f"; the first: {result.skipped[0].reason}" if result.skipped else ""
        raise AutoFocusError(f"none of {len(indices)} images could be processed{reason}")
    result = result._replace(seconds=result.seconds / processes)
    scores = score(metric, dataset, result.detections, result.indices, max_detections)
    return Measurement(scores, result, getattr(detect, "compilations", 0) - before, sizes)


def score(
    metric: str,
    dataset: Dataset,
    detections: Sequence[Detections],
    indices: Sequence[int],
    max_detections: int = coco.MAX_DETECTIONS,
) -> Scores:
    """Return the scores of detections of the images `indices` by a metric, "coco" or "voc".

    VOC counts all detections.
    """
    if metric == "coco":
        return coco.evaluate(dataset, detections, indices, max_detections)
    return voc.evaluate(dataset, detections, indices)


def points(scores: Scores) -> dict[str, float | None]:
    """Return scores by name, in points of 100; None without an object.

    With VOC's metric, AP50 and AP70 have the 11-point form (VOC 2007); AP50area and AP70area have the area form.
    """
    if isinstance(scores, voc.VocScores):
        found = {"AP50": scores.ap50, "AP70": scores.ap70, "AP50area": scores.ap50_area, "AP70area": scores.ap70_area}
    else:
        found = {"AP": scores.ap, "AP50": scores.ap50, "AP75": scores.ap75}
        found |= {"APs": scores.ap_small, "APm": scores.ap_medium, "APl": scores.ap_large}
    return {key: None if math.isnan(value) else value for key, value in found.items()}


def metrics(measured: Measurement) -> dict[str, Any]:
    """Return a row of metrics.json: scores in points of 100, costs per image."""
    costs = costs_of(measured.run)
    return {**points(measured.scores), **costs, "compilations": measured.compilations}


def costs_of(run: engine.RunResult) -> dict[str, Any]:
    """Return the costs per image of a run of at least one image, as in a row of metrics.json."""
    cost = run.cost
    pixels = float(cost.pixels.sum()) / cost.images
    return {
        "side": math.sqrt(pixels),
        "pixels_per_image": pixels,
        "images_per_second": cost.images / run.seconds,
        "chips_per_image": (cost.chips / cost.images).tolist(),
        "padded_pixels_per_image": float(cost.padded_pixels.sum()) / cost.images,
        "seconds": dict(zip(STAGES, cost.seconds.tolist())),
        "device_busy": min(1.0, float(cost.seconds[STAGES.index("device")]) / run.seconds),
    }


def details(measured: Measurement) -> dict[str, Any]:
    """Return a row of details.json: AP of each category, padding, and the images that were skipped."""
    cost = measured.cost
    # Of VOC's four numbers a category the first, AP50 of the 11-point form.
    first = lambda value: value[0] if isinstance(value, tuple) else value  # noqa: E731
    categories = ((name, first(value)) for name, value in measured.scores.per_category.items())
    return {
        "images": cost.images,
        "seconds": measured.run.seconds,
        "AP_per_category": {name: None if math.isnan(value) else value for name, value in categories},
        "pixels_per_image": (cost.pixels / cost.images).tolist(),
        "full_pixels_per_image": (cost.full_pixels / cost.images).tolist(),
        "padded_pixels_per_image": (cost.padded_pixels / cost.images).tolist(),
        "skipped": [skipped._asdict() for skipped in measured.run.skipped],
    }


def table(rows: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """Return a table with a line for each row of metrics.json.

    Pixels are the side of a square, as in the paper's Table 1.
    """
    from rich import box  # measuring does without
    from rich.table import Table

    shown = {key: heading for key, heading in _HEADINGS.items() if all(key in row for row in rows.values())}
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    result.add_column("", no_wrap=True)
    for heading in ("pixels", *shown.values(), "images/s", "chips per image and scale"):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, row in rows.items():
        scores = ["-" if row[key] is None else f"{row[key]:.1f}" for key in shown]
        chips = " / ".join(f"{count:.1f}" for count in row["chips_per_image"])
        result.add_row(name, f"{row['side']:.0f}²", *scores, f"{row['images_per_second']:.2f}", chips)
    return result


def comparison(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line: the saving of AutoFocus against the pyramid, and its gain or loss of AP."""
    whole, ours = rows[PYRAMID], rows[AUTOFOCUS]
    line = (
        f"AutoFocus against the pyramid: {whole['pixels_per_image'] / ours['pixels_per_image']:.2f} times fewer "
        f"pixels, {ours['images_per_second'] / whole['images_per_second']:.2f} times the images/s"
    )
    key = headline(whole)
    return line if whole[key] is None else f"{line}, {ours[key] - whole[key]:+.1f} {key}"


def headline(row: Mapping[str, Any]) -> str:
    """Return the key of a row's main score in metrics.json: AP, or AP50 for VOC."""
    return next(keys[0] for keys in HEADLINES.values() if keys[0] in row)


def _counted(
    outcomes: Generator[Outcome, None, None], plan: Plan, sizes: Counter[tuple[int, int]]
) -> Generator[Outcome, None, None]:
    """The outcomes, with the sizes of their chips added to `sizes`."""
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            for scale, regions in zip(plan.scales, outcome.regions or ()):
                factor = pyramid.factor(outcome.size[0], outcome.size[1], scale)
                sizes.update(pyramid.chip_size(region, factor) for region in regions.astype(np.float32))
            yield outcome
