"""Fig. 5: how many times fewer pixels than the pyramid a perfect focus map would need, against the least chip k."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments import figure, paper
from autofocus_jax.experiments.inputs import Inputs, describe, indices, open_dataset
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.chips import ChipFunction, focus_chips
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import ChipRule, Cost, FocusRange, GroundTruth, Scale

PREDICTING, NEXT = "predicting", "next"  # in pixels of which level k is
CHUNK = 100  # images a process takes at a time

NOTES = (
    "No detector: each scale sees the chips of a focus map that is 1 on the FocusPixels of the ground truth. k is in "
    "pixels of the level that predicts the map, as everywhere here and in the authors' release; for comparison, the "
    "last d is also run with k in pixels of the next level, which the chips are cut from.",
)


@dataclasses.dataclass(frozen=True)
class Arguments(Inputs):
    min_sizes: tuple[int, ...] = (64, 128, 192, 256, 320, 384, 448, 512)
    """k: least sides of a chip, px"""
    dilations: tuple[int, ...] = (1, 3)
    """d: sides of the dilating square, cells; odd"""
    processes: int = 0
    """processes that share the images; 0: one for each core"""


class Setting(NamedTuple):
    """One way to make chips from a perfect focus map."""

    min_size: int  # k, px
    dilation: int  # d, cells
    level: str  # PREDICTING or NEXT: in pixels of which level k is


def image_cost(
    size: tuple[int, int], truth: GroundTruth, scales: Sequence[Scale], focus_range: FocusRange, setting: Setting
) -> Cost:
    """Return the cost of a cascade with perfect focus maps on one image of `size` (height, width), without padding."""
    plan = Plan(tuple(scales), rules=tuple(_chip_functions(size, scales, setting)))
    stages = oracle_chips(size, truth, plan, focus_range)
    levels = np.array([pyramid.level_size(*size, scale) for scale in scales], np.int64)
    pixels = np.array([stage.sizes.prod(axis=1).sum() for stage in stages], np.int64)
    chips = np.array([len(stage.boxes) for stage in stages])
    return Cost.none(len(stages))._replace(images=1, pixels=pixels, full_pixels=levels.prod(axis=1), chips=chips)


def measure(
    items: Sequence[tuple[tuple[int, int], GroundTruth]],
    scales: Sequence[Scale],
    focus_range: FocusRange,
    settings: Sequence[Setting],
) -> list[Cost]:
    """Return the sum of image_cost over images ((height, width), ground truth), one for each setting."""
    totals = [Cost.none(len(scales)) for _ in settings]
    for size, truth in items:
        costs = (image_cost(size, truth, scales, focus_range, setting) for setting in settings)
        totals = [total + cost for total, cost in zip(totals, costs)]
    return totals


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment; no image is opened."""
    settings = _settings(arguments, config)
    dataset = open_dataset(arguments, config)
    chosen = indices(arguments, dataset)
    infos = ((dataset.info(index), dataset.ground_truth(index)) for index in chosen)
    items = [((info.height, info.width), truth) for info, truth in infos]
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    job = partial(measure, scales=config.scales, focus_range=config.focus_range, settings=settings)
    totals = [Cost.none(len(config.scales)) for _ in settings]
    with _map(arguments.processes, len(chunks)) as apply:
        for part in track(apply(job, chunks), "chips", len(chunks)):
            totals = [total + cost for total, cost in zip(totals, part)]
    rows = report_rows(settings, totals, paper.UPPER_BOUND if paper.same_levels(config, dataset) else {})
    pyramid_side = rows[0]["pyramid side"] if rows else None
    summary = {
        **describe(arguments, config, len(chosen)),
        "focus_range": dataclasses.astuple(config.focus_range),
        "pyramid side": pyramid_side,
    }
    formats = {
        "k": "{}", "d": "{}", "k in px of": "{}", "side": "{:.0f}²", "speed-up": "{:.2f}", "paper": "about {:g}",
        **{f"level {scale}": "{:.1%}" for scale in range(2, len(config.scales) + 1)},
        **{f"chips {scale}": "{:.2f}" for scale in range(2, len(config.scales) + 1)},
    }  # fmt: skip
    title = f"Fig. 5: {len(chosen)} images; the pyramid's side is {pyramid_side:.0f} px"
    return Result(summary, rows, (table(title, rows, formats),), lambda: draw(rows), NOTES)


def report_rows(
    settings: Sequence[Setting], totals: Sequence[Cost], printed: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Return a row for each setting: pixels an image, side, speed-up over the pyramid, share of each level, chips.

    `printed` is the paper's speed-up for some k (paper.UPPER_BOUND); it stands beside d = 3.
    """
    rows = []
    for setting, info in zip(settings, totals, strict=True):
        pixels, full = info.pixels.sum() / info.images, info.full_pixels.sum() / info.images
        paper_row = setting.dilation == 3 and setting.level == PREDICTING
        row = {
            "k": setting.min_size,
            "d": setting.dilation,
            "k in px of": setting.level,
            "pixels": float(pixels),
            "side": float(np.sqrt(pixels)),
            "pyramid side": float(np.sqrt(full)),
            "speed-up": float(full / pixels),
            "paper": printed.get(setting.min_size) if paper_row else None,
        }
        shares, chips = info.pixels / info.full_pixels, info.chips / info.images
        row |= {f"level {scale}": float(share) for scale, share in enumerate(shares, 1)}
        row |= {f"chips {scale}": float(count) for scale, count in enumerate(chips, 1)}
        rows.append(row)
    return rows


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the speed-up against k, a line for each d and level."""
    sketch, (axes,) = figure.new(height=2.8)
    lines = list(dict.fromkeys((row["d"], row["k in px of"]) for row in rows))
    for number, (dilation, level) in enumerate(lines):
        points = sorted(
            (row["k"], row["speed-up"]) for row in rows if (row["d"], row["k in px of"]) == (dilation, level)
        )
        dashes = {"linestyle": "--"} if level == NEXT else {}
        across, up = zip(*points)
        figure.line(axes, number, across, up, f"d = {dilation}, k in px of the {level} level", **dashes)
    printed = [(row["k"], row["paper"]) for row in rows if row["paper"] is not None]
    if printed:
        across, up = zip(*printed)
        figure.paper_mark(axes, across, up, "paper (COCO), about")
    axes.set(xlabel="least side of a chip k (px)", ylabel="speed-up over the pyramid\n(times fewer pixels)")
    axes.set_xticks(sorted({row["k"] for row in rows}))
    axes.set_ylim(bottom=0)
    sketch.legend(loc="outside upper center", ncols=1)
    return sketch


def _settings(arguments: Arguments, config: Config) -> list[Setting]:
    """Every d with k in pixels of the level that predicts, as in chip rules, and the last d in those of the next."""
    for size in arguments.min_sizes:
        if size < 1:
            raise ConfigError(f"--min-sizes has {size}; want at least 1 px")
    for dilation in arguments.dilations:
        if dilation < 1 or dilation % 2 == 0:
            raise ConfigError(f"--dilations has {dilation}; want odd numbers of cells")
    if not arguments.min_sizes or not arguments.dilations:
        raise ConfigError("--min-sizes or --dilations is empty; give at least one of each")
    if len(config.scales) < 2:
        raise ConfigError(f"config {config.name!r} has one scale; the bound needs two or more")
    kinds = [*((dilation, PREDICTING) for dilation in arguments.dilations), (arguments.dilations[-1], NEXT)]
    return [Setting(size, *kind) for kind, size in itertools.product(kinds, arguments.min_sizes)]


def _chip_functions(size: tuple[int, int], scales: Sequence[Scale], setting: Setting) -> list[ChipFunction]:
    factors = [pyramid.factor(*size, scale) for scale in scales]
    enlarged = [fine / coarse if setting.level == NEXT else 1.0 for coarse, fine in itertools.pairwise(factors)]
    least = [max(1, round(setting.min_size / ratio)) for ratio in enlarged]
    return [partial(focus_chips, rule=ChipRule(0.5, setting.dilation, each)) for each in least]


@contextlib.contextmanager
def _map(processes: int, chunks: int) -> Iterator[Callable]:
    """map, over several processes where that is asked for and there is work for them."""
    if processes < 0:
        raise ConfigError(f"--processes {processes}; want 0 (one for each core) or more")
    count = min(processes or os.cpu_count() or 1, chunks)
    if count <= 1:
        yield map
    else:
        # Spawned, not forked: the program may have threads by now, such as that of a progress bar.
        # An interrupt is the parent's to handle, which then drops what has not begun.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(count, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
