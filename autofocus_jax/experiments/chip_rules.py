"""Chooses the chip rules (t, d, k) of a config on its tune split, as in section 5.4 of the paper.

python -m autofocus_jax.experiments.chip_rules --config configs/demo.py

Rules are searched from the finest scale to the coarsest: those of finer scales keep what was chosen for them, coarser
scales pass on their whole level meanwhile. Every candidate is a real run of the cascade.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from autofocus_jax.command.foreign_config import ForeignConfig, settled
from autofocus_jax.command.trained import load_trained
from autofocus_jax.config import Config, open_split
from autofocus_jax.config_file import command_line
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.planning.rule_search import Point, Rules, chip_functions, grids, usual_size, within_drop
from autofocus_jax.structures import AutoFocusError, ChipRule, Dataset


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str
    """config file: Python that defines get_config()"""
    checkpoint: str | None = None
    """a .safetensors file or a training's --workdir; default: the weights shipped for the config"""
    split: str = "tune"
    """images to choose on; never those that are reported"""
    drop: float = 0.0
    """points of AP below the pyramid that the chosen rules may cost together"""
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    dilations: tuple[int, ...] = (1, 3)
    min_sizes: tuple[int, ...] = (32, 64, 128)
    """least sides to try, in pixels of the level that predicts the map"""
    contexts: tuple[int, ...] = ()
    """least sides to try, in pixels of the next level, which is what the detector sees; as 128 160 192 256"""


class Candidate(NamedTuple):
    """A rule of one scale and what the cascade does with it."""

    scale: int  # 1-based, of the level that predicts the map
    rule: ChipRule | None  # None: the whole level
    ap: float  # AP of the config's metric, or AP50 of VOC's
    pixels: float  # per image


def search(
    config: Config, detect: Detect, dataset: Dataset, rules: Sequence[Sequence[ChipRule]], drop: float,
    report: Callable[[Candidate], None],
) -> list[ChipRule]:  # fmt: skip
    """The chosen rule of every scale but the last, coarse to fine; `rules` are those to try at each of them.

    At each scale the rule with the fewest pixels is taken among those whose AP is within that scale's equal share of
    `drop` below the pyramid's; when none is, the one of highest AP (planning.rule_search). report gets each candidate.
    """

    def run(rules: Rules) -> Point:
        plan = Plan.of(config, chip_functions(rules))
        found = measure.metrics(measure.measure(dataset, detect, plan, metric=config.metric))
        first, second = (found[key] for key in measure.HEADLINES[config.metric])
        if first is None:
            raise AutoFocusError("no image holds an object, so rules cannot be compared; choose another --split")
        scale = next((number for number, rule in enumerate(rules, 1) if rule is not None), len(rules))
        report(Candidate(scale, rules[scale - 1], first, found["pixels_per_image"]))
        return Point(rules, first, second, found["pixels_per_image"])

    return list(within_drop(run, len(config.scales) - 1, rules, drop).rules)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("scale", "t", "d", "k", "AP", "side", title="chip rules")
    try:
        given, kinds = sys.argv[1:] if argv is None else argv, (Config, ForeignConfig)
        arguments, config = command_line(Arguments, given, "chip_rules", __doc__, kinds)
        config = settled(config, arguments.split, lambda line: console.print(line, highlight=False, markup=False))
        detect = load_trained(config, arguments.checkpoint).detect
        dataset = open_split(config, arguments.split)
        rules = grids(config.scales, usual_size(dataset), arguments.thresholds, arguments.dilations,
                      arguments.min_sizes, arguments.contexts)  # fmt: skip

        def report(c: Candidate) -> None:
            cells = dataclasses.astuple(c.rule) if c.rule else ("whole", "", "")
            table.add_row(str(c.scale), *map(str, cells), f"{c.ap:.2f}", f"{c.pixels**0.5:.0f}")

        chosen = search(config, detect, dataset, rules, arguments.drop, report)
    except AutoFocusError as error:
        print(f"chip_rules: {error}", file=sys.stderr)
        return 1
    console.print(table)
    for scale, rule in enumerate(chosen, 1):
        console.print(f"scale {scale}: {rule}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
