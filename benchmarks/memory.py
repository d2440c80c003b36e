"""Peak memory of an evaluation by AutoFocus: it must not grow with the number of images, but for the detections.

    python benchmarks/memory.py --counts 200 2000

Each count runs in a process of its own, as an evaluation does (inference.engine.run): images are read from their files,
those of the split over and over where it has fewer, decoded anew each time; detections are kept for the scoring at the
end. "Peak" is the largest resident memory of the whole process, compiling included (getrusage); "running" the largest
that was seen after an image while the detector ran, and "by parts" the same for each of --parts parts of the images,
which tells growth that goes on from growth that ends. "Detections" is what the results hold, 24 bytes a box: they must
grow.

A detector of one's own, over photographs of a folder (weak focus, a proposed plan):

    python benchmarks/memory.py --detector model.onnx --photos photos/ --counts 200 --parts 4
"""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from autofocus_jax import parallel
from autofocus_jax.command import photographs
from autofocus_jax.config import open_split
from autofocus_jax.config.load import load_config
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.foreign import ready
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables

MB = 1e6


@dataclasses.dataclass(frozen=True)
class Options:
    config: Path = Path(__file__).parent.parent / "configs" / "demo.py"
    """with shipped weights"""
    split: str = "val"
    """of the config's images"""
    counts: tuple[int, ...] = (200, 2000)
    """images, for each of the processes"""
    parts: int = 5
    """of the images, whose memory is shown apart"""
    detector: Path | None = None
    """an .onnx file in place of the config's detector"""
    photos: Path | None = None
    """a folder of photographs for --detector"""
    here: bool = False
    """run the first count in this process and print its numbers as JSON; what the processes are started with"""


def peak_bytes() -> int:
    """The largest resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def of_config(options: Options) -> tuple[Dataset, Detect, Plan]:
    """The images, the detector, compiled, and the plan of the config."""
    config = load_config(options.config)
    if config.shipped is None:
        raise AutoFocusError(f"config {config.name!r} ships no weights; choose one that does")
    dataset = open_split(config, options.split)
    parallel.cache_compilations()
    detect = compile_detector(config, load_variables(safetensors.shipped(config.shipped), config))
    detect.warm_up()
    return dataset, detect, Plan.of(config)


def of_detector(options: Options) -> tuple[Dataset, Detect, Plan]:
    """The photographs, the ONNX file with weak focus, and the plan that is proposed for them."""
    dataset, skipped = photographs.plain([str(options.photos)], ())
    if skipped:
        raise AutoFocusError(f"photograph {skipped[0].file_name} cannot be read: {skipped[0].reason}")
    infos = [dataset.info(index) for index in range(len(dataset))]
    detect, propose = ready(str(options.detector))
    return dataset, detect, propose([(info.height, info.width) for info in infos])


def run_here(options: Options) -> dict[str, Any]:
    """Runs the first count of images; memory in bytes, and how many were processed in how many seconds."""
    dataset, detect, plan = of_config(options) if options.detector is None else of_detector(options)
    process = psutil.Process()
    warm, seen = process.memory_info().rss, []

    def look(images: int) -> None:
        seen.extend([process.memory_info().rss] * images)

    indices = [number % len(dataset) for number in range(options.counts[0])]
    result = engine.run(dataset, indices, partial(engine.stream, detect=detect, plan=plan), look)
    if result.skipped:
        raise AutoFocusError(f"{len(result.skipped)} images could not be read: {result.skipped[0].reason}")
    return {
        "images": len(result.indices),
        "seconds": result.seconds,
        "warm": warm,
        "peak": peak_bytes(),
        "running": max(seen),
        "parts": [max(part.tolist(), default=seen[-1]) for part in np.array_split(seen, options.parts)],
        "detections": sum(field.nbytes for found in result.detections for field in found),
    }


def run_apart(options: Options, count: int) -> dict[str, Any]:
    """run_here in a new process."""
    command = [sys.executable, __file__, "--config", str(options.config), "--split", options.split]
    command += ["--parts", str(options.parts)]
    if options.detector is not None:
        command += ["--detector", str(options.detector), "--photos", str(options.photos)]
    done = subprocess.run([*command, "--here", "--counts", str(count)], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise AutoFocusError(f"{count} images failed with code {done.returncode}: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def main(options: Options) -> None:
    if not options.counts or min(options.counts) < 1:
        raise AutoFocusError(f"counts {options.counts}; want at least one, of 1 image or more")
    if options.parts < 1:
        raise AutoFocusError(f"parts must be at least 1, got {options.parts}")
    if (options.detector is None) != (options.photos is None):
        raise AutoFocusError("--detector and --photos belong together; give both")
    if options.here:
        print(json.dumps(run_here(options)))
        return
    results = [run_apart(options, count) for count in options.counts]
    what = f"{options.config.stem}, {options.split}" if options.detector is None else options.detector.name
    title = f"AutoFocus, {what}: memory in MB (1e6 bytes)"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("images", "seconds", "compiled", "peak", "running", "detections", "running, by parts"):
        table.add_column(heading, justify="right")
    for row in results:
        cells = (f"{row[key] / MB:.1f}" for key in ("warm", "peak", "running", "detections"))
        parts = " ".join(f"{value / MB:.0f}" for value in row["parts"])
        table.add_row(f"{row['images']:.0f}", f"{row['seconds']:.0f}", *cells, parts)
    console = Console() if Console().is_terminal else Console(width=140)
    console.print(table)
    least, most = results[0], results[-1]
    if len(results) > 1:
        peak, running, held = ((most[key] - least[key]) / MB for key in ("peak", "running", "detections"))
        console.print(
            f"from {least['images']} to {most['images']} images: peak {peak:+.1f} MB, running {running:+.1f} MB, "
            f"of which detections held for scoring {held:+.1f} MB",
            soft_wrap=True,
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (AutoFocusError, OSError) as error:
        sys.exit(str(error))
