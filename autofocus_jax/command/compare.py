"""Compares ways to use a detector that you have: whole photographs, slices, and looking closer where it pays.

autofocus compare photos/ --detector model.onnx --annotations boxes.json

runs every way on every photograph, side by side, prints a table and writes runs/compare/comparison.json. With boxes the
table has average precision; without, how far each way agrees with slices. Photographs that fail are named and skipped.
Reading is not timed, because all ways share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autofocus_jax import files
from autofocus_jax.command import compare_report, photographs
from autofocus_jax.command.compare_rows import Wanted, default_larger, default_tiles, slice_row, ways
from autofocus_jax.command.detector_options import ModelOptions
from autofocus_jax.command.foreign_config import shared_classes
from autofocus_jax.command.plan_file import read_plan
from autofocus_jax.command.stopping import stoppable
from autofocus_jax.config import ConfigError
from autofocus_jax.config_file import parse, to_dict
from autofocus_jax.data.image import quiet_decoders
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import Proposal, own_side, proposal
from autofocus_jax.inference.comparison import Comparison
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.structures import STRIDE, Dataset

_DETECTOR_SAYS = "(default: by the detector and the plan)"


def _by_detector(metavar: str) -> object:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=_DETECTOR_SAYS)


@dataclasses.dataclass(frozen=True)
class Arguments:
    photos: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="PHOTOS")]] = ()
    """a folder of photographs; without --annotations also files, several folders and globs"""
    detector: Annotated[str, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required)")] = ""
    """an .onnx file"""
    annotations: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """boxes of the photographs, a COCO file; its classes count, as far as --only does not choose among them"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """the detector"""
    plan: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: proposed)")] = None
    """scales, valid ranges and chip rules: a .json file as `autofocus suggest --detector` writes it"""
    side: Annotated[int | None, _by_detector("PX")] = None
    """the longer side of a whole photograph that the detector sees well"""
    larger: Annotated[tuple[int, ...], _by_detector("PX...")] = ()
    """further sides that the whole photograph is given at, to a detector of any input size"""
    slices: Annotated[tuple[int, ...], _by_detector("PX...")] = ()
    """sides of slices; the others are compared with the first"""
    canvases: Annotated[tuple[int, ...], tyro.conf.arg(metavar="PX...")] = (640,)
    """sides of fixed inputs that chips are packed into, for a detector of any input size"""
    focus: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOCUS...")] = ("weak",)
    """where to look again. weak: where the detector found something small, however weakly; weak:0.05 from that score"""
    sample: int = 3
    """photographs after which it is said what slices gain and how long the rest takes"""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """photographs at most, spread evenly"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/compare"
    """folder of comparison.json and comparison.txt"""


def run(argv: Sequence[str], console: Console) -> int:
    """Run the command; return its exit code."""
    with stoppable():
        return _run(parse(Arguments, list(argv), prog="autofocus compare", description=__doc__), console)


def _run(arguments: Arguments, console: Console) -> int:
    quiet_decoders()
    _check(arguments)
    dataset, detector, skipped = _open(arguments, console)
    proposed, side = _plan(arguments, detector, dataset)
    plan = proposed.plan
    wanted = Wanted(side, arguments.larger or default_larger(side, plan), arguments.slices or
                    default_tiles(detector, side, plan), arguments.canvases, arguments.focus)  # fmt: skip
    boxes = arguments.annotations is not None
    made = ways(detector, plan, wanted, dataset if boxes else None)
    say = lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False)  # noqa: E731
    for reason in proposed.reasons:
        say(f"- {reason}")
    comparison = Comparison(dataset, made)
    reference = slice_row(wanted.tiles[0])
    sample, rest = _split(photographs.spread(len(dataset), arguments.limit), arguments.sample)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("photographs", total=len(sample) + len(rest))
        tick = lambda count: progress.advance(task, count)  # noqa: E731
        comparison.run(sample, tick)
        first = None
        if comparison.images:
            first = compare_report.gain(comparison, f"whole {side}", reference, boxes, len(rest))
            say(first)
        comparison.run(rest, tick)
    rows = compare_report.rows(comparison, reference, boxes)
    title = f"{Path(arguments.detector).name}, {comparison.images} photographs"
    table = compare_report.table(rows, title, boxes)
    console.print(table)
    lines = compare_report.lines(rows, reference, boxes)
    reading = 1000 * comparison.reading / comparison.images
    lines.append(f"reading and decoding, in no row: {reading:.0f} ms a photograph")
    for line in lines:
        say(line)
    skipped = [*skipped, *comparison.skipped]
    content = {
        "detector": dict(detector.about), "photographs": comparison.images, "reference": reference, "rows": rows,
        "plan": to_dict(plan), "reasons": list(proposed.reasons), "sample": first, "summary": lines,
        "reading_ms": reading, "skipped": [one._asdict() for one in skipped],
    }  # fmt: skip
    output = files.make_folder(Path(arguments.output))
    files.write_json(output / "comparison.json", content)
    compare_report.write_table(output / "comparison.txt", table, lines)
    say(f"written: {output}/comparison.json, comparison.txt")
    if skipped:
        say(f"{len(skipped)} photographs failed and were skipped:")
        for one in skipped:
            say(f"  {one.file_name}: {one.reason}")
    return 0


def _check(arguments: Arguments) -> None:
    if not arguments.photos:
        raise ConfigError("PHOTOS is missing; give a folder of photographs")
    if not arguments.detector:
        raise ConfigError("--detector is missing; give an .onnx file")
    least = {"--sample": 1, "--limit": 1, "--side": STRIDE, "--larger": STRIDE, "--slices": STRIDE,
             "--canvases": STRIDE}  # fmt: skip
    for name, bound in least.items():
        given: Any = getattr(arguments, name[2:])
        for value in given if isinstance(given, tuple) else () if given is None else (given,):
            if value < bound:
                raise ConfigError(f"{name} must be at least {bound}, got {value}")


def _open(arguments: Arguments, console: Console) -> tuple[Dataset, CropDetector, list[Skipped]]:
    """The photographs, the detector, whose classes are theirs in their order, and the photographs without a size."""
    options = arguments.options
    if arguments.annotations is None:
        detector = options.load(arguments.detector)
        dataset, skipped = photographs.plain(arguments.photos, detector.categories)
        return dataset, detector, skipped
    dataset, found = photographs.annotated(arguments.photos, arguments.annotations)
    for line in found.lines():
        console.print(line, style="yellow", soft_wrap=True, markup=False, highlight=False)
    known = dataclasses.replace(options, only=()).load(arguments.detector).categories
    names = shared_classes(options, known, dataset, lambda line: console.print(line, soft_wrap=True, markup=False))
    dataset = photographs.OfClasses(dataset, names)
    return dataset, dataclasses.replace(options, only=names).load(arguments.detector), []


def _plan(arguments: Arguments, detector: CropDetector, dataset: Dataset) -> tuple[Proposal, int]:
    """The plan, with reasons, and the longer side of a whole photograph."""
    side = own_side(detector) if arguments.side is None else arguments.side
    if arguments.plan is not None:
        plan: Plan = read_plan(arguments.plan)
        return Proposal(plan, (f"the plan is that of {arguments.plan}",)), side
    infos = (dataset.info(index) for index in range(len(dataset)))
    return proposal(detector, [(info.height, info.width) for info in infos], side=arguments.side), side


def _split(indices: list[int], sample: int) -> tuple[list[int], list[int]]:
    """A sample of the indices, spread evenly, and the others."""
    chosen = {indices[position] for position in photographs.spread(len(indices), sample)}
    return sorted(chosen), [index for index in indices if index not in chosen]
