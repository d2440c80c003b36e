"""The report of `autofocus detect`: scale by scale, where it looked, what it found and what stacking removed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np

from autofocus_jax.command.photographs import spread
from autofocus_jax.command.report_parts import pictured, stage_panes
from autofocus_jax.command.writers import Entry
from autofocus_jax.focus.pyramid import Regions, crop
from autofocus_jax.inference.model import Model
from autofocus_jax.report import page, pictures
from autofocus_jax.report.values import Figure, Pane, Photograph, Report, Table
from autofocus_jax.structures import AutoFocusError, Detections, Scale

_SHOWN = 2048  # px, the longer side of a picture of Regions


class ReportWriter:
    """One HTML file with at most 500 images, spread evenly."""

    wants_image = True

    def __init__(self, path: Path, model: Model, score: float, total: int):
        """Take what the report needs besides the images.

        Args:
            path: the file.
            model: gives the scales and the names of the classes.
            score: detections below it are left out.
            total: number of images and frames; 0 if unknown.
        """
        self._path, self._scales, self._categories, self._score = path, model.plan.scales, model.categories, score
        self._places = set(spread(total or pictures.MOST, pictures.MOST))
        self._share = pictures.share(len(self._places))
        self._photographs: list[Photograph] = []
        self._labels: Counter[int] = Counter()
        self._images = self._pixels = self._whole = 0

    def add(self, entry: Entry) -> None:
        result, place = entry.result, self._images
        self._images += 1
        self._pixels, self._whole = self._pixels + result.pixels, self._whole + result.pyramid_pixels
        self._labels.update(result.labels.tolist())
        if place in self._places:
            if entry.image is None or result.stages is None:
                raise AutoFocusError("a report needs images and stages; ask the stream to keep both")
            panes = stage_panes(result.stages, self._scales, result.size, self._score)
            share = f"{result.pixels / 1e6:.2f} million px, {result.pixels / result.pyramid_pixels:.0%} of the pyramid"
            panes.append(Pane("result", share, Detections(result.boxes, result.scores, result.labels)))
            made = pictured(entry.file_name, _whole(entry.image), panes, self._share)
            self._photographs.append(made._replace(size=result.size))

    def close(self) -> None:
        counted = [[self._categories[label], str(count)] for label, count in self._labels.most_common()]
        lines = [f"scale {number}: {scale.min_side}x{scale.max_side} px, {_answers(scale)}"
                 for number, scale in enumerate(self._scales, 1)]  # fmt: skip
        images = f"{self._images} image{'s' if self._images != 1 else ''}"
        page.write(self._path, Report(
            f"autofocus detect, {images}", self._categories, self._figures(), lines,
            [Table("", ["class", "detections"], counted)] if counted else [], None, self._photographs, self._images,
            score=self._score,
        ))  # fmt: skip

    def _figures(self) -> list[Figure]:
        if not self._images:
            return []
        found = sum(self._labels.values())
        return [
            Figure(f"{self._whole / self._pixels:.1f} times", "fewer pixels than the whole pyramid"),
            Figure(str(found), f"detections of score {self._score:g} or more"),
            Figure(f"{found / self._images:.1f}", "detections an image"),
        ]


def _answers(scale: Scale) -> str:
    """Which objects a scale answers for, in words."""
    if scale.leads:
        return "makes focus maps alone"
    end = "on" if math.isinf(scale.valid.high) else f"to {scale.valid.high:g}"
    return f"answers for objects from {scale.valid.low:g} {end}, image px"


def _whole(image: np.ndarray | Regions) -> np.ndarray:
    """The image, or Regions at 2048 px on the longer side at most."""
    if isinstance(image, np.ndarray):
        return image
    height, width = image.shape[:2]
    return crop(image, np.array([0, 0, width, height]), min(1.0, _SHOWN / max(height, width)))[0]
