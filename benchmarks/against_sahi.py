"""AutoFocus, the full image pyramid and SAHI: the same detector and weights on the same images, in turns in one run.

    pip install -e '.[benchmark]' && pip install --no-deps sahi==0.12.8
    python benchmarks/against_sahi.py --limit 100
    python benchmarks/against_sahi.py --choose --split tune

SAHI is its own package; without --no-deps it installs opencv-python over opencv-python-headless. Its slices have a
fixed side in image px, all are resized to the detector's input, and the whole image is resized to an input once more
for what is too large for a slice. What is fair to it:

- The demo's objects begin at 10 image px, and the detector was trained to see those enlarged twice, so slices are.
  A slice of 128 image px is then one training chip of 256 px, the most usual choice; larger slices overlap by more
  pixels, so that they cut fewer objects, and cost about the same. CANDIDATES holds 128, 256 and 320 px, and one that
  enlarges less.
- The whole image is resized to the coarsest scale, 256 px, where the detector was trained for the largest objects;
  to the slices' own input, which is what SAHI's ready models do; or to the middle scale, 640 px.
- A detection on a slice may be part of an object that is larger than the slice. SAHI has no rule against it but its
  merging; candidates with valid ranges (as in training: a slice answers for small objects, the whole image for large
  ones) give it one.
- SAHI's default merging (GREEDYNMM, by the overlap's share of the smaller box) gives way to NMS at an IoU of 0.5 in its
  own program where scores below 0.1 count, as they must for AP. Both are candidates.
- All slices of an image go to the compiled detector in batches without an empty row, and each has its class-wise NMS
  (an IoU of 0.5) before SAHI sees it. Rows below a score of 0.01 are left out, so that SAHI's objects, one for each
  row, stay few; AutoFocus and the pyramid keep everything above 0.001.

`--choose` measures the candidates at 20% overlap; CHOSEN is the one of highest AP on `tune` (within 0.1, the cheaper),
and runs here with SAHI's two usual overlaps. AutoFocus and the pyramid run as in evaluate.py. Times are end to end,
from image files to detections, each row's program warmed up before.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from autofocus_jax import parallel
from autofocus_jax.config import open_split
from autofocus_jax.config.load import load_config
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference import measure as measuring
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.engine import RunResult
from autofocus_jax.inference.measure import AUTOFOCUS, PYRAMID, Measurement
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.metrics import coco
from autofocus_jax.structures import AutoFocusError, Cost, Dataset, ImageError, ValidRange
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables

try:
    from sahi_model import SahiDetector, Slicing, predict, slicing_buckets
except ModuleNotFoundError as error:
    if error.name not in ("sahi", "shapely"):
        raise
    sys.exit(f"{error.name} is missing; pip install -e '.[benchmark]' and pip install --no-deps sahi==0.12.8")

SMALL, LARGE = ValidRange(0, 110), ValidRange(90, math.inf)
CANDIDATES = {
    "128 to 256, whole 256": Slicing(128, 256, 256),
    "128 to 256, whole 640": Slicing(128, 256, 640),
    "256 to 512, whole 256": Slicing(256, 512, 256),
    "256 to 512, whole 320": Slicing(256, 512, 320),
    "256 to 512, whole 384": Slicing(256, 512, 384),
    "256 to 512, whole 512": Slicing(256, 512, 512),
    "320 to 480, whole 256": Slicing(320, 480, 256),
    "320 to 640, whole 256": Slicing(320, 640, 256),
    "320 to 640, whole 640": Slicing(320, 640, 640),
    "256 to 512, whole 256, GREEDYNMM": Slicing(256, 512, 256, postprocess="GREEDYNMM", metric="IOS"),
    "256 to 512, whole 256, NMS by IOS": Slicing(256, 512, 256, metric="IOS"),
    "256 to 512, whole 256, scores of 0.001": Slicing(256, 512, 256, threshold=0.001),
    "256 to 512, whole 256, GREEDYNMM of 0.1": Slicing(
        256, 512, 256, postprocess="GREEDYNMM", metric="IOS", threshold=0.1
    ),
    "256 to 512, whole 256, ranges": Slicing(256, 512, 256, slices_valid=SMALL, full_valid=LARGE),
    "320 to 640, whole 256, ranges": Slicing(320, 640, 256, slices_valid=SMALL, full_valid=LARGE),
}
CHOSEN = "256 to 512, whole 256"

Row = Callable[[Dataset, Sequence[int]], RunResult]  # runs over the images of these indices, timed


@dataclasses.dataclass(frozen=True)
class Options:
    config: Path = Path(__file__).parent.parent / "configs" / "demo.py"
    """with shipped weights"""
    split: str = "val"
    """of the config's images"""
    limit: int | None = None
    """the first so many images only"""
    rounds: int = 2
    """parts that the images are taken in; in each part all rows take their turn, beginning with another one"""
    overlaps: tuple[float, ...] = (0.2, 0.5)
    """of SAHI's slices, share of a side"""
    choose: bool = False
    """measure SAHI's candidates at the first of the overlaps instead"""
    only: tuple[str, ...] = ()
    """of the candidates, by name; all by default"""


def sahi_row(detector: SahiDetector, dataset: Dataset, indices: Sequence[int]) -> RunResult:
    """SAHI, image by image; images that cannot be read are left out and reported."""
    detector.spent = Cost.none(2)
    result = RunResult([], [], None, 0.0, [])
    begin = time.perf_counter()
    for index in indices:
        try:
            image = dataset.image(index)
        except ImageError as error:
            result.skipped.append(Skipped(index, dataset.info(index).file_name, str(error)))
            continue
        result.indices.append(index)
        result.detections.append(predict(image, detector))
    return result._replace(cost=detector.spent, seconds=time.perf_counter() - begin)


def joined(a: RunResult, b: RunResult) -> RunResult:
    """Two runs of the same row over different images."""
    skipped = a.skipped + b.skipped
    return RunResult(
        a.indices + b.indices, a.detections + b.detections, a.cost + b.cost, a.seconds + b.seconds, skipped
    )


def measure(rows: Mapping[str, Row], dataset: Dataset, indices: Sequence[int], rounds: int) -> dict[str, Measurement]:
    """Every row over all images: in each of `rounds` parts of them all rows in turn, beginning with another one."""
    for row in rows.values():
        row(dataset, indices[:1])  # imports, first calls
    parts = [indices[len(indices) * n // rounds : len(indices) * (n + 1) // rounds] for n in range(rounds)]
    results: dict[str, RunResult] = {}
    names = list(rows)
    for turn, part in enumerate(parts):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            result = rows[name](dataset, part)
            if result.cost is None or result.skipped:
                raise AutoFocusError(f"{len(result.skipped)} images could not be read: {result.skipped[0].reason}")
            results[name] = joined(results[name], result) if name in results else result
    return {
        name: Measurement(coco.evaluate(dataset, result.detections, result.indices), result, 0, Counter())
        for name, result in results.items()
    }


def table(measurements: Mapping[str, Measurement], title: str) -> Table:
    """The rows; where AutoFocus is one of them, each with its ratios to it and its difference in AP."""
    metrics = {name: measuring.metrics(measured) for name, measured in measurements.items()}
    ours = metrics.get("autofocus")
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    result.add_column("", no_wrap=True)
    headings = ["pixels", "AP", "S", "M", "L", "images/s", "chips", "detector busy"]
    for heading in headings + ["pixels / ours", "ours / images/s", "AP - ours"] * (ours is not None):
        result.add_column(heading, justify="right")
    for name, row in metrics.items():
        points = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("AP", "APs", "APm", "APl")]
        cells = [f"{row['side']:.0f}\u00b2", *points, f"{row['images_per_second']:.2f}"]
        cells += [f"{sum(row['chips_per_image']):.1f}", f"{row['device_busy']:.0%}"]
        if ours is not None:
            cells += [f"{row['pixels_per_image'] / ours['pixels_per_image']:.2f}"]
            cells += [f"{ours['images_per_second'] / row['images_per_second']:.2f}"]
            cells += ["-" if row["AP"] is None else f"{row['AP'] - ours['AP']:+.1f}"]
        result.add_row(name, *cells)
    return result


def our_row(detect: Detect, plan: Plan, dataset: Dataset, indices: Sequence[int]) -> RunResult:
    return engine.run(dataset, indices, partial(engine.stream, detect=detect, plan=plan))


def main(options: Options, console: Console) -> None:
    if options.rounds < 1 or (options.limit is not None and options.limit < options.rounds):
        raise AutoFocusError(
            f"{options.limit} images in {options.rounds} rounds; want 1 round or more, an image for each"
        )
    if not options.overlaps or not all(0 <= overlap < 1 for overlap in options.overlaps):
        raise AutoFocusError(f"overlaps {options.overlaps}; want shares of a slice's side, from 0 to below 1")
    unknown = [name for name in options.only if name not in CANDIDATES]
    if unknown or (options.only and not options.choose):
        raise AutoFocusError(f"--only {options.only}; want names of candidates, and --choose: {', '.join(CANDIDATES)}")
    config = load_config(options.config)
    if config.shipped is None:
        raise AutoFocusError(f"config {config.name!r} ships no weights; choose one that does")
    dataset = open_split(config, options.split)
    indices = range(len(dataset))[: options.limit]
    if options.choose:
        named = options.only or tuple(CANDIDATES)
        slicings = {name: replace(CANDIDATES[name], overlap=options.overlaps[0]) for name in named}
    else:
        slicings = {f"SAHI {overlap:.0%}": replace(CANDIDATES[CHOSEN], overlap=overlap) for overlap in options.overlaps}
    variables = load_variables(safetensors.shipped(config.shipped), config)

    sizes = {(info.height, info.width) for info in map(dataset.info, indices)}
    buckets = slicing_buckets(slicings.values(), sizes)
    parallel.cache_compilations()
    with console.status("compiling"):
        detect = compile_detector(replace(config, buckets=buckets), variables)
        detect.warm_up()
        rows: dict[str, Row] = {}
        if not options.choose:
            ours = compile_detector(config, variables)
            ours.warm_up()
            plans = measuring.rows(Plan.of(config))
            rows = {name: partial(our_row, ours, plans[name]) for name in (AUTOFOCUS, PYRAMID)}
    for name, slicing in slicings.items():
        detector = SahiDetector(detect, slicing, buckets, dataset.categories, config.stacking)
        rows[name] = partial(sahi_row, detector)
    title = f"{config.name}, {options.split}, {len(indices)} images; SAHI: {'candidates' if options.choose else CHOSEN}"
    console.print(table(measure(rows, dataset, indices, options.rounds), title))


if __name__ == "__main__":
    screen = Console()
    try:
        main(tyro.cli(Options, description=__doc__), screen if screen.is_terminal else Console(width=140))
    except (AutoFocusError, OSError) as error:
        sys.exit(str(error))
