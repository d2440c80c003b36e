"""What a chip costs a detector beside its padded pixels: the price of focus/cheap_chips.py.

    python benchmarks/chip_price.py --config configs/demo.py --rounds 5

Full batches of a config's buckets run in turns. Two numbers are fitted to the times: seconds of a padded pixel and
seconds of a chip. Their ratio is the price, in padded px. The fit weighs errors by their share of the time. Crops,
resizing and stacking are not measured: they run in threads of their own.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax import parallel
from autofocus_jax.config.load import command_line
from autofocus_jax.focus.buckets import fewer, pad
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.inference.model import load
from autofocus_jax.structures import Bucket
from autofocus_jax.weights.safetensors import shipped


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str = "configs/demo.py"
    """config file with shipped weights"""
    buckets: int = 16
    """as many of the config's buckets are timed"""
    rounds: int = 5
    """timed runs of each bucket, after one that warms up"""


class Price(NamedTuple):
    """A fit of the time of a chip."""

    pixel: float  # seconds of a padded pixel
    chip: float  # seconds of a chip beside its pixels
    error: float  # median share of the time by which the fit is wrong

    @property
    def pixels(self) -> float:
        """Return the price of a chip in padded pixels."""
        return self.chip / self.pixel


def fit(seconds: Mapping[Bucket, float]) -> Price:
    """Fit the seconds of one chip of each bucket."""
    times = np.array(list(seconds.values()))
    terms = np.array([(bucket.height * bucket.width, 1) for bucket in seconds]) / times[:, None]
    (pixel, chip), *_ = np.linalg.lstsq(terms, np.ones(len(times)), rcond=None)
    return Price(pixel, chip, float(np.median(np.abs(terms @ (pixel, chip) - 1))))


def timed(detect: CompiledDetector, rounds: int) -> dict[Bucket, float]:
    """Return the median seconds of one chip of each bucket, in full batches."""
    random = np.random.default_rng(0)
    batches = {
        bucket: pad(list(random.integers(0, 256, (bucket.batch, bucket.height, bucket.width, 3), np.uint8)), bucket)
        for bucket in detect.buckets
    }
    seconds: dict[Bucket, list[float]] = {bucket: [] for bucket in batches}
    for turn in range(rounds + 1):
        for bucket, batch in batches.items():
            start = time.perf_counter()
            jax.block_until_ready(detect(batch))
            if turn:
                seconds[bucket].append((time.perf_counter() - start) / bucket.batch)
    return {bucket: statistics.median(each) for bucket, each in seconds.items()}


def main() -> None:
    arguments, config = command_line(Arguments, sys.argv[1:], "chip_price.py", __doc__)
    parallel.cache_compilations()
    config = dataclasses.replace(config, buckets=fewer(config.buckets, arguments.buckets))
    seconds = timed(load(shipped(config.shipped), config).detect, arguments.rounds)
    price = fit(seconds)
    table = Table("bucket", "chips a batch", "ms a chip", "fitted", title=f"{config.name}, {jax.devices()[0]}")
    for bucket, each in seconds.items():
        fitted = price.pixel * bucket.height * bucket.width + price.chip
        table.add_row(f"{bucket.height}x{bucket.width}", str(bucket.batch), f"{1e3 * each:.2f}", f"{1e3 * fitted:.2f}")
    Console().print(table)
    print(
        f"{1e9 * price.pixel:.1f} ns a padded pixel, {1e3 * price.chip:.2f} ms a chip, median error {price.error:.1%}"
    )
    print(f"a chip costs as much as {price.pixels:.0f} padded pixels")


if __name__ == "__main__":
    main()
