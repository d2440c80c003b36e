"""Images/s of AutoFocus and of the full pyramid in turns, from files to detections: do the pixels saved save time?

python benchmarks/end_to_end.py --config configs/demo.py --limit 100 --rounds 5
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax import parallel
from autofocus_jax.config import open_split
from autofocus_jax.config.load import command_line
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.structures import STAGES
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str = "configs/demo.py"
    """config file with shipped weights"""
    split: str = "val"
    limit: int = 100
    """images of the split"""
    rounds: int = 5
    """how often each program runs, in turns"""


def main() -> None:
    arguments, config = command_line(Arguments, sys.argv[1:], "end_to_end.py", __doc__)
    parallel.cache_compilations()
    variables = load_variables(safetensors.shipped(config.shipped), config)
    dataset = open_split(config, arguments.split)
    indices = range(min(arguments.limit, len(dataset)))
    config = dataclasses.replace(config, buckets=parallel.spread(config.buckets, len(jax.local_devices())))
    detect = compile_detector(config, variables, jax.local_devices())
    detect.warm_up()
    plans = measure.rows(Plan.of(config))
    runs: dict[str, list[dict]] = {measure.PYRAMID: [], measure.AUTOFOCUS: []}
    for turn in range(arguments.rounds + 1):
        for name in runs if turn % 2 else reversed(runs):
            measured = measure.measure(dataset, detect, plans[name], metric=config.metric, indices=indices)
            if turn:  # the first fills caches
                runs[name].append(measure.metrics(measured))

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("", "side", "images/s", "padding", "device busy", *(f"{stage}, ms" for stage in STAGES))
    for name, found in runs.items():
        seconds = [statistics.median(run["seconds"][stage] for run in found) for stage in STAGES]
        table.add_row(
            name, f"{found[0]['side']:.0f}", f"{statistics.median(run['images_per_second'] for run in found):.2f}",
            f"{100 * (found[0]['padded_pixels_per_image'] / found[0]['pixels_per_image'] - 1):.1f}%",
            f"{statistics.median(run['device_busy'] for run in found):.2f}",
            *(f"{1000 * value / len(indices):.1f}" for value in seconds),
        )  # fmt: skip
    console.print(table)
    pixels = runs["pyramid"][0]["pixels_per_image"] / runs["autofocus"][0]["pixels_per_image"]
    speeds = [a["images_per_second"] / p["images_per_second"] for a, p in zip(runs["autofocus"], runs["pyramid"])]
    speed = statistics.median(speeds)
    each = ", ".join(f"{value / pixels:.2f}" for value in speeds)
    print(f"{pixels:.2f} times fewer pixels, {speed:.2f} times the images/s: {speed / pixels:.2f} (pairs: {each})")


if __name__ == "__main__":
    main()
