"""`autofocus suggest PHOTOS --detector MODEL`: a plan for a detector that you have, from what it finds in a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from autofocus_jax.command import photographs
from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.detector import ModelOptions
from autofocus_jax.command.plan_file import plan_text
from autofocus_jax.data.image import quiet_decoders
from autofocus_jax.files import write_text
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.magnification import Trial, candidate_sides, find_at, suggest_plan, trial
from autofocus_jax.foreign.proposal import THRESHOLD, own_side
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.structures import AutoFocusError, Dataset, DetectorError, ImageError

_CANVAS = 640  # px, a detector of any input size sees levels above _AT_ONCE in windows of this side
_AT_ONCE = 4096


class Tried(NamedTuple):
    """Settings of a trial."""

    photos: str
    detector: str
    options: ModelOptions
    count: int  # type: ignore[assignment]  # photographs
    side: int | None  # the longer side of the coarsest level; None takes the detector's own
    output: Path


def suggest_for(tried: Tried, console: Screen) -> int:
    """Try the detector on a sample, say what it finds at which magnification, write the plan; return the exit code."""
    quiet_decoders()
    detector = tried.options.load(tried.detector)
    dataset, skipped = photographs.plain([tried.photos], detector.categories)
    sides = sides_to_try(detector, dataset, tried.side)
    sizes, found = [], []
    with console.progress() as progress:
        chosen = photographs.spread(len(dataset), tried.count)
        for index in progress.track(chosen, description="photographs"):
            try:
                image = dataset.image(index)
                at = [find_at(level_form(detector, side), image, side) for side in sides]
            except (ImageError, DetectorError) as error:
                skipped.append(Skipped(index, dataset.info(index).file_name, str(error)))
                continue
            found.append(at)
            sizes.append(image.shape[:2])
    if not found:
        raise AutoFocusError(f"none of {len(chosen)} photographs could be processed; the first: {skipped[0].reason}")
    measured = trial(sides, sizes, found)
    console.print(table(measured, len(found)))
    plan, reasons = suggest_plan(measured)
    for reason in reasons:
        console.say(f"- {reason}")
    for one in skipped:
        console.say(f"skipped: {one.reason}")
    path = tried.output / f"{re.sub(r'[^0-9A-Za-z_]', '_', Path(tried.photos).resolve().stem)}.json"
    write_text(path, plan_text(plan))
    console.say(f"written: {path}; try it with autofocus compare --plan {path}")  # fmt: skip
    return 0


def sides_to_try(detector: CropDetector, dataset: Dataset, side: int | None) -> tuple[int, ...]:
    """Return the longer sides of levels to try a detector at, px, coarse to fine.

    side: of the coarsest level; None takes the detector's own.
    """
    infos = [dataset.info(index) for index in range(len(dataset))]
    longer = float(np.median([max(info.height, info.width) for info in infos]))
    return candidate_sides(own_side(detector) if side is None else side, longer)


def level_form(detector: CropDetector, side: int) -> CropDetector:
    """The detector for a level of that longer side: one of any input size is not given more than _AT_ONCE at once."""
    return detector if detector.fixed or side <= _AT_ONCE else detector._replace(fixed=(_CANVAS, _CANVAS))


def table(measured: Trial, count: int) -> Table:
    """Return a table: which share of the objects of each size is found at each side, in brackets or suspected."""
    result = Table(title=f"{len(measured.sizes)} objects in {count} photographs: % found (or suspected) at a side",
                   box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)  # fmt: skip
    result.add_column("size in the photograph", no_wrap=True)
    result.add_column("objects", justify="right")
    for side in measured.sides:
        result.add_column(f"{side} ({side / measured.longer:.2g}x)", justify="right", no_wrap=True)
    for name, inside in by_octave(measured.sizes):
        cells = [f"{100 * found[inside].mean():.0f} ({100 * (found | noticed)[inside].mean():.0f})"
                 for found, noticed in zip(measured.found, measured.suspicion >= THRESHOLD)]  # fmt: skip
        result.add_row(name, str(inside.sum()), *cells)
    return result


def by_octave(sizes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each octave of sizes [n], px, that has some, and which sizes are in it, [n] bool."""
    octaves = np.floor(np.log2(np.maximum(sizes, 1))).astype(int)
    for octave in sorted(set(octaves.tolist())):
        yield f"{2**octave} to {2 ** (octave + 1)} px", octaves == octave
