"""Detectors that are a Python function, and what adapters of whole packages share: batches, channels, checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from autofocus_jax.foreign.answers import as_found
from autofocus_jax.foreign.found import CropDetector, ForeignError, first_line
from autofocus_jax.foreign.preparation import GREY
from autofocus_jax.structures import Detections


@dataclasses.dataclass(frozen=True)
class PythonSettings:
    """How a Python model is used.

    Attributes:
      categories: names of the classes, by label; None takes the model's own.
      score_threshold: least score of a detection. Packages that take a threshold are given this one.
      most: detections of a crop at most, the best ones.
      batch: crops of one call. With 1, a callback gets an image; with more, a list of images, and returns a list.
      channels: order of the channels that a callback takes.
      side: (height, width) of a fixed input; None where any size goes.
      multiple: what the sides of a crop must be multiples of, px; None takes what the package wants.
      padding: RGB of what surrounds a crop.
    """

    categories: tuple[str, ...] | None = None
    score_threshold: float = 0.01
    most: int = 1000
    batch: int = 1
    channels: Literal["RGB", "BGR"] = "RGB"
    side: tuple[int, int] | None = None
    multiple: int | None = None
    padding: tuple[int, int, int] = GREY

    def __post_init__(self):
        for name in ("most", "batch"):
            if getattr(self, name) < 1:
                raise ForeignError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.score_threshold <= 1:
            raise ForeignError(f"score_threshold must be in [0, 1], got {self.score_threshold}")
        if self.channels not in ("RGB", "BGR"):
            raise ForeignError(f"channels must be RGB or BGR, got {self.channels!r}")


# Crops in the order of channels that the model wants -> an answer for each, as answers.as_found reads them.
Run = Callable[[list[np.ndarray]], Sequence[Any]]


def from_callback(callback: Callable, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of a function of an image, uint8 [h, w, 3], or of a list of images where batch is above 1."""
    run = (lambda images: [callback(images[0])]) if settings.batch == 1 else callback
    return detector_around("the callback", run, settings, settings.categories, settings.channels)


def detector_around(
    whose: str,
    run: Run,
    settings: PythonSettings,
    categories: tuple[str, ...] | None,
    channels: str,
    same_size: bool = False,
) -> CropDetector:
    """Return a CropDetector around `run`. With same_size, crops of one call have one size."""
    classes = None if categories is None else len(categories)

    def find(crops: Sequence[np.ndarray]) -> list[Detections]:
        found: list[Detections] = [None] * len(crops)
        groups: dict[tuple | None, list[int]] = {}
        for row, crop in enumerate(crops):
            groups.setdefault(crop.shape if same_size else None, []).append(row)
        for rows in groups.values():
            for start in range(0, len(rows), settings.batch):
                chunk = rows[start : start + settings.batch]
                answers = _call(whose, run, [_ordered(crops[row], channels) for row in chunk])
                for row, answer in zip(chunk, answers):
                    read = as_found(answer, classes, whose)
                    keep = np.flatnonzero(read.scores >= settings.score_threshold)
                    if len(keep) > settings.most:
                        keep = keep[np.argsort(-read.scores[keep], kind="stable")[: settings.most]]
                    found[row] = Detections(*(field[keep] for field in read))
        return found

    shown = "not known" if categories is None else f"{classes}: {', '.join(categories[:5])}{', …' * (classes > 5)}"
    side = f"{settings.side[0]}x{settings.side[1]} px" if settings.side else "free"
    about = ("model", whose), ("input side", side), ("batch", str(settings.batch)), ("pixels", channels)
    return CropDetector(find, settings.side, settings.multiple or 1, settings.padding, categories,
                        (*about, ("classes", shown)))  # fmt: skip


def _call(whose: str, run: Run, images: list[np.ndarray]) -> Sequence[Any]:
    sizes = ", ".join(f"{image.shape[0]}x{image.shape[1]}" for image in images)
    try:
        answers = run(images)
    except ForeignError:
        raise
    except Exception as error:  # whatever somebody else's code raises
        message = f"{whose} raised {type(error).__name__} on a crop of {sizes} px: {first_line(error)}"
        raise ForeignError(message) from error
    if not isinstance(answers, Sequence) or len(answers) != len(images):
        came = len(answers) if isinstance(answers, Sequence) else type(answers).__name__
        raise ForeignError(f"{whose} answers {came} for {len(images)} crops; want a list with one answer for each")
    return answers


def _ordered(crop: np.ndarray, channels: str) -> np.ndarray:
    return crop if channels == "RGB" else np.ascontiguousarray(crop[..., ::-1])
