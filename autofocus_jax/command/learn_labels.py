"""What a focus network learns from: what a detector found at two scales, kept on disk, or boxes that somebody drew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.command.suggest_detector import level_form
from autofocus_jax.data.annotations import DatasetView
from autofocus_jax.files import read_npz, write_npz
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.magnification import IOU, KNOWN, SURE, find_at
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.ledger import Ledger
from autofocus_jax.structures import Dataset, Detections, DetectorError, GroundTruth, ImageError, Scale


class Known(NamedTuple):
    """What is known of one photograph."""

    truth: GroundTruth  # where to look: objects that need it; `ignore` where it does not matter
    found: int  # objects that are found without looking again


class Labelled(DatasetView):
    """Photographs with what is known of them in place of their boxes."""

    def __init__(self, dataset: Dataset, known: Sequence[tuple[int, Known]]):
        """known: (index in the dataset, what is known of it) of the photographs that count."""
        super().__init__(dataset, [index for index, _ in known])
        self.categories, self.known = ("look again",), list(known)

    def ground_truth(self, index: int) -> GroundTruth:
        return self.known[index][1].truth


def detections(
    dataset: Dataset, detector: CropDetector, sides: Sequence[int], ledger: Ledger, progress: Callable[[], None]
) -> tuple[dict[int, list[Detections]], list[Skipped]]:
    """Run a detector on whole levels of all photographs, or read what an earlier run kept.

    Args:
        dataset: the photographs.
        detector: it.
        sides: the longer side of each level, px.
        ledger: of the folder that keeps the answers.
        progress: called after each photograph.

    Returns: by index, the detections at each side in the image frame; and the photographs that failed.
    """
    found, skipped = {}, []
    with ledger.claim():
        for index in range(len(dataset)):
            path = Path(ledger.folder) / f"{index:07d}.npz"
            try:
                if not path.exists():
                    image = dataset.image(index)
                    at = [find_at(level_form(detector, side), image, side) for side in sides]
                    write_npz(path, {f"{field}{n}": getattr(one, field) for n, one in enumerate(at)
                                     for field in Detections._fields})  # fmt: skip
                kept = read_npz(path)
                found[index] = [Detections(*(kept[f"{field}{n}"] for field in Detections._fields))
                                for n in range(len(sides))]  # fmt: skip
            except (ImageError, DetectorError) as error:
                skipped.append(Skipped(index, dataset.info(index).file_name, str(error)))
            progress()
    return found, skipped


def judge(coarse: Detections, fine: Detections, scales: Sequence[Scale]) -> Known:
    """Say what of a finer look the coarse one lacks.

    An object is what the finer scale found surely, in its valid range. It is found anyway where the coarse scale found
    it too, in its own valid range. What is neither sure nor weak does not matter.
    """
    sizes = np.sqrt(box_ops.area(fine.boxes))
    counts = scales[1].valid.holds(sizes) & (fine.scores >= KNOWN)
    boxes, scores, labels = (field[counts] for field in fine)
    known = (coarse.scores >= KNOWN) & scales[0].valid.holds(np.sqrt(box_ops.area(coarse.boxes)))
    same = (labels[:, None] == coarse.labels[known]) & (box_ops.iou(boxes, coarse.boxes[known]) >= IOU)
    anyway, sure = same.any(axis=1), scores >= SURE
    ignore = anyway | ~sure
    return Known(GroundTruth(boxes, np.zeros(len(boxes), np.int32), ignore), int((anyway & sure).sum()))


def drawn(truth: GroundTruth, small: float) -> Known:
    """The same from boxes: those whose sqrt(area) is below `small` (image px) need a finer look, others do not."""
    inside = (np.sqrt(box_ops.area(truth.boxes)) < small) & ~truth.ignore
    count = int((~inside & ~truth.ignore).sum())
    return Known(GroundTruth(truth.boxes, np.zeros(len(truth.boxes), np.int32), ~inside), count)


def values(focus: np.ndarray, known: Known, factors: np.ndarray, stride: int) -> np.ndarray:
    """Return for each object of a photograph the largest value of its focus map on it; infinite where found anyway.

    Args:
        focus: [h, w] of the whole coarse level.
        known: the photograph.
        factors: [2] level px per image px along (x, y).
        stride: level px of a cell.
    """
    own = highest(focus, known.truth.boxes[~known.truth.ignore], factors, stride)
    return np.concatenate([own, np.full(known.found, np.inf)])


def highest(focus: np.ndarray, boxes: np.ndarray, factors: np.ndarray, stride: int) -> np.ndarray:
    """Return the largest value of a focus map on each of the boxes [n, 4] (image frame), [n] float64.

    A box beside the map has the value of the nearest cell.
    """
    boxes = box_ops.scale(boxes, *factors)
    low = np.clip(np.floor(boxes[:, :2] / stride).astype(int), 0, np.array(focus.shape[::-1]) - 1)
    high = np.maximum(np.ceil(boxes[:, 2:] / stride).astype(int), low + 1)
    own = [focus[y:end_y, x:end_x].max() for (x, y), (end_x, end_y) in zip(low, high)]
    return np.array(own, np.float64)


def counted(known: Sequence[Known]) -> dict[str, Any]:
    """How many photographs, objects, and objects that need a finer look there are."""
    need = sum(int((~one.truth.ignore).sum()) for one in known)
    return {"photographs": len(known), "objects": need + sum(one.found for one in known), "need": need}
