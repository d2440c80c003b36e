"""`autofocus inspect`: counts, sizes and categories of a data set, its problems, and pictures with its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from autofocus_jax.command.annotations import Opened, open_annotations
from autofocus_jax.command.console import Screen
from autofocus_jax.command.inputs import shortened
from autofocus_jax.command.options.inspect import Arguments
from autofocus_jax.command.report_parts import pictured, table_of
from autofocus_jax.config import ConfigError
from autofocus_jax.data.findings import Findings, listen
from autofocus_jax.data.image import limit_pixels, quiet_decoders
from autofocus_jax.data.inspection import PERCENTILES, Inspection, inspect, to_json
from autofocus_jax.files import write_json
from autofocus_jax.machine.terminal import printable
from autofocus_jax.report import page, pictures
from autofocus_jax.report.values import Figure, Pane, Photograph, Report
from autofocus_jax.structures import Detections, ImageError
from autofocus_jax.visualize.boxes import GREY, draw_boxes, write_picture


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    for name in ("samples", "categories"):
        if getattr(arguments, name) < 0:
            raise ConfigError(f"--{name} {getattr(arguments, name)}; want 0 or more")
    if arguments.max_pixels is not None:
        limit_pixels(arguments.max_pixels)
    found = Findings(5)
    listen(found)
    opened = open_annotations(arguments.annotations, arguments.split, found, arguments.images)
    with console.progress() as progress:
        task = progress.add_task("images", total=len(opened.dataset))
        advance = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        report = inspect(opened.dataset, found, arguments.decode, advance)
    output = Path(arguments.output)
    write_json(output / "report.json", to_json(report))
    tables, problems = _tables(report, arguments.categories), _problems(report)
    _print(report, opened.name, tables, problems, arguments.categories, console)
    shown, written, failed = _samples(opened, output / "samples", arguments.samples)
    page.write(output / "report.html", Report(
        opened.name, opened.dataset.categories, _figures(report), problems,
        [table_of(table) for table in tables], None, shown, report.images,
    ))  # fmt: skip
    say = console.say
    say(f"written: {output}/report.html, report.json, {written} pictures in {output}/samples")
    for reason in failed:
        say(f"  no picture: {reason}")
    return 0


def _print(
    report: Inspection, name: str, tables: Sequence[Table], problems: Sequence[str], most: int, console: Screen
) -> None:
    say = console.say
    say(f"{name}: {report.images} images, {report.objects} objects, {report.ignored} ignore regions; "
        f"{report.empty} images without an object, {report.per_image:.1f} objects an image, at most {report.most}; "
        f"{report.small:.0%} of the objects below 32 px, {report.large:.0%} from 96 px on")  # fmt: skip
    for table in tables:
        console.print(table)
    if len(report.categories) > most:
        say(f"… and {len(report.categories) - most} more categories, in report.json")
    for line in problems:
        say(line)


def _tables(report: Inspection, most: int) -> list[Table]:
    """Sizes by percentile, and the categories with most objects."""
    sizes = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="px, by percentile", title_justify="left")
    for heading in ("", *(f"{percentile}%" for percentile in PERCENTILES)):
        sizes.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for title, values in (("image height", report.heights), ("image width", report.widths),
                          ("object, sqrt(area)", report.sizes)):  # fmt: skip
        sizes.add_row(title, *("-" if np.isnan(value) else f"{value:.0f}" for value in values))
    categories = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="categories", title_justify="left")
    for heading in ("category", "objects", "images", "median size"):
        categories.add_column(heading, justify="left" if heading == "category" else "right", no_wrap=True)
    for entry in sorted(report.categories, key=lambda entry: -entry.objects)[:most]:
        size = "-" if np.isnan(entry.size) else f"{entry.size:.0f} px"
        categories.add_row(printable(entry.name), str(entry.objects), str(entry.images), size)
    return [sizes, categories]


def _problems(report: Inspection) -> list[str]:
    lines = ["problems:" if report.problems else "no problem found"]
    for problem in report.problems:
        examples = f": {'; '.join(problem.examples)}" if problem.examples else ""
        more = " …" if problem.count > len(problem.examples) > 0 else ""
        lines.append(f"- {problem.count} {problem.what}{examples}{more}")
    return lines


def _figures(report: Inspection) -> list[Figure]:
    return [
        Figure(f"{report.images}", "images"), Figure(f"{report.objects}", "objects"),
        Figure(f"{report.small:.0%}", "of the objects are below 32 px"),
        Figure(f"{sum(problem.count for problem in report.problems)}", "findings, listed below"),
    ]  # fmt: skip


def _samples(opened: Opened, folder: Path, count: int) -> tuple[list[Photograph], int, list[str]]:
    """Write pictures of images with objects, ignore regions grey.

    Return images for the report, at most 500, the number of pictures, and why other pictures failed.
    """
    dataset = opened.dataset
    filled = [index for index in range(len(dataset)) if len(dataset.ground_truth(index).labels)]
    spread = np.linspace(0, len(filled) - 1, min(count, len(filled))).round().astype(int)
    share = pictures.share(len(spread))
    failed: list[str] = []
    shown: list[Photograph] = []
    for index in (filled[position] for position in spread):
        try:
            image, truth = dataset[index]
        except ImageError as error:
            failed.append(str(error))
            continue
        thickness = max(1, round(max(image.shape[:2]) / 600))
        picture = draw_boxes(image, truth.boxes[truth.ignore], color=GREY, thickness=thickness)
        picture = draw_boxes(picture, truth.boxes[~truth.ignore], truth.labels[~truth.ignore], None,
                                       dataset.categories, thickness=thickness)  # fmt: skip
        name = dataset.info(index).file_name
        write_picture(folder / f"{index:06d}_{shortened(Path(name).stem)}.jpg", picture)
        if len(shown) < pictures.MOST:
            shown.append(pictured(name, image, [Pane("ground truth", "", Detections.none())], share, truth=truth))
    return shown, len(spread) - len(failed), failed
