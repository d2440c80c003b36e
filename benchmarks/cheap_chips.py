"""Pixels, padded pixels and chips of Algorithm 1 and of focus/cheap_chips.py, with perfect focus maps.

    python benchmarks/cheap_chips.py --config configs/coco_r101.py --annotations instances_val2017.json --price 5000
    python benchmarks/cheap_chips.py --config configs/demo.py --limit 100 --price 5000 --rounds 3
    python benchmarks/cheap_chips.py --plan plan.json --annotations instances.json --price 5000

Without --annotations the images are those of the config's split. The cost is the padded pixels of the scales after the
first, with the price of each chip; empty rows of batches are not counted. With --rounds the shipped weights also run,
in turns with both rules, and the table has their AP and images/s.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax import parallel
from autofocus_jax.command.plan_file import read_plan
from autofocus_jax.config import Config, open_split
from autofocus_jax.config.load import command_line
from autofocus_jax.data.coco import CocoDataset
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cheap_chips import cheap_rules
from autofocus_jax.focus.chip_cost import LOOSE, PRICE
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.measure import measure, metrics
from autofocus_jax.inference.model import load
from autofocus_jax.planning.rule_search import usual_size
from autofocus_jax.structures import Dataset, FocusRange
from autofocus_jax.weights.safetensors import shipped

USUAL, CHEAP = "Algorithm 1", "cheap_chips"


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str = "configs/demo.py"
    annotations: str | None = None
    """COCO annotations in place of the config's data"""
    plan: str | None = None
    """a plan that `autofocus suggest --detector` wrote, in place of the config's; objects below 64 px are looked for"""
    split: str = "val"
    limit: int | None = None
    """the first so many images only"""
    price: float = PRICE
    """of a chip, padded px"""
    rounds: int = 0
    """turns of the shipped weights"""


def perfect(dataset: Dataset, count: int, plan: Plan, looked_for: FocusRange, price: float) -> list[str]:
    """Return (pixels, padded pixels, chips, cost) an image after scale 1, and ms an image of making chips."""
    buckets = LOOSE if isinstance(plan.buckets, Loose) else plan.buckets
    unshrunk, total, spent = dataclasses.replace(plan, buckets=buckets, shrink=0.0), np.zeros(3), 0.0
    for index in range(count):
        info, truth = dataset.info(index), dataset.ground_truth(index)
        start = time.perf_counter()
        stages = oracle_chips((info.height, info.width), truth, plan, looked_for)
        spent += time.perf_counter() - start
        sizes = np.concatenate([stage.sizes for stage in stages[1:]])
        padded = sum(bucket.height * bucket.width for bucket in unshrunk.fit(sizes)[0])
        total += sizes.prod(axis=1).sum(), padded, len(sizes)
    pixels, padded, chips = total / count
    cost = padded + price * chips
    return [f"{pixels:,.0f}", f"{padded:,.0f}", f"{chips:.2f}", f"{cost:,.0f}", f"{1000 * spent / count:.2f}"]


def real(dataset: Dataset, count: int, plans: dict[str, Plan], config: Config, rounds: int) -> Table:
    """Return a table of AP and images/s of the shipped weights, both plans in turns."""
    model = load(shipped(config.shipped), config)
    model.warm_up()
    found: dict[str, dict] = {}
    speeds: dict[str, list[float]] = {name: [] for name in plans}
    for turn in range(rounds + 1):
        for name in list(plans)[:: -1 if turn % 2 else 1]:
            plan = dataclasses.replace(plans[name], buckets=model.detect.buckets)
            measured = measure(dataset, model.detect, plan, indices=range(count))
            found[name] = metrics(measured)
            if turn:  # the first fills caches
                speeds[name].append(found[name]["images_per_second"])
    table = Table("shipped weights", "AP", "AP small", "px", "padded px", "chips", "images/s", "each turn")
    for name, row in found.items():
        table.add_row(
            name, f"{row['AP']:.2f}", f"{row['APs']:.2f}", f"{row['pixels_per_image']:,.0f}",
            f"{row['padded_pixels_per_image']:,.0f}", f"{sum(row['chips_per_image']):.2f}",
            f"{statistics.median(speeds[name]):.2f}", ", ".join(f"{speed:.2f}" for speed in speeds[name]),
        )  # fmt: skip
    return table


def main() -> None:
    arguments, config = command_line(Arguments, sys.argv[1:], "cheap_chips.py", __doc__)
    parallel.cache_compilations()
    given = arguments.annotations
    dataset = open_split(config, arguments.split) if given is None else CocoDataset(Path(given).parent, Path(given))
    count = min(len(dataset), arguments.limit or len(dataset))
    usual = Plan.of(config) if arguments.plan is None else read_plan(arguments.plan)
    looked_for = config.focus_range if arguments.plan is None else FocusRange(0, 64, 90)
    rules = cheap_rules(usual, usual_size(dataset), arguments.price)
    plans = {USUAL: usual, CHEAP: dataclasses.replace(usual, rules=rules)}
    console = Console(width=None if sys.stdout.isatty() else 140)
    title = f"{arguments.plan or config.name}, {given or arguments.split}, {count} images, price {arguments.price:g}"
    table = Table("perfect maps", "px", "padded px", "chips", "cost", "ms an image", title=title)
    for name, plan in plans.items():
        table.add_row(name, *perfect(dataset, count, plan, looked_for, arguments.price))
    console.print(table)
    if arguments.rounds:
        console.print(real(dataset, count, plans, config, arguments.rounds))


if __name__ == "__main__":
    main()
