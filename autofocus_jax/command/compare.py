"""`autofocus compare`: a detector that you have on whole photographs, in slices, and looking closer where it pays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from autofocus_jax import files, parallel
from autofocus_jax.command import compare_figure, compare_page, compare_recall, compare_report, photographs
from autofocus_jax.command.compare_rows import Wanted, default_larger, default_tiles, looks, slice_row, ways
from autofocus_jax.command.console import Screen
from autofocus_jax.command.foreign_config import shared_classes
from autofocus_jax.command.options.compare import Arguments
from autofocus_jax.command.plan_file import read_plan
from autofocus_jax.command.report_parts import table_of
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import to_dict
from autofocus_jax.data.image import quiet_decoders
from autofocus_jax.experiments import figure
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import Proposal, own_side, proposal
from autofocus_jax.inference.comparison import Comparison
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.report import page, pictures
from autofocus_jax.structures import STRIDE, Dataset, Where


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    parallel.cache_compilations()
    _check(arguments)
    dataset, detector, skipped = opened(arguments, console)
    proposed, side = planned(arguments, detector, dataset)
    plan = proposed.plan
    wanted = Wanted(side, arguments.larger or default_larger(side, plan), arguments.slices or
                    default_tiles(detector, side, plan), arguments.canvases, arguments.focus,
                    arguments.focus_weights)  # fmt: skip
    boxes = arguments.annotations is not None
    truths = dataset if boxes else None
    focuses = looks(wanted, plan, truths) if len(plan.scales) > 1 else {}
    if arguments.recall:
        _require_two_scales(plan)
    first, comparison = (Comparison(dataset, ways(detector, plan, wanted, truths)) for _ in range(2))
    say = console.say
    for reason in proposed.reasons:
        say(f"- {reason}")
    reference = slice_row(wanted.tiles[0])
    indices = photographs.spread(len(dataset), arguments.limit)
    sample = [indices[place] for place in photographs.spread(len(indices), arguments.sample)]
    with console.progress() as progress:
        task = progress.add_task("photographs", total=len(sample) + len(indices))
        tick = lambda count: progress.advance(task, count)  # noqa: E731
        first.run(sample, tick)
        gained = None
        if first.images:
            gained = compare_report.gain(first, f"whole {side}", reference, boxes, len(indices))
            say(gained)
        comparison.run(indices, tick)
    rows = compare_report.rows(comparison, reference, boxes)
    recall = _recall(dataset, indices, detector, focuses, console) if arguments.recall else {}
    title = f"{Path(arguments.detector).name}, {comparison.images} photographs"
    tables = [compare_report.table(rows, title, boxes), *([compare_recall.table(recall)] if recall else [])]
    reading, cpu = (1000 * value / comparison.images for value in (comparison.reading, comparison.reading_cpu))
    lines = [*compare_report.lines(rows, reference, boxes), f"reading and decoding in each row, beside the detector: "
             f"{reading:.0f} ms a photograph in its thread; {cpu:.0f} ms of the processor, which its column leaves out",
             *(compare_recall.NOTES if recall else ())]  # fmt: skip
    for table in tables:
        console.print(table)
    for line in lines:
        say(line)
    skipped = [*skipped, *comparison.skipped]
    output = files.make_folder(Path(arguments.output))
    files.write_json(output / "comparison.json", {
        "detector": dict(detector.about), "photographs": comparison.images, "reference": reference, "rows": rows,
        "plan": to_dict(plan), "reasons": list(proposed.reasons), "sample": gained, "summary": lines,
        "reading_ms": reading, "reading_cpu_ms": cpu, "of_promise": compare_report.promises(rows, reference),
        "recall": recall, "skipped": [one._asdict() for one in skipped],
    })  # fmt: skip
    compare_report.write_tables(output / "comparison.txt", tables, lines)
    label = "AP" if boxes else f"found of what {reference} find (%)"
    figure.save(partial(compare_figure.draw, rows, "AP" if boxes else "found", label), output / "comparison")
    texts = title, tables, [*lines, *proposed.reasons, *_failed(skipped)]
    _write_page(output, comparison, rows, (f"whole {side}", reference), boxes, (detector, focuses), texts, console)
    say(f"written: {output}/report.html, comparison.json, comparison.txt, comparison.svg, comparison.png")
    for line in _failed(skipped):
        say(line)
    return 0


def _write_page(
    folder: Path, comparison: Comparison, rows: Any, others: tuple[str, str], boxes: bool,
    looks: tuple[CropDetector, Mapping[str, tuple[Where, Plan]]], texts: tuple[str, Sequence[Table], Sequence[str]],
    console: Screen,
) -> None:  # fmt: skip
    """Write report.html, with progress; `others` are the rows of whole photographs and of the reference."""
    (title, tables, lines), (detector, ways) = texts, looks
    shown = compare_page.sides(rows, *others, list(ways), boxes)
    look = (detector, *ways[shown.ours]) if shown.ours in ways else None
    page_tables = [table_of(table, [shown.ours]) for table in tables]
    page_tables[0] = page_tables[0]._replace(title="")  # the title of the page
    with console.progress() as progress:
        task = progress.add_task("report", total=min(comparison.images, pictures.MOST))
        tick = lambda count: progress.advance(task, count)  # noqa: E731
        content = compare_page.report(comparison, rows, shown, boxes, look, (title, page_tables, lines), tick)
    page.write(folder / "report.html", content)


def _failed(skipped: Sequence[Skipped]) -> list[str]:
    """Lines that name photographs that failed."""
    if not skipped:
        return []
    return [f"{len(skipped)} photographs failed and were skipped:",
            *(f"  {one.file_name}: {one.reason}" for one in skipped)]  # fmt: skip


def _require_two_scales(plan: Plan) -> None:
    if len(plan.scales) != 2:
        raise ConfigError(f"--recall wants a plan of two scales, got {len(plan.scales)}; give --plan with two, or "
                          "leave --recall out")  # fmt: skip


def _recall(
    dataset: Dataset, indices: Sequence[int], detector: CropDetector, ways: Mapping[str, tuple[Where, Plan]],
    console: Screen,
) -> dict[str, Any]:  # fmt: skip
    """Return compare_recall.recall, with progress."""
    with console.progress() as progress:
        task = progress.add_task("recall", total=len(indices))
        return compare_recall.recall(dataset, indices, detector, ways, lambda count: progress.advance(task, count))


def require_inputs(photos: Any, detector: Any) -> None:
    """Raise ConfigError unless there are photographs and a detector."""
    if not photos:
        raise ConfigError("PHOTOS is missing; give a folder of photographs")
    if not detector:
        raise ConfigError("--detector is missing; give an .onnx file")


def _check(arguments: Arguments) -> None:
    require_inputs(arguments.photos, arguments.detector)
    if arguments.recall and arguments.annotations is None:
        raise ConfigError("--recall follows objects that somebody drew; give --annotations, or leave --recall out")
    least = {"--sample": 1, "--limit": 1, "--side": STRIDE, "--larger": STRIDE, "--slices": STRIDE,
             "--canvases": STRIDE}  # fmt: skip
    for name, bound in least.items():
        given: Any = getattr(arguments, name[2:])
        for value in given if isinstance(given, tuple) else () if given is None else (given,):
            if value < bound:
                raise ConfigError(f"{name} must be at least {bound}, got {value}")


def opened(arguments: Any, console: Screen) -> tuple[Dataset, CropDetector, list[Skipped]]:
    """Return the photographs, the detector, and the photographs without a size, as a command's options say.

    Args:
        arguments: its `photos`, `detector`, `options` and `annotations`. With annotations the detector's classes are
            those of the photographs, in their order.
        console: hears what is wrong with the boxes.
    """
    options = arguments.options
    if arguments.annotations is None:
        detector = options.load(arguments.detector)
        dataset, skipped = photographs.plain(arguments.photos, detector.categories)
        return dataset, detector, skipped
    dataset, found = photographs.annotated(arguments.photos, arguments.annotations)
    for line in found.lines():
        console.say(line, style="yellow")
    known = dataclasses.replace(options, only=()).load(arguments.detector).categories
    names = shared_classes(options, known, dataset, console.say)
    dataset = photographs.OfClasses(dataset, names)
    return dataset, dataclasses.replace(options, only=names).load(arguments.detector), []


def planned(arguments: Any, detector: CropDetector, dataset: Dataset) -> tuple[Proposal, int]:
    """Return the plan, with reasons, and the longer side of a whole photograph, as `plan` and `side` of options say."""
    side = own_side(detector) if arguments.side is None else arguments.side
    if arguments.plan is not None:
        plan: Plan = read_plan(arguments.plan)
        return Proposal(plan, (f"the plan is that of {arguments.plan}",)), side
    infos = (dataset.info(index) for index in range(len(dataset)))
    return proposal(detector, [(info.height, info.width) for info in infos], arguments.side), side
