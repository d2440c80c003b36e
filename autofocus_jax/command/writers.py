"""The forms that results are written in. A writer's `add` takes one image after the other; `close` finishes its file.

What was added before `close` is kept whatever happened since: an interrupt, an error, a full disk. Small files
of single images do not wait for the disk: a power cut may cost the last of them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from autofocus_jax.command import video
from autofocus_jax.command.growing_file import GrowingFile
from autofocus_jax.files import write_text
from autofocus_jax.focus.pyramid import Regions, crop
from autofocus_jax.inference.result import Result
from autofocus_jax.structures import AutoFocusError, Detections, Scale
from autofocus_jax.visualize.boxes import draw_boxes, write_picture
from autofocus_jax.visualize.panels import panel

_DRAWN = 4096  # px, the longer side of a picture of Regions


class Film(NamedTuple):
    """The video that a frame belongs to."""

    name: str  # of its results: a relative path without suffix
    height: int  # px
    width: int
    rate: float  # frames/s


class Entry(NamedTuple):
    """An image, or a frame of a video, with what was found in it."""

    image_id: int  # from 1
    name: str  # of files of its own: a relative path without suffix
    file_name: str  # what tables call it; a frame is VIDEO#NUMBER
    result: Result
    image: np.ndarray | Regions | None  # uint8 RGB [h, w, 3] or Regions; None where no writer `wants_image`
    film: Film | None  # of a frame


class Writer(Protocol):
    """One form of output."""

    wants_image: bool

    def add(self, entry: Entry) -> None: ...

    def close(self) -> None: ...


class CocoWriter:
    """One JSON file in COCO's format: images, categories and, as annotations, the detections with their scores.

    Its "annotations" are what COCO's results format is; label k is category ids[k], by default k + 1. The detections go
    to the disk as they come.
    """

    wants_image = False

    def __init__(self, path: Path, categories: Sequence[str], ids: Sequence[int] = ()):
        self._ids = list(ids) or list(range(1, len(categories) + 1))
        self._categories = [{"id": number, "name": name} for number, name in zip(self._ids, categories, strict=True)]
        self._images: list[dict] = []
        self._count = 0
        self._file = GrowingFile(path, '{"annotations": [', self._rest)

    def add(self, entry: Entry) -> None:
        height, width = entry.result.size
        lines = []
        for number, found in enumerate(entry.result.to_coco(entry.image_id), self._count + 1):
            area = found["bbox"][2] * found["bbox"][3]
            found["category_id"] = self._ids[found["category_id"] - 1]
            line = json.dumps({"id": number, **found, "area": area, "iscrowd": 0}, allow_nan=False)
            lines.append(f"{',' if number > 1 else ''}\n{line}")
        self._images.append({"id": entry.image_id, "file_name": entry.file_name, "height": height, "width": width})
        self._file.add("".join(lines))
        self._count += len(lines)

    def close(self) -> None:
        self._file.close()

    def _rest(self, count: int) -> str:
        rest = {"images": self._images[:count], "categories": self._categories}
        return f"],\n{json.dumps(rest)[1:]}"


class CsvWriter:
    """One table, a line for each detection: image, category, label, score, x1, y1, x2, y2 (px of the image)."""

    wants_image = False

    def __init__(self, path: Path):
        self._file = GrowingFile(path, _csv(["image", "category", "label", "score", "x1", "y1", "x2", "y2"]))

    def add(self, entry: Entry) -> None:
        result, lines = entry.result, []
        for box, score, label in zip(result.boxes.tolist(), result.scores.tolist(), result.labels.tolist()):
            corners = [f"{side:.2f}" for side in box]
            lines.append(_csv([entry.file_name, result.categories[label], label, f"{score:.4f}", *corners]))
        self._file.add("".join(lines))

    def close(self) -> None:
        self._file.close()


class YoloWriter:
    """A text file for each image, with a line for each detection, and classes.txt with a name a line.

    A line is class, centre x, centre y, width and height (shares of the image's sides): labels, as data.yolo and other
    programs read them. With `scores` there is a sixth number, which makes them results that are no labels.
    """

    wants_image = False

    def __init__(self, folder: Path, categories: Sequence[str], scores: bool = False):
        self._folder, self._scores = folder, scores
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in categories))

    def add(self, entry: Entry) -> None:
        height, width = entry.result.size
        boxes = entry.result.boxes.astype(np.float64) / [width, height, width, height]
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        scores = [f" {score:.4f}" if self._scores else "" for score in entry.result.scores.tolist()]
        lines = [f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}{score}\n" for label, (x, y), (w, h), score
                 in zip(entry.result.labels.tolist(), centres, sides, scores)]  # fmt: skip
        write_text(self._folder / f"{entry.name}.txt", "".join(lines), sync=False)

    def close(self) -> None:
        pass


class PictureWriter:
    """A picture of each image, and an .mp4 of each video, with boxes, categories and scores.

    Pictures are drawn and encoded beside the detector's work; the frames of a video come one after the other.
    """

    wants_image = True

    def __init__(self, folder: Path, threads: int = 2):
        self._folder, self._pool = folder, ThreadPoolExecutor(threads, thread_name_prefix="draw")
        self._most = threads  # pictures that are drawn or wait; each holds its image
        self._waiting: list[Future] = []
        self._film: tuple[Film, video.VideoWriter] | None = None

    def add(self, entry: Entry) -> None:
        if entry.film is not None:
            self._add_frame(entry.film, entry)
            return
        if not isinstance(entry.image, np.ndarray):  # at once, for a part of it may be damaged
            self._write(entry)
            return
        self._waiting.append(self._pool.submit(self._write, entry))
        while len(self._waiting) > self._most:
            self._waiting.pop(0).result()

    def close(self) -> None:
        self._pool.shutdown()
        self._end_film()
        for future in self._waiting:
            future.result()

    def _write(self, entry: Entry) -> None:
        write_picture(self._folder / f"{entry.name}.jpg", draw(entry.image, entry.result), sync=False)

    def _add_frame(self, film: Film, entry: Entry) -> None:
        if self._film is None or self._film[0] != film:
            self._end_film()
            path = self._folder / f"{film.name}.mp4"
            self._film = film, video.VideoWriter(path, film.height, film.width, film.rate)
        self._film[1].add(draw(entry.image, entry.result))

    def _end_film(self) -> None:
        if self._film is not None:
            (_, writer), self._film = self._film, None
            writer.close()


class PanelWriter:
    """A panel of each image: focus maps, chips and detections of every scale, and the result."""

    wants_image = True

    def __init__(self, folder: Path, scales: Sequence[Scale], score: float):
        self._folder, self._scales, self._score = folder, scales, score

    def add(self, entry: Entry) -> None:
        result = entry.result
        if not isinstance(entry.image, np.ndarray):
            raise AutoFocusError(f"{entry.file_name} is not held whole, so it has no panel; write pictures")
        found = Detections(result.boxes, result.scores, result.labels)
        picture = panel(entry.image, result.stages, self._scales, found, result.categories,
                                  min_score=self._score)  # fmt: skip
        write_picture(self._folder / f"{entry.name}.png", picture, sync=False)

    def close(self) -> None:
        pass


def draw(image: np.ndarray | Regions | None, result: Result) -> np.ndarray:
    """Return a copy of an image [h, w, 3] uint8 RGB with a result's boxes, categories and scores.

    Regions are read at 4096 px on the longer side at most.
    """
    if image is None:
        raise AutoFocusError("a picture needs the image; ask the stream to keep images")
    if not isinstance(image, np.ndarray):
        height, width = image.shape[:2]
        share = min(1.0, _DRAWN / max(height, width))
        image = crop(image, np.array([0, 0, width, height]), share)[0]
        result = dataclasses.replace(result, boxes=result.boxes * np.float32(share))
    thickness = max(1, round(max(image.shape[:2]) / 600))
    return draw_boxes(image, result.boxes, result.labels, result.scores, result.categories,
                                thickness=thickness)  # fmt: skip


def _csv(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
