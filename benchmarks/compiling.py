"""CPU time of compiling the detector: one program for each bucket, in two parts, and of a run's own buckets alone.

python benchmarks/compiling.py --config configs/demo.py --images 200
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax.config_file import command_line
from autofocus_jax.detector.model import detect, init
from autofocus_jax.focus.buckets import for_images
from autofocus_jax.inference.compiled import CompiledDetector


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str = "configs/demo.py"
    """config file; the weights are random"""
    images: int = 200
    """of the run whose buckets are compiled"""


def cpu_seconds() -> float:
    """Return the CPU time of this process and its threads so far, seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
    arguments, config = command_line(Arguments, sys.argv[1:] if argv is None else argv, "compiling.py", __doc__)
    jax.config.update("jax_enable_compilation_cache", False)
    variables = init(jax.random.key(0), config.detector)
    short = dataclasses.replace(config, buckets=for_images(config.buckets, arguments.images))
    forms = {
        "all buckets, one program each": lambda: CompiledDetector(config, variables, whole=detect),
        "all buckets, in two parts": lambda: CompiledDetector(config, variables),
        f"buckets of {arguments.images} images, in two parts": lambda: CompiledDetector(short, variables),
    }
    table = Table("", "buckets", "programs", "CPU s", "wall s", "CPU time of the first")
    first = None
    for name, make in forms.items():
        detector = make()
        cpu, wall = cpu_seconds(), time.perf_counter()
        detector.warm_up()
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        first = first or cpu
        numbers = f"{len(detector.buckets)}", f"{detector.compilations}", f"{cpu:.1f}", f"{wall:.1f}"
        table.add_row(name, *numbers, f"{cpu / first:.2f}")
        jax.clear_caches()
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
