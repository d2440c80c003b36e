"""Fig. 7 and section 5.4: AP against pixels for AutoFocus, for the lower scales only and for the whole pyramid.

Chip rules are searched on the images of --search-split, from detections and focus maps of whole levels that are kept in
OUTPUT/levels; the chosen ones are then run for real, on these images and on those of --split.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config.load import to_dict
from autofocus_jax.experiments import figure, paper
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe as describe_inputs
from autofocus_jax.experiments.inputs import indices
from autofocus_jax.experiments.levels import Kept, keep_levels, origin
from autofocus_jax.experiments.points import Run, headline, kept_points, real_point
from autofocus_jax.experiments.replay import replay
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.ledger import data_identity
from autofocus_jax.planning.rule_search import (
    Point,
    Rules,
    chip_functions,
    describe,
    grids,
    per_budget,
    short,
    usual_size,
)
from autofocus_jax.structures import ChipRule, Dataset, ValidRange


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    search_split: str = "tune"
    """images to choose rules on; never those that are reported"""
    search_images: int = 100
    """how many of them"""
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.7)
    dilations: tuple[int, ...] = (1, 3)
    """sides of the dilating square to try, in cells"""
    min_sizes: tuple[int, ...] = (32, 64)
    """least sides of a chip to try, in pixels of the level that predicts the map"""
    contexts: tuple[int, ...] = ()
    """the same in pixels of the next level, which is what the detector sees"""
    savings: tuple[float, ...] = (2.0, 3.0, 3.5, 3.75, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0)
    """pixel budgets, as times fewer pixels than the whole pyramid"""


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment: search, confirmation on the images of the search, and the curve on --split."""
    if len(config.scales) < 2:
        raise ConfigError(f"config {config.name!r} has one scale; a trade-off needs two or more")
    choose_on = dataclasses.replace(arguments, split=arguments.search_split, limit=arguments.search_images)
    dataset = open_images(choose_on, config)
    report_on = open_images(arguments, config)
    trained = load_detector(arguments, config)
    kept = keep_levels(choose_on, config, trained, dataset, indices(choose_on, dataset), track)
    rules = grids(config.scales, usual_size(dataset), arguments.thresholds, arguments.dilations, arguments.min_sizes,
                  arguments.contexts)  # fmt: skip
    shown = indices(arguments, report_on)

    def keep(run: Run, what: str, data: Dataset, chosen: Sequence[int]) -> Run:
        settings = {"stacking": to_dict(config.stacking), "valid": [to_dict(scale.valid) for scale in config.scales],
                    "metric": config.metric}  # fmt: skip
        truths = data_identity(data, chosen, boxes=True)
        facts = {"what": what, **origin(config, trained, data), **settings, "truths": truths, "images": list(chosen)}
        return kept_points(run, Path(arguments.output) / "points", facts)

    def real(data: Dataset, chosen: Sequence[int]) -> Run:
        return keep(lambda rules: real_point(config, rules, trained.detect, data, chosen), "real", data, chosen)

    replayed = keep(lambda rules: replayed_point(config, rules, kept, dataset), "replayed", dataset, kept.indices)
    chosen, tried = searched(replayed, len(config.scales) - 1, rules, arguments.savings, track)
    on_search, on_report = real(dataset, kept.indices), real(report_on, shown)
    confirmed = [on_search(point.rules) for point in track(chosen, f"confirming ({choose_on.split})")]
    curve = [on_report(point.rules) for point in track(chosen, f"AutoFocus ({arguments.split})")]
    alone = keep(lambda rules: lower_scales(config, rules, trained.detect, report_on, shown), "lower", report_on, shown)
    counts = track(range(1, len(config.scales)), f"lower scales ({arguments.split})")
    lower = [alone((None,) * (count - 1)) for count in counts]
    pyramid = on_report((None,) * (len(config.scales) - 1))
    names = measure.HEADLINES[config.metric]
    rows = report_rows(chosen, confirmed, curve, lower, pyramid, names)
    facts: dict[str, Any] = {
        **describe_inputs(arguments, config, len(shown)),
        "search": {"split": choose_on.split, "images": len(kept.indices), "points": len(tried)},
        "tried": [{"rules": describe(p.rules), names[0]: p.ap, names[1]: p.ap50, "pixels": p.pixels} for p in tried],
        "summary": summary(curve, pyramid),
        "paper": {"scales": paper.SCALES, "AP lost by times fewer": paper.TRADEOFF},
    }
    formats = {
        "what": "{}", "rules (t, d, k)": "{}", "side": "{:.0f}", "saving": "{:.2f}", names[0]: "{:.2f}",
        names[1]: "{:.2f}", f"search {names[0]}": "{:.2f}", f"replayed {names[0]}": "{:.2f}",
    }  # fmt: skip
    title = f"Fig. 7: {config.name}, {arguments.split}, {len(shown)} images"
    found = facts["summary"]
    notes = (
        f"Rules chosen on {len(kept.indices)} images of {choose_on.split}; \"replayed {names[0]}\" is the search's, "
        f"from kept levels, \"search {names[0]}\" that of real runs on the same images. Savings are in pixels over the "
        "whole pyramid.",
        f"Largest saving before AP falls 0.3 below the pyramid's: {found['largest saving before AP falls 0.3']:.2f}. "
        f"AP lost at 5 times fewer pixels: {_number(found['AP lost at 5 times fewer'])}.",
        f"The paper, COCO val2017: {_paper_losses()}.",
        *(f"skipped: {reason}" for reason in kept.skipped),
    )  # fmt: skip
    return Result(facts, rows, (table(title, rows, formats),), lambda: draw(curve, lower, pyramid, names), notes)


def searched(
    run: Run, levels: int, rules: Sequence[Sequence[ChipRule]], savings: Sequence[float], track: Track
) -> tuple[list[Point], list[Point]]:
    """Return rule_search.per_budget, with progress."""
    steps = iter(track(itertools.count(1), "search"))

    def counted(rules: Rules) -> Point:
        next(steps)
        return run(rules)

    return per_budget(counted, levels, rules, savings)


def replayed_point(config: Config, rules: Rules, kept: Kept, dataset: Dataset) -> Point:
    """Return the replayed result of the cascade with these rules; no detector runs."""
    found, cost = replay(kept.levels, config, Plan.of(config, chip_functions(rules)))
    scores = measure.points(measure.score(config.metric, dataset, found, kept.indices))
    return Point(rules, *headline(config, scores), float(cost.pixels.sum()) / cost.images)


def lower_scales(config: Config, rules: Rules, detect: AnyDetect, dataset: Dataset, chosen: Sequence[int]) -> Point:
    """Return the result of the first len(rules) + 1 scales, the last of which answers for all smaller sizes."""
    count = len(rules) + 1
    scales = list(config.scales[:count])
    last = scales[-1]
    scales[-1] = dataclasses.replace(last, valid=ValidRange(0, last.valid.high if count > 1 else math.inf), chips=None)
    plan = dataclasses.replace(Plan.of(config), scales=tuple(scales), rules=chip_functions(rules))
    return real_point(config, rules, detect, dataset, chosen, plan)


def report_rows(
    chosen: Sequence[Point], confirmed: Sequence[Point], curve: Sequence[Point], lower: Sequence[Point], pyramid: Point,
    names: tuple[str, str] = ("AP", "AP50"),
) -> list[dict]:  # fmt: skip
    """Return a row for the pyramid, for each chosen point and for each run of lower scales.

    names: of the two scores.
    """

    def row(what: str, point: Point, real: Point | None = None, replayed: Point | None = None) -> dict:
        return {
            "what": what,
            "rules (t, d, k)": short(point.rules),
            "pixels": point.pixels,
            "side": math.sqrt(point.pixels),
            "saving": pyramid.pixels / point.pixels if point.pixels else math.inf,
            names[0]: point.ap,
            names[1]: point.ap50,
            f"search {names[0]}": None if real is None else real.ap,
            f"replayed {names[0]}": None if replayed is None else replayed.ap,
        }

    rows = [] if any(point.rules == pyramid.rules for point in curve) else [row("pyramid", pyramid)]
    for point, real, replayed in zip(curve, confirmed, chosen, strict=True):
        rows.append(row("AutoFocus" if any(point.rules) else "pyramid", point, real, replayed))
    return rows + [row(f"scales 1 to {n}" if n > 1 else "scale 1", point) for n, point in enumerate(lower, 1)]


def summary(curve: Sequence[Point], pyramid: Point) -> dict[str, float | None]:
    """Return the largest saving before AP falls 0.3 below the pyramid's, and the AP lost at five times fewer pixels.

    The saving is that of the last point before the first lower one, from most pixels to fewest. The loss is that of the
    point of highest AP with at most a fifth of the pyramid's pixels; None without such a point.
    """
    saving = 1.0
    for point in sorted(curve, key=lambda point: -point.pixels):
        if not point.ap >= pyramid.ap - 0.3:
            break
        saving = max(saving, pyramid.pixels / point.pixels)
    fifth = [point.ap for point in curve if point.pixels <= pyramid.pixels / 5]
    return {
        "largest saving before AP falls 0.3": saving,
        "AP lost at 5 times fewer": pyramid.ap - max(fifth) if fifth else None,
    }


def draw(
    curve: Sequence[Point], lower: Sequence[Point], pyramid: Point, names: tuple[str, str] = ("AP", "AP50")
) -> Figure:
    """Draw both scores against pixels, side by side. names: of the scores."""
    sketch, axes = figure.new(width=figure.PAGE, height=2.6, columns=2)
    auto = sorted({*curve, pyramid}, key=lambda point: point.pixels)
    low = sorted([*lower, pyramid], key=lambda point: point.pixels)
    for axis, name, shown in zip(axes, ("ap", "ap50"), names):
        for number, (points, label) in enumerate(((auto, "AutoFocus"), (low, "lower scales only"))):
            values = [getattr(point, name) for point in points]
            figure.line(axis, number, [point.pixels / 1e6 for point in points], values, label)
        value = getattr(pyramid, name)
        axis.plot(pyramid.pixels / 1e6, value, "*", color=figure.BLACK, markersize=8, label="whole pyramid", ls="none")
        axis.axhline(value, color=figure.GREY, linewidth=0.8, linestyle="--", zorder=1)
        figure.log_pixels(axis)
        axis.set(xlabel="pixels per image (millions)", ylabel=shown)
    axes[0].legend(loc="lower right")
    return sketch


def _paper_losses() -> str:
    """Return the paper's losses of AP by saving, and the AP of its fewer scales."""
    lost = [f"{times:g} times fewer pixels {share} at -{points:g} AP"
            for share, of in paper.TRADEOFF.items() for times, points in of.items()]  # fmt: skip
    return "; ".join([*lost, *(f"{name} {scores['AP']:g} AP" for name, scores in paper.SCALES.items())])


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.2f}"
