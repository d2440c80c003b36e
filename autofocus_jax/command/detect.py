"""`autofocus detect`: objects in images, folders of images, globs and videos, coarse to fine."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from rich.progress import Progress

from autofocus_jax import parallel
from autofocus_jax.command import area_file, video, writers
from autofocus_jax.command.budget import thresholds_within
from autofocus_jax.command.console import Screen
from autofocus_jax.command.detect_report import report, share_of, speed_of
from autofocus_jax.command.detection_run import count, readers, run_detection
from autofocus_jax.command.detector_plan import described, detector_plan
from autofocus_jax.command.geojson import GeoJsonWriter, check_places
from autofocus_jax.command.inputs import Item, collect
from autofocus_jax.command.names import read_names
from autofocus_jax.command.options.detect import Arguments, Form
from autofocus_jax.command.options.detector import check_choice, checked_sides, load_foreign
from autofocus_jax.command.report_writer import ReportWriter
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config.load import load_config
from autofocus_jax.data.findings import Findings, listen
from autofocus_jax.data.image import image_size, limit_pixels, max_pixels, quiet_decoders
from autofocus_jax.data.raster import by_windows
from autofocus_jax.focus.buckets import for_images
from autofocus_jax.focus.pyramid import factor
from autofocus_jax.inference.model import Model, load
from autofocus_jax.inference.settings import with_sides, with_thresholds
from autofocus_jax.inference.video import one_by_one
from autofocus_jax.scenes.source import ScenesSource
from autofocus_jax.structures import STRIDE, ImageError, Scale

_HELD = 2**31  # bytes of decoded images that may be held at a time
_HUGE = 3 * 10**8  # bytes of a decoded image that is worth a word
_REDUCED = 0.25  # how large the finest scale shows an image that is worth a word
_TRIED = 16  # images that --pixels is chosen on
_NAMED = 20  # skipped files that are named
_MANY = 100  # images from which on everything is compiled before the first; fewer need few of the programs
_FOLDERS = {  # of the forms that write a file for each image
    "pictures": "pictures", "panels": "panels", "yolo": "labels", "yolo-scores": "labels_scores", "geojson": "geojson",
}  # fmt: skip


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    parallel.cache_compilations()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet too
    sides = _checked(arguments)
    if arguments.max_pixels is not None:
        limit_pixels(arguments.max_pixels)
    found = Findings(_NAMED)
    listen(found)
    items = collect(arguments.paths)
    if arguments.follow is not None and not any(item.video for item in items):
        raise ConfigError("--follow is for videos, and none is among the files; leave it out")
    output = Path(arguments.output)
    _spare_inputs(items, output, arguments.write)
    _say_what_stays(output, arguments.write, console)
    if "geojson" in arguments.write:
        check_places(items)
    given = read_names(arguments.options.names) if arguments.options.names else None
    total = count(items)
    sized = _sizes(items)
    if "panels" in arguments.write and any(
        not item.video and height * width > max_pixels() for item, (height, width) in sized
    ):
        raise ConfigError("--write panels wants whole images, and a TIFF file above --max-pixels is read by windows; "
                          "write pictures, or raise --max-pixels")  # fmt: skip
    model = _model(arguments, given.names if given else None, [size for _, size in sized], sides, total, console)
    if arguments.where is not None:
        if arguments.where_use == "also" and len(model.plan.scales) == 1:
            raise ConfigError("--where-use also looks again, and a single scale never does; give more --scales")
        area = area_file.read_area(arguments.where, arguments.where_use, items)
        model = model.planned(dataclasses.replace(model.plan, area=area))
        console.say(area_file.described(arguments.where, arguments.where_use))
    if arguments.max_detections is not None:
        stacking = dataclasses.replace(model.plan.stacking, max_detections=arguments.max_detections)
        model = model.planned(dataclasses.replace(model.plan, stacking=stacking))
    largest = _say_what_is_huge(sized, model.plan.scales[-1], console)
    with console.progress() as progress:
        compiles = model.config is not None
        if compiles and total >= _MANY:
            _compile(model, progress, console)
        warm = total >= _MANY or not compiles
        if arguments.pixels is not None:
            model = _within_budget(model, arguments.pixels, items, progress, console)
        # A stream holds the images of its window and as many that are read ahead.
        held = 2 * largest if arguments.where is None else 2 * largest * 4 // 3  # a mask has a byte a px
        window = max(1, min(model.plan.window, _HELD // max(1, held)))
        task = progress.add_task("detect", total=total or None, text="" if warm else "compiling")
        advance = lambda done: progress.update(  # noqa: E731
            task, completed=done.images + len(done.skipped), text=f"{speed_of(done)}, {share_of(done)}"
        )
        forms = _writers(arguments, output, model, given.ids if given else (), total)
        stages = not {"panels", "report"}.isdisjoint(arguments.write)
        summary = run_detection(model, items, forms, arguments.score, stages, window, advance, arguments.follow)
    for line in found.lines():
        console.say(line)
    ours = arguments.options.detector is None
    return report(summary, arguments.output, arguments.score, ours, warm, console)


def _model(
    arguments: Arguments,
    names: Sequence[str] | None,
    sizes: Sequence[tuple[int, int]],
    sides: Sequence[tuple[int, int]],
    images: int,
    console: Screen,
) -> Model:
    """The model of --weights or --detector with the scales and thresholds that are asked for."""
    if arguments.options.detector is not None:
        detect = load_foreign(arguments.options)
        given = arguments.where is not None
        plan = detector_plan(arguments.options, detect.detector, sizes, sides, arguments.threshold, given)
        for line in described(plan, sizes):
            console.say(line)
        return Model(detect, plan, detect.categories)
    model = load(arguments.weights, load_config(arguments.config) if arguments.config else None, names)
    _say_what_it_knows(model, console)
    model = model.changed(lambda config: _overridden(config, sides, arguments.threshold, images))
    return model if arguments.follow is None else model.changed(one_by_one)


def _compile(model: Model, progress: Progress, console: Screen) -> None:
    """Compiles everything before the clock of the run starts, and says how long it took."""
    start = time.perf_counter()
    task = progress.add_task("compile", total=len(model.config.buckets), text="once; the next run finds it done")
    model.warm_up(lambda _: progress.advance(task))
    progress.remove_task(task)
    console.print(f"{len(model.config.buckets)} programs ready after {time.perf_counter() - start:.1f} s",
                  highlight=False)  # fmt: skip


def _checked(arguments: Arguments) -> list[tuple[int, int]]:
    """The sides that --scales gives; ConfigError, which names the option, for what makes no sense."""
    if not arguments.paths:
        raise ConfigError("nothing to look at; give images, folders, globs or videos")
    check_choice(arguments.weights, arguments.options, arguments.config)
    detector = arguments.options.detector is not None
    if arguments.pixels is not None and detector and arguments.options.focus == "none":
        raise ConfigError("--pixels chooses thresholds, and --focus none has none; give --focus weak")
    if arguments.pixels is not None and arguments.options.focus_score is not None:
        raise ConfigError("--pixels chooses the thresholds; give it or --focus-score, not both")
    if arguments.max_detections is not None and not 1 <= arguments.max_detections <= 2**20:
        raise ConfigError(f"--max-detections {arguments.max_detections}; want 1 to {2**20} detections an image")
    if arguments.follow is not None and arguments.follow < 1:
        raise ConfigError(f"--follow {arguments.follow}; want a whole frame every 1 frame or more")
    if not arguments.write:
        raise ConfigError(f"--write got nothing; give at least one of {', '.join(get_args(Form))}")
    if arguments.where == "":
        raise ConfigError("--where got an empty name; give a file or a folder")
    if arguments.where is None and arguments.where_use != "only":
        raise ConfigError(f"--where-use {arguments.where_use} goes with --where; give an area, or leave it out")
    if arguments.pixels is not None and arguments.where is not None:
        raise ConfigError("--pixels chooses thresholds for whole images; give it or --where, not both")
    if arguments.pixels is not None and arguments.threshold:
        raise ConfigError("--pixels chooses the thresholds; give it or --threshold, not both")
    return checked_sides(arguments.score, arguments.threshold, arguments.scales)


def _overridden(config: Config, sides: Sequence[tuple[int, int]], thresholds: Sequence[float], images: int) -> Config:
    config = with_sides(config, sides) if sides else config
    config = dataclasses.replace(config, buckets=for_images(config.buckets, images))
    return with_thresholds(config, thresholds) if thresholds else config


def _spare_inputs(items: Sequence[Item], output: Path, forms: Sequence[str]) -> None:
    """Raises ConfigError when a result would replace what is looked at or its labels, or there can be no such folder.

    Labels are in danger where images lie as YOLO's data sets have them, in OUTPUT/images beside OUTPUT/labels.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder")
    folders = [(output / name).absolute() for name in ("pictures", "panels")]
    for item in items:
        if any(folder in item.path.parents for folder in folders):
            raise ConfigError(f"{item.path} lies in the folder that results go to; give another --output")
        labels = output / "labels" / f"{item.name}.txt"
        if "yolo" in forms and (output / "images").absolute() in item.path.parents and labels.exists():
            raise ConfigError(f"{labels} would be replaced; move these labels away, or give another --output")


def _say_what_stays(output: Path, forms: Sequence[str], console: Screen) -> None:
    """Name folders of single files that hold some already: those of other images would mix with this run's."""
    folders = (output / _FOLDERS[form] for form in dict.fromkeys(forms) if form in _FOLDERS)
    held = [str(folder) for folder in folders if folder.is_dir() and any(folder.iterdir())]
    if held:
        console.say(f"{', '.join(held)}: files are there already; those of the same names are replaced, the others "
                    "stay. Give another --output to keep runs apart")  # fmt: skip


def _say_what_it_knows(model: Model, console: Screen) -> None:
    """A word to those who look at photographs with weights that have never seen one."""
    if isinstance(model.config.data, ScenesSource):
        console.say(f"these weights know rendered scenes alone ({', '.join(model.categories[:3])} …); what they find "
                      "in photographs means nothing")  # fmt: skip


def _sizes(items: Sequence[Item]) -> list[tuple[Item, tuple[int, int]]]:
    """The items that will not be skipped, as far as is known before they are read, with their (height, width), px."""
    sized = []
    for item in items:
        with contextlib.suppress(ImageError):
            height, width = video.video_info(item.path)[:2] if item.video else image_size(item.path, oriented=True)
            if height and width and (item.video or height * width <= max_pixels() or by_windows(item.path)):
                sized.append((item, (height, width)))
    return sized


def _say_what_is_huge(sized: Sequence[tuple[Item, tuple[int, int]]], finest: Scale, console: Screen) -> int:
    """Name images that take much memory or lose small objects, before they are read; return bytes of the largest."""
    largest, lines = 0, []
    for item, (height, width) in sized:
        if not item.video and height * width > max_pixels():
            lines.append(f"{item.file_name}: {width}x{height} px, read by windows")
            continue
        largest = max(largest, 3 * height * width)
        zoom = factor(height, width, finest)
        if not item.video and (3 * height * width >= _HUGE or zoom < _REDUCED):
            lines.append(f"{item.file_name}: {width}x{height} px, {3 * height * width / 1e9:.1f} GB when decoded; "
                         f"the finest scale sees it {zoom:.2g} times as large, so an object of {round(STRIDE / zoom)} "
                         "px is one cell there")  # fmt: skip
    more = [f"… and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    for line in lines[:_NAMED] + more:
        console.say(line)
    return largest


def _within_budget(model: Model, side: float, items: Sequence[Item], progress: Progress, console: Screen) -> Model:
    """The model with the thresholds that keep to a budget on images spread over the items."""
    images = [item for item in items if not item.video] or list(items)
    spread = sorted({round(position) for position in np.linspace(0, len(images) - 1, _TRIED)})
    chosen = list(itertools.islice(readers([images[position] for position in spread]), _TRIED))
    task = progress.add_task("thresholds", total=None, text=f"for {side:g} px on a side")
    found = thresholds_within(model, side, chosen)
    progress.remove_task(task)
    shown = " ".join(f"{threshold:.3g}" for threshold in found.thresholds)
    console.say(f"--pixels {side:g}: --threshold {shown} costs {math.sqrt(found.pixels):.0f} on a side, "
                  f"on {len(chosen)} of the images")  # fmt: skip
    return model.planned(model.plan.with_thresholds(*found.thresholds))


def _writers(arguments: Arguments, output: Path, model: Model, ids: Sequence[int], total: int) -> list[writers.Writer]:
    """Return the writers that --write asks for."""
    folder = lambda form: output / _FOLDERS[form]  # noqa: E731
    made: dict[str, Callable[[], writers.Writer]] = {
        "pictures": lambda: writers.PictureWriter(folder("pictures")),
        "panels": lambda: writers.PanelWriter(folder("panels"), model.plan.scales, arguments.score),
        "report": lambda: ReportWriter(output / "report.html", model, arguments.score, total),
        "coco": lambda: writers.CocoWriter(output / "detections.json", model.categories, ids),
        "csv": lambda: writers.CsvWriter(output / "detections.csv"),
        "yolo": lambda: writers.YoloWriter(folder("yolo"), model.categories),
        "geojson": lambda: GeoJsonWriter(folder("geojson")),
        "yolo-scores": lambda: writers.YoloWriter(folder("yolo-scores"), model.categories, scores=True),
    }
    return [made[form]() for form in dict.fromkeys(arguments.write)]
