"""The report of `autofocus compare`: rows side by side over the photographs, those that differ most first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from autofocus_jax.command.compare_rows import best_slices
from autofocus_jax.command.report_parts import looked_closer, marks, pictured
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.inference import engine
from autofocus_jax.inference.comparison import Comparison
from autofocus_jax.inference.measure import PYRAMID
from autofocus_jax.metrics.agreement import SURE
from autofocus_jax.report import pictures
from autofocus_jax.report.values import LOST, MISSED, WON, Figure, Mark, Pane, Plot, Point, Report, Table
from autofocus_jax.structures import ImageError, Where


class Sides(NamedTuple):
    """The rows that are shown side by side."""

    whole: str
    slices: str  # the reference of lost and won
    ours: str


def sides(
    rows: Mapping[str, Mapping[str, Any]], whole: str, reference: str, looks: Sequence[str], boxes: bool
) -> Sides:
    """Return the rows to show: the whole photograph, slices (at their best, with boxes), and the cascade.

    Without a cascade, as for a plan of one scale, the last row stands for it.

    Args:
        rows: of comparison.json.
        whole: name of the row of whole photographs.
        reference: name of the row of slices that agreement is measured against.
        looks: names of rows of the cascade.
        boxes: whether there is ground truth.
    """
    ours = next((name for name in looks if name in rows), list(rows)[-1])
    return Sides(whole, best_slices(rows, "AP") if boxes else reference, ours)


def report(
    comparison: Comparison, rows: Mapping[str, Mapping[str, Any]], shown: Sides, boxes: bool,
    look: tuple[CropDetector, Where, Plan] | None, texts: tuple[str, Sequence[Table], Sequence[str]],
    progress: Callable[[int], None] = lambda done: None,
) -> Report:  # fmt: skip
    """Return the report of a comparison. Photographs that are shown run through the cascade once more, for its maps.

    Args:
        comparison: what was run.
        rows: of comparison.json.
        shown: rows to show.
        boxes: whether there is ground truth.
        look: the detector, where it looks, and the plan of the row `ours`; None if that is no cascade.
        texts: title, tables and lines.
        progress: called with the number of photographs done since the last call.
    """
    dataset, (title, tables, lines) = comparison.dataset, texts
    pairs = zip(comparison.detections(shown.slices), comparison.detections(shown.ours), strict=True)
    truths = [dataset.ground_truth(index) if boxes else None for index in comparison.indices]
    differ = [marks(*pair, truth) for pair, truth in zip(pairs, truths, strict=True)]
    count = [sum(mark.kind != MISSED for mark in found) for found in differ]
    places = sorted(range(len(count)), key=lambda place: -count[place])[: pictures.MOST]
    share, photographs = pictures.share(len(places)), []
    for place, image, stages in _looked(comparison, places, look):
        panes = _panes(comparison, place, shown, stages)
        name = dataset.info(comparison.indices[place]).file_name
        photographs.append(pictured(name, image, panes, share, differ[place], truths[place]))
        progress(1)
    key = "AP" if boxes else "found"
    label = "AP" if boxes else f"found of what {shown.slices} find, %"
    points = [Point(name, name.split()[0], row["side"] ** 2, row[key]) for name, row in rows.items()
              if row[key] is not None and ", canvas" not in name]  # fmt: skip
    return Report(
        title, dataset.categories, figures(rows, shown, key, [mark for found in differ for mark in found]), lines,
        tables, Plot(label, points), photographs, comparison.images, _versus(shown, boxes),
    )  # fmt: skip


def figures(
    rows: Mapping[str, Mapping[str, Any]], shown: Sides, key: str, found: Sequence[Mark]
) -> list[Figure]:  # fmt: skip
    """Return the headline: pixels, score, speed, and objects lost and won.

    Args:
        rows: of comparison.json.
        shown: rows to compare.
        key: of the score, "AP" or "found".
        found: the marks of all photographs.
    """
    ours, other = rows[shown.ours], rows[shown.slices]
    pixels, speed = (other["side"] / ours["side"]) ** 2, ours["images_per_second"] / other["images_per_second"]
    result = [Figure(_times(pixels), f"{'fewer' if pixels >= 1 else 'more'} pixels than {shown.slices}")]
    if key == "AP" and None not in (ours[key], other[key]):
        result.append(Figure(f"{ours[key] - other[key]:+.1f} AP", f"{ours[key]:.1f} instead of {other[key]:.1f}"))
    elif key != "AP" and ours[key] is not None:
        result.append(Figure(f"{ours[key]:.0f}%", f"of what {shown.slices} find is found"))
    result.append(Figure(_times(speed), f"{'faster' if speed >= 1 else 'slower'}, reading included"))
    lost, won = (sum(mark.kind == kind for mark in found) for kind in (LOST, WON))
    return [*result, Figure(f"{lost} / {won}", "objects lost / won in all photographs")]


def _times(ratio: float) -> str:
    return f"{max(ratio, 1 / ratio):.1f} times"


def _versus(shown: Sides, boxes: bool) -> str:
    against = f"lost: {shown.slices} find it and {shown.ours} does not; won: the other way round"
    rule = "from a score of 0.25 on, with an IoU of 0.5" if boxes else f"detections from a score of {SURE:g} on"
    return f"{against} ({rule})."


def _panes(comparison: Comparison, place: int, shown: Sides, stages: Sequence[Stage] | None) -> list[Pane]:
    """The rows over the photograph at this place of the comparison, ours last."""
    others = [name for name in (shown.whole, shown.slices, PYRAMID) if name in comparison.names and name != shown.ours]
    panes = []
    for name in dict.fromkeys((*others, shown.ours)):
        cost = comparison.costs(name)[place]
        runs = int(cost.runs.sum())
        note = f"{cost.pixels.sum() / 1e6:.1f} million px in {runs} input{'s' if runs != 1 else ''}"
        pane = Pane(name, note, comparison.detections(name)[place], marked=name in (shown.slices, shown.ours))
        panes.append(pane if stages is None or name != shown.ours else looked_closer(pane, stages))
    return panes


def _looked(
    comparison: Comparison, places: Sequence[int], look: tuple[CropDetector, Where, Plan] | None
) -> Iterator[tuple[int, Any, Sequence[Stage] | None]]:
    """Yield (place, image, stages) of the photographs at places of a comparison; those that fail now are left out."""
    dataset, indices = comparison.dataset, comparison.indices
    if look is None:
        for place in places:
            with contextlib.suppress(ImageError):
                yield place, dataset.image(indices[place]), None
        return
    detector, where, plan = look
    place_of = {indices[place]: place for place in places}
    readers = ((index, partial(dataset.image, index)) for index in place_of)
    outcomes = engine.stream(readers, ForeignDetect(detector, where), plan, keep_stages=True, keep_images=True)
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            if outcome.error is None:
                yield place_of[cast(int, outcome.key)], outcome.image, outcome.stages
