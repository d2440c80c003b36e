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

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax.config.load import command_line
from autofocus_jax.detector.api import Detector
from autofocus_jax.detector.kinds import detector_of
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


def _in_one(detector: Detector) -> Detector:
    """Return the same detector with all its work in the program of each bucket."""

    def look(variables, chips):
        found = detector.detect(variables, chips)
        return found[:3], found.focus

    def prepare(variables):
        prepared, variables = detector.prepare(variables)
        return (whole if prepared is detector else _in_one(prepared)), variables

    whole = detector._replace(look=look, answer=lambda variables, seen: seen, prepare=prepare)
    return whole


def main(argv: Sequence[str] | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    arguments, config = command_line(Arguments, sys.argv[1:] if argv is None else argv, "compiling.py", __doc__)
    jax.config.update("jax_enable_compilation_cache", False)
    detector = detector_of(config.detector)
    variables = detector.init(jax.random.key(0))
    short = dataclasses.replace(config, buckets=for_images(config.buckets, arguments.images))
    forms = {
        "all buckets, one program each": lambda: CompiledDetector(config, variables, detector=_in_one(detector)),
        "all buckets, in two parts": lambda: CompiledDetector(config, variables),
        f"buckets of {arguments.images} images, in two parts": lambda: CompiledDetector(short, variables),
    }
    table = Table("", "buckets", "programs", "CPU s", "wall s", "CPU time of the first")
    first = None
    for name, make in forms.items():
        compiled = make()
        cpu, wall = cpu_seconds(), time.perf_counter()
        compiled.warm_up()
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        first = first or cpu
        numbers = f"{len(compiled.buckets)}", f"{compiled.compilations}", f"{cpu:.1f}", f"{wall:.1f}"
        table.add_row(name, *numbers, f"{cpu / first:.2f}")
        jax.clear_caches()
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
