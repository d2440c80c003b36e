"""Everything that there is to measure on a GPU, in ten minutes, in the order of its worth.

    python benchmarks/gpu.py --minutes 10 --output gpu_report

Runs from a checkout, without an installed package. It needs jax, flax, optax, numpy, scipy, opencv, safetensors and
pillow. DIR/gpu.json and DIR/gpu.md are written whole after every row, so an end at any moment keeps what is done. A
section that fails or runs out of its time says so there, and the next one runs. `--small` is a dry run of tiny things.

Sections run in a process of their own, which ends with this one. Each gets its share of the time that is left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from gpu_report import Part, Report

from autofocus_jax.files import WriteError, make_folder


class Section(NamedTuple):
    """A part of the report."""

    letter: str
    title: str
    function: str  # of `functions`
    share: float  # of the time that is left, among the sections that are left
    fresh: bool = False  # wants a process that has compiled nothing


SECTIONS = (
    Section("a", "The machine", "machine", 6),
    Section("b", "The paper's detector by bucket", "by_bucket", 25),
    Section("b", "The parts of the detector", "by_part", 12),
    Section("c", "The paper's setting, from files to detections", "papers_setting", 32),
    Section("d", "Training", "training", 16),
    Section("e", "Compiling all buckets, nothing cached", "compiling", 16, fresh=True),
    Section("e", "Compiling all buckets, programs from the cache", "compiling", 5, fresh=True),
    Section("f", "The golden arrays of the authors' network", "golden", 9),
    Section("g", "The demo, from files to detections", "demo", 8),
    Section("b", "The same features in PyTorch", "in_pytorch", 10),
)


def functions(small: bool, cache: Path) -> dict[str, Callable]:
    """Return the functions of the sections (small, limit, folder, machine) -> rows; they import and set up JAX.

    Args:
        small: compile quickly.
        cache: folder of compiled programs.
    """
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_disable_most_optimizations", small)
    import gpu_cascade
    import gpu_detector
    import gpu_programs
    from gpu_task import begin

    found = (
        gpu_detector.machine, gpu_detector.by_bucket, gpu_detector.by_part, gpu_detector.in_pytorch,
        gpu_cascade.papers_setting, gpu_cascade.demo,
        gpu_programs.training, gpu_programs.compiling, gpu_programs.golden,
    )  # fmt: skip
    return {function.__name__: partial(begin, function) for function in found}


def work(connection: Connection, small: bool, folder: Path, cache: Path) -> None:
    """Run the sections that are asked for, in a process of its own, and send their rows."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    failed = None
    try:
        known = functions(small, cache)
    except Exception as error:  # such as a package that is missing
        failed = error
    while True:
        name, limit, machine = connection.recv()
        try:
            if failed is not None:
                raise failed
            for row in known[name](small, limit, folder, machine):
                connection.send(("row", row))
            connection.send(("done", None))
        except (Exception, SystemExit) as error:
            connection.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


class Worker:
    """The process of the sections."""

    def __init__(self, small: bool, folder: Path, cache: Path):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, small, folder, cache), daemon=True)
        self.process.start()
        other.close()

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def run(self, part: Part, function: str, machine: list[dict[str, Any]], changed: Callable[[], None]) -> bool:
        """Run a section for at most part.limit seconds; return False if the process is of no more use.

        Args:
            part: gets the rows and the state.
            function: name of the section's function.
            machine: rows of the first section.
            changed: called after each change of the part.
        """
        begin, part.state = time.monotonic(), "running"
        end = begin + part.limit
        try:
            self.connection.send((function, part.limit, machine))
            while self.connection.poll(max(0.0, end - time.monotonic())):
                kind, value = self.connection.recv()
                part.seconds = time.monotonic() - begin
                if kind == "row":
                    part.rows.append(value)
                else:
                    part.state = "done" if kind == "done" else f"failed: {value}"
                    return True
                changed()
            part.state = f"out of time after {len(part.rows)} rows"
        except (EOFError, OSError):
            self.process.join(10)
            part.state = f"failed: its process ended with code {self.process.exitcode}"
        finally:
            part.seconds = time.monotonic() - begin
            changed()
        return False


def measure(minutes: float, output: Path, small: bool, command: str) -> Report:
    """Run all sections and return the report, which is written to `output` all the while."""
    end = time.monotonic() + 60 * minutes
    parts = [Part(section.letter, section.title) for section in SECTIONS]
    report = Report(command, f"{datetime.now(UTC):%Y-%m-%d}", parts)
    worker = None
    with tempfile.TemporaryDirectory(prefix="autofocus_gpu_") as temporary:
        folder = Path(temporary)
        for number, (section, part) in enumerate(zip(SECTIONS, parts)):
            left = end - time.monotonic()
            part.limit = max(0.0, left * section.share / sum(other.share for other in SECTIONS[number:]))
            if left < 1:
                part.state = "out of time before it began"
                report.write(output)
                continue
            if worker is not None and section.fresh:
                worker.end()
                worker = None
            if worker is None:
                worker = Worker(small, folder, folder / ("cold" if section.fresh else "compiled"))
            if not worker.run(part, section.function, parts[0].rows, lambda: report.write(output)):
                worker.end()
                worker = None
            print(f"({section.letter}) {section.title}: {part.state}, {part.seconds:.0f} s", flush=True)
        if worker is not None:
            worker.end()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything (default 10)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of gpu.json and gpu.md")
    parser.add_argument("--small", action="store_true", help="a dry run of tiny settings, for any machine")
    options = parser.parse_args()
    if not options.minutes > 0:  # nan, too
        parser.error(f"--minutes must be more than 0, got {options.minutes:g}")
    try:
        make_folder(options.output)
    except WriteError as error:
        parser.error(str(error))
    command = f"python benchmarks/gpu.py {shlex.join(sys.argv[1:])}"
    print(measure(options.minutes, options.output, options.small, command).markdown())


if __name__ == "__main__":
    main()
