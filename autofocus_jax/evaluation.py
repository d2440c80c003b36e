"""The rows of an evaluation: each scale alone, the full image pyramid and AutoFocus, on the same images and weights."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import visualize
from autofocus_jax.config import Config
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import Detect, Stage, cascade
from autofocus_jax.focus.chips import ChipFunction, whole_level
from autofocus_jax.inference import engine
from autofocus_jax.metrics import coco, voc
from autofocus_jax.structures import (
    STAGES,
    AutoFocusError,
    CascadeInfo,
    Dataset,
    Detections,
    Scale,
    ValidRange,
)


class Row(NamedTuple):
    """One way to run the detector; chip_functions None stands for the chip rules of the scales."""

    name: str
    scales: tuple[Scale, ...]
    chip_functions: tuple[ChipFunction, ...] | None


class Measurement(NamedTuple):
    """What one row found and cost."""

    name: str
    scores: coco.CocoScores | voc.VocScores  # as config.metric says
    run: engine.RunResult


def rows(config: Config) -> list[Row]:
    """scale1, scale2 … (each alone over its whole level, answering for every size), pyramid, autofocus."""
    everything = ValidRange(0, math.inf)
    alone = [dataclasses.replace(scale, valid=everything, chips=None) for scale in config.scales]
    singles = [Row(f"scale{number}", (scale,), None) for number, scale in enumerate(alone, 1)]
    whole = (whole_level,) * (len(config.scales) - 1)
    return [*singles, Row("pyramid", config.scales, whole), Row("autofocus", config.scales, None)]


def run_row(
    config: Config, row: Row, detect: Detect, images: list[np.ndarray]
) -> tuple[list[Detections], CascadeInfo, list[list[Stage]]]:
    """The cascade of a row over a window of images; as focus.cascade.cascade."""
    settings = row.scales, detect, config.buckets, config.stacking, row.chip_functions
    return cascade(images, *settings, shrink=config.shrink)


def counting(streamed: engine.Streamed, row: Row, sizes: Counter[tuple[int, int]]) -> engine.Streamed:
    """The same stream of a row, adding the (height, width) of every chip to `sizes`: chip px, before a chip is made
    smaller to fit a bucket."""

    def counted(readers: Iterable[engine.Reader]) -> Iterator[engine.Outcome]:
        with contextlib.closing(streamed(readers)) as outcomes:
            for outcome in outcomes:
                for scale, regions in zip(row.scales, outcome.regions or ()):
                    factor = pyramid.factor(*outcome.size, scale)
                    sizes.update(pyramid.chip_size(box, factor) for box in regions.astype(np.float32))
                yield outcome

    return counted


def stream_row(config: Config, row: Row, detect: Detect, readers: Iterable[engine.Reader]) -> Iterator[engine.Outcome]:
    """The cascade of a row over any number of images; as inference.engine.stream."""
    settings = row.scales, detect, config.buckets, config.stacking, row.chip_functions
    return engine.stream(readers, *settings, shrink=config.shrink, window=config.window)


def measure(
    config: Config,
    row: Row,
    detect: Detect,
    dataset: Dataset,
    indices: Sequence[int],
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
    compilations: Callable[[], int] = lambda: 0,
    sizes: Counter[tuple[int, int]] | None = None,
) -> Measurement:
    """Runs a row over images of a dataset, timed with reading and decoding, and scores what could be read.

    folder: where finished pieces are kept and looked for, as in inference.engine.run. Of several processes
    (jax.distributed) each does its share and all measure the same, so they must share the folder; the seconds are then
    those of an average process. Without a folder each process does everything. compilations: tells how many programs
    were compiled so far. sizes: filled with how often chips of which size were processed by this process (`counting`).
    Raises AutoFocusError when not one image can be read.
    """
    from autofocus_jax import parallel  # imports JAX, which those that only list rows need not wait for

    streamed = partial(stream_row, config, row, detect)
    if sizes is not None:
        streamed = counting(streamed, row, sizes)
    process, processes = parallel.process() if folder is not None else (0, 1)
    before = compilations()
    if processes > 1:
        engine.run(dataset, indices, streamed, progress, folder, (process, processes))
        parallel.wait_for_all(row.name)
        progress = None
    result = engine.run(dataset, indices, streamed, progress, folder)
    if result.info is None:
        reason = f"; the first: {result.skipped[0].reason}" if result.skipped else ""
        raise AutoFocusError(f"none of {len(indices)} images could be read{reason}")
    info = result.info._replace(compilations=result.info.compilations + compilations() - before)
    result = result._replace(seconds=result.seconds / processes, info=info)
    score = {"coco": coco.evaluate, "voc": voc.evaluate}[config.metric]
    return Measurement(row.name, score(dataset, result.detections, result.indices), result)


def metrics(measurement: Measurement) -> dict[str, Any]:
    """A row of metrics.json: AP in points of 100 (None where there is no object), costs per image.

    With VOC's metric AP50 and AP70 are those of the 11-point form (VOC 2007), AP50area and AP70area of the other.
    """
    info = measurement.run.info
    pixels = float(info.pixels.sum()) / info.images
    return {
        **{key: None if math.isnan(value) else value for key, value in _points(measurement.scores).items()},
        "side": math.sqrt(pixels),
        "pixels_per_image": pixels,
        "images_per_second": info.images / measurement.run.seconds,
        "chips_per_image": (info.chips / info.images).tolist(),
        "padded_pixels_per_image": float(info.padded_pixels.sum()) / info.images,
        "compilations": info.compilations,
        "seconds": dict(zip(STAGES, info.seconds.tolist())),
        "device_busy": min(1.0, float(info.seconds[STAGES.index("device")]) / measurement.run.seconds),
    }


def _points(scores: coco.CocoScores | voc.VocScores) -> dict[str, float]:
    if isinstance(scores, voc.VocScores):
        area = {"AP50area": scores.ap50_area, "AP70area": scores.ap70_area}
        return {"AP50": scores.ap50, "AP70": scores.ap70, **area}
    points = {"AP": scores.ap, "AP50": scores.ap50, "AP75": scores.ap75}
    return points | {"APs": scores.ap_small, "APm": scores.ap_medium, "APl": scores.ap_large}


def details(measurement: Measurement) -> dict[str, Any]:
    """More of a row, for details.json: AP of each category, padding, and the images that were skipped."""
    info = measurement.run.info
    # Of VOC's four numbers a category the first, AP50 of the 11-point form.
    first = lambda value: value[0] if isinstance(value, tuple) else value  # noqa: E731
    categories = ((name, first(value)) for name, value in measurement.scores.per_category.items())
    return {
        "images": info.images,
        "seconds": measurement.run.seconds,
        "AP_per_category": {name: None if math.isnan(value) else value for name, value in categories},
        "pixels_per_image": (info.pixels / info.images).tolist(),
        "full_pixels_per_image": (info.full_pixels / info.images).tolist(),
        "padded_pixels_per_image": (info.padded_pixels / info.images).tolist(),
        "skipped": [skipped._asdict() for skipped in measurement.run.skipped],
    }


def write_panels(
    folder: Path, config: Config, row: Row, detect: Detect, dataset: Dataset, indices: Sequence[int], count: int
) -> list[Path]:
    """Panels of `count` images spread evenly over those of `indices` that hold an object; returns the files.

    A file is called INDEX_STEM.png, as images in two folders may have the same name.
    """
    with_objects = [index for index in indices if len(dataset.ground_truth(index).labels)]
    spread = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    files = []
    for index in (with_objects[position] for position in spread):
        image, truth = dataset[index]
        (found,), _, (stages,) = run_row(config, row, detect, [image])
        picture = visualize.panel(image, stages, row.scales, found, dataset.categories, truth)
        path = folder / f"{index:06d}_{Path(dataset.info(index).file_name).stem}.png"
        files.append(visualize.write_picture(path, picture))
    return files
