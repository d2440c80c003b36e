"""How long the host stages take on one core: chip generation and focus stacking, each beside a naive reference.

    python benchmarks/host.py
    python benchmarks/host.py --annotations instances_val2017.json

Inputs are made up at the setting of a config, COCO's by default (see host_inputs.py): "usual" images with objects as in
COCO, or those of --annotations, and "crowded" ones with five times as many objects and FocusChips of a third of the
least side, which have many chips and rows. Both programs must agree, chips as sets and detections to the last bit, else
the benchmark ends with an error. A third table holds focus maps that are as bad as can be.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tyro
from host_inputs import FocusMap, HostImage, draw_objects, host_image, read_objects, to_image
from host_naive import naive_chips, naive_stack
from rich.console import Console
from rich.table import Table

from autofocus_jax.config import Config
from autofocus_jax.config.load import load_config
from autofocus_jax.focus.chips import focus_chips
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.focus.stacking import stack
from autofocus_jax.structures import AutoFocusError, ChipRule, Scale

CHIPS_MS, STACKING_MS = 1.0, 6.0  # targets, ms an image


@dataclasses.dataclass(frozen=True)
class Options:
    config: Path = Path(__file__).parent.parent / "configs" / "coco_r101.py"
    """scales, rules, classes, RoIs a chip and stacking"""
    annotations: Path | None = None
    """COCO annotations (json or json.gz) to take the usual images' objects from; drawn by default"""
    images: int = 40
    """of each kind"""
    rounds: int = 7
    """timed runs of each image; the median counts. The naive reference runs once"""
    core: int | None = None
    """to be pinned to; by default the first that may be used"""
    seed: int = 0


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """Median time of a call, after one that warms up."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def once(run: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    answer = run()
    return 1e3 * (time.perf_counter() - start), answer


def generate(maps: Sequence[Sequence[FocusMap]], scales: Sequence[Scale]) -> list[list[np.ndarray]]:
    """Every chip generation of an image: Algorithm 1 on each map, then whole pixels of the image."""
    return [
        [to_image(focus_chips(item.focus, item.size, scale.chips), item) for item in of_scale]
        for of_scale, scale in zip(maps, scales)
    ]


def same_chips(focus: np.ndarray, size: tuple[int, int], rule: ChipRule) -> tuple[float, int]:
    """ms of the naive reference and the number of chips; ends the program where the two differ."""
    ms, naive = once(lambda: naive_chips(focus, size, rule))
    ours = focus_chips(focus, size, rule).tolist()
    if sorted(map(tuple, ours)) != naive:
        raise SystemExit(f"chips of a map of {focus.shape} differ from the naive reference: {len(ours)}, {len(naive)}")
    return ms, len(ours)


def chips_times(image: HostImage, config: Config, rounds: int) -> tuple[float, float]:
    """(ours, naive) ms of both chip generations of an image."""
    naive = sum(
        same_chips(item.focus, item.size, scale.chips)[0]
        for of_scale, scale in zip(image.maps, config.scales)
        for item in of_scale
    )
    return milliseconds(lambda: generate(image.maps, config.scales), rounds), naive


def stacking_times(image: HostImage, config: Config, rounds: int) -> tuple[float, float]:
    """(ours, naive) ms of focus stacking of an image; ends the program where the two differ."""
    arguments = (image.found, image.size, config.scales, config.stacking)
    naive, expected = once(lambda: naive_stack(*arguments))
    ours, _ = stack(*arguments)
    if not all(np.array_equal(*pair) for pair in zip(ours, expected)):
        raise SystemExit("focus stacking differs from the naive reference")
    return milliseconds(lambda: stack(*arguments), rounds), naive


def add_stages(table: Table, kind: str, images: Sequence[HostImage], config: Config, rounds: int) -> None:
    for stage, measure, target in (
        ("chips", chips_times, CHIPS_MS),
        ("stacking", stacking_times, STACKING_MS),
    ):
        ours, naive = zip(*(measure(image, config, rounds) for image in images))
        median, beside = statistics.median(ours), statistics.median(naive)
        ratio = statistics.median(other / own for own, other in zip(ours, naive))
        ok = "yes" if median <= target else "NO"
        cells = (f"{median:.2f}", f"{max(ours):.2f}", f"{beside:.1f}", f"{ratio:.0f}", f"{target:g}", ok)
        table.add_row(f"{stage}, {kind}", *cells)


def add_inputs(table: Table, kind: str, images: Sequence[HostImage], config: Config) -> None:
    """What the images hold: median and most."""
    found = [image.found for image in images]
    kept = [sum(len(stage.kept.scores) for stage in stack(image.found, image.size, config.scales, config.stacking)[1])
            for image in images]  # fmt: skip
    columns = [[len(scales[index].chips) for scales in found] for index in range(len(config.scales))]
    columns += [[len(part.chip) / len(part.chips) for scales in found for part in scales if len(part.chips)]]
    columns += [[sum(len(part.chip) for part in scales) for scales in found], kept]
    table.add_row(kind, *(f"{statistics.median(column):.0f} ({max(column):.0f})" for column in columns))


def add_extremes(table: Table, random: np.random.Generator, config: Config, rounds: int) -> None:
    """Chip generation on maps of the finest level of a landscape image: nothing, everything, many components."""
    size = level_size(1400, 2000, config.scales[-1])
    shape = tuple(-(-side // 16) for side in size)
    grid = np.zeros(shape)
    grid[::4, ::4] = 1  # stays apart after dilation with 3 x 3
    salt = (random.random(shape) < 0.02).astype(float)
    for name, focus, rule in (
        ("empty", np.zeros(shape), ChipRule(0.5, 3, 320)),
        ("all focus", np.ones(shape), ChipRule(0.5, 3, 320)),
        ("2% of the cells, merging", salt, ChipRule(0.5, 3, 64)),
        ("2% of the cells, all merging", salt, ChipRule(0.5, 3, 320)),
        ("a grid that stays apart", grid, ChipRule(0.5, 3, 1)),
        ("a grid, all merging", grid, ChipRule(0.5, 3, 320)),
    ):
        naive, chips = same_chips(focus, size, rule)
        ours = milliseconds(lambda focus=focus, rule=rule: focus_chips(focus, size, rule), rounds)
        table.add_row(name, str(chips), f"{ours:.2f}", f"{naive:.1f}", f"{naive / ours:.0f}")


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=not index)
    return table


def pin(core: int | None) -> str:
    """Keeps the process on one core and says which."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a core"
    allowed = os.sched_getaffinity(0)
    core = min(allowed) if core is None else core
    if core not in allowed:
        raise SystemExit(f"core {core} may not be used; choose one of {sorted(allowed)}")
    os.sched_setaffinity(0, {core})
    return "one core"


def smaller_chips(scale: Scale) -> Scale:
    """A scale whose chips may be a third as long as its rule says."""
    rule = scale.chips and dataclasses.replace(scale.chips, min_size=max(1, scale.chips.min_size // 3))
    return dataclasses.replace(scale, chips=rule)


def main(options: Options) -> None:
    if options.images < 1 or options.rounds < 1:
        raise SystemExit(f"{options.images} images, {options.rounds} rounds; give at least one of each")
    where, random = pin(options.core), np.random.default_rng(options.seed)
    usual = load_config(options.config)
    crowded = dataclasses.replace(usual, scales=tuple(map(smaller_chips, usual.scales)))
    classes, count = usual.detector.num_classes, options.images
    if options.annotations is None:
        objects = [draw_objects(random, classes) for _ in range(count)]
    else:
        objects = list(read_objects(random, options.annotations, count))
    images = {"usual": [host_image(random, *item, usual) for item in objects]}
    images["crowded"] = [host_image(random, *draw_objects(random, classes, 5), crowded) for _ in range(count)]

    numbers = [f"scale {number}" for number in range(1, len(usual.scales) + 1)]
    title = f"{count} images of each kind, median (most): chips at each scale, rows of detections"
    inputs = new_table(title, "images", *numbers, "rows a chip", "rows", "to be merged")
    title = f"ms an image, {where}: both chip generations, focus stacking"
    stages = new_table(title, "stage", "median", "worst", "naive", "ratio", "target", "ok")
    for (kind, items), config in zip(images.items(), (usual, crowded)):
        add_inputs(inputs, kind, items, config)
        add_stages(stages, kind, items, config, options.rounds)
    title = "ms of a chip generation on maps of the whole finest level"
    extremes = new_table(title, "focus map", "chips", "ms", "naive", "ratio")
    add_extremes(extremes, random, usual, options.rounds)
    for table in (inputs, stages, extremes):
        Console().print(table)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (AutoFocusError, OSError) as error:
        sys.exit(str(error))
