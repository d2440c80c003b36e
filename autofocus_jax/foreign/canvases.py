"""Canvases: the inputs that a detector runs on when it shall see chips unresized.

A detector with a fixed input gets chips packed side by side on shelves. A chip larger than the input is cut into
overlapping windows. A detector of any shape gets each chip with padding, up to multiples of its stride; a chip that is
too large for one run is cut into windows too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import stacking
from autofocus_jax.focus.pyramid import Part
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.preparation import blank, pad_to_multiple
from autofocus_jax.structures import Detections

Chip = np.ndarray | Part  # uint8 RGB [h, w, 3]

_AT_ONCE = 2**25  # px of canvases that are held at a time


@dataclasses.dataclass(frozen=True)
class CanvasConfig:
    """How chips lie on canvases of a fixed size, and how windows of a chip are joined.

    Attributes:
      gutter: px of padding between neighbours on a canvas, at least. A box near the border of a chip is dropped by the
        border rule anyway, so none fill the canvases better at the same AP (docs/any_detector.md).
      grid: px; pieces begin at multiples of it, so that a network of strides up to that sees each as it would alone.
      overlap: share of the canvas that windows of one chip have in common.
      tolerance: a box that comes this close, in px, to a window's border inside its chip counts as cut and is dropped.
      nms_iou: of NMS over the windows of a chip, inside each class.
      packed: whether chips share canvases.
      largest: side, px; a detector of any shape sees a chip of more than its square in windows of half that side, whose
        memory is bounded. A photograph of 3840x2160 px has half as many.
    """

    gutter: int = 0
    grid: int = 32
    overlap: float = 0.2
    tolerance: float = 4.0
    nms_iou: float = 0.65
    packed: bool = True
    largest: int = 4096

    def __post_init__(self):
        if self.gutter < 0:
            raise ForeignError(f"gutter must be 0 px or more, got {self.gutter}")
        if self.grid < 1:
            raise ForeignError(f"grid must be at least 1 px, got {self.grid}")
        if not 0 <= self.overlap < 1:
            raise ForeignError(f"overlap must be in [0, 1), got {self.overlap}")
        if not 0 < self.nms_iou <= 1:
            raise ForeignError(f"nms_iou must be in (0, 1], got {self.nms_iou}")
        if self.largest < 64:
            raise ForeignError(f"largest must be at least 64 px, got {self.largest}")


class Piece(NamedTuple):
    """A rectangle of a chip, and its place on a canvas."""

    chip: int  # position of the chip
    box: tuple[int, int, int, int]  # xyxy, chip px
    canvas: int  # number of the canvas
    x: int  # of its upper left corner, canvas px
    y: int


class Spent(NamedTuple):
    """Inputs that a detector ran on."""

    canvases: int = 0
    pixels: int = 0  # of all canvases, padding included
    filled: int = 0  # of these, pixels that show a photograph, those that windows share counted in each

    @property
    def fill(self) -> float:
        """Return the share of the pixels that show a photograph."""
        return self.filled / max(1, self.pixels)

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]  # no tuple that grows
        return Spent(*(one + two for one, two in zip(self, other)))


def find_in_chips(
    detector: CropDetector, chips: Sequence[Chip], config: CanvasConfig = CanvasConfig()
) -> tuple[list[Detections], Spent]:
    """Run a detector on chips without resizing any.

    Args:
      chips: uint8 RGB [h, w, 3] each, or parts of Regions, which are read canvas by canvas.

    Returns: what was found in each chip, chip px, and what the detector was run on.
    """
    sizes = [(chip.shape[0], chip.shape[1]) for chip in chips]
    painted: Callable[[Sequence[Piece]], list[np.ndarray]]
    if detector.fixed is None:
        pieces = _apart(sizes, config)
        areas = [(x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in pieces]
        painted = lambda some: [_padded(detector, chips, piece) for piece in some]  # noqa: E731
    else:
        fixed = detector.fixed
        pieces = arrange(sizes, fixed, config)
        areas = [fixed[0] * fixed[1]] * (1 + max((piece.canvas for piece in pieces), default=-1))
        painted = lambda some: paint(chips, some, fixed, detector.padding)  # noqa: E731
    answers: list[Detections] = []
    pixels = 0
    for some in _blocks(pieces, areas):
        canvases = painted(some)
        answers += _found(detector, canvases)
        pixels += _area(canvases)
    filled = sum((x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in pieces)
    found = gather(answers, pieces, sizes, config)
    if detector.fixed is None:  # a chip that is whole on its canvas keeps the boxes that reach out of it
        whole = [piece for piece in pieces if piece.box == (0, 0, *sizes[piece.chip][::-1])]
        for piece in whole:
            found[piece.chip] = _inside(answers[piece.canvas], chips[piece.chip])
    return found, Spent(len(answers), pixels, filled)


def arrange(sizes: Sequence[tuple[int, int]], canvas: tuple[int, int], config: CanvasConfig) -> list[Piece]:
    """Place chips of sizes (height, width) on canvases of one (height, width).

    Chips lie on shelves, the tallest first, each in the first gap that holds it. No two pieces overlap.
    """
    pieces = [(chip, box) for chip, size in enumerate(sizes) for box in windows(size, canvas, config.overlap)]
    order = sorted(pieces, key=lambda piece: (piece[1][1] - piece[1][3], piece[1][0] - piece[1][2]))
    shelves: list[list[int]] = []  # [canvas, y, height, next x]
    ends: list[int] = []  # of each canvas: the next y
    placed = []
    for chip, box in order:
        width, height = box[2] - box[0], box[3] - box[1]
        shelf = _shelf(shelves, ends, width, height, canvas, config)
        placed.append(Piece(chip, box, shelf[0], shelf[3], shelf[1]))
        shelf[3] = _next(shelf[3] + width, config)
    return placed


def windows(size: tuple[int, int], canvas: tuple[int, int], overlap: float) -> list[tuple[int, int, int, int]]:
    """Cover a chip of `size` (height, width) with windows no larger than a canvas: boxes xyxy, chip px.

    A chip that fits is one window. Else windows follow each other with the given overlap; the last ones end at the
    chip's border, and overlap more.
    """
    ys, xs = (_starts(length, side, overlap) for length, side in zip(size, canvas))
    return [(x, y, min(x + canvas[1], size[1]), min(y + canvas[0], size[0])) for y in ys for x in xs]


def paint(
    chips: Sequence[Chip], pieces: Sequence[Piece], canvas: tuple[int, int], padding: tuple[int, int, int]
) -> list[np.ndarray]:
    """Return the canvases, uint8 RGB, with padding where no piece lies."""
    count = 1 + max((piece.canvas for piece in pieces), default=-1)
    canvases = [blank(canvas, padding) for _ in range(count)]
    for chip, (x1, y1, x2, y2), number, x, y in pieces:
        canvases[number][y : y + y2 - y1, x : x + x2 - x1] = chips[chip][y1:y2, x1:x2]
    return canvases


def gather(
    found: Sequence[Detections], pieces: Sequence[Piece], sizes: Sequence[tuple[int, int]], config: CanvasConfig
) -> list[Detections]:
    """Bring what was found on canvases back to the chips.

    A box goes to the piece that holds its centre, and is cut at that piece. A box that a window's border inside its
    chip cuts is dropped. Windows of a chip are joined by NMS inside each class.
    """
    parts: list[list[Detections]] = [[] for _ in sizes]
    for piece in pieces:
        boxes, scores, labels = found[piece.canvas]
        window = np.array(piece.box, np.float32)
        boxes = box_ops.shift(boxes, window[0] - piece.x, window[1] - piece.y)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((window[:2] <= centre) & (centre < window[2:])).all(axis=1)
        whole = stacking.border_mask(boxes, window, sizes[piece.chip], config.tolerance)
        rows = np.flatnonzero(inside & whole)
        cut = np.clip(boxes[rows], np.tile(window[:2], 2), np.tile(window[2:], 2))
        parts[piece.chip].append(Detections(cut, scores[rows], labels[rows]))
    return [_joined(of_chip, config) for of_chip in parts]


def _apart(sizes: Sequence[tuple[int, int]], config: CanvasConfig) -> list[Piece]:
    """Return pieces for a detector of any shape, each on a canvas of its own."""
    side = config.largest // 2
    cut = [windows(size, size if size[0] * size[1] <= config.largest**2 else (side, side), config.overlap)
           for size in sizes]  # fmt: skip
    boxes = [(chip, box) for chip, of_chip in enumerate(cut) for box in of_chip]
    return [Piece(chip, box, canvas, 0, 0) for canvas, (chip, box) in enumerate(boxes)]


def _padded(detector: CropDetector, chips: Sequence[Chip], piece: Piece) -> np.ndarray:
    x1, y1, x2, y2 = piece.box
    return pad_to_multiple(chips[piece.chip][y1:y2, x1:x2], detector.multiple, detector.padding)


def _blocks(pieces: Sequence[Piece], areas: Sequence[int]) -> Iterator[list[Piece]]:
    """Yield the pieces of canvases that are held at a time, with the canvases counted from 0 in each.

    Args:
        pieces: of all canvases.
        areas: of each canvas, px. Those of a block begin within _AT_ONCE px.
    """
    numbers = (np.cumsum([0, *areas])[:-1] // _AT_ONCE).tolist()
    first = {number: canvas for canvas, number in reversed([*enumerate(numbers)])}
    blocks: dict[int, list[Piece]] = {}
    for piece in pieces:
        number = numbers[piece.canvas]
        blocks.setdefault(number, []).append(piece._replace(canvas=piece.canvas - first[number]))
    yield from (blocks[number] for number in sorted(blocks))


def _area(crops: Sequence[np.ndarray]) -> int:
    return sum(crop.shape[0] * crop.shape[1] for crop in crops)


def _found(detector: CropDetector, canvases: list[np.ndarray]) -> Sequence[Detections]:
    found = detector.find(canvases)
    if len(found) != len(canvases):
        raise ForeignError(f"the detector answers for {len(found)} of {len(canvases)} crops; answer for each")
    return found


def _inside(found: Detections, chip: Chip) -> Detections:
    """Return the boxes whose centre lies in a chip [h, w, 3] and not in the padding around it."""
    centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    rows = ((centre >= 0) & (centre < chip.shape[1::-1])).all(axis=1)
    return Detections(*(field[rows] for field in found))


def _joined(parts: list[Detections], config: CanvasConfig) -> Detections:
    if len(parts) == 1:
        return parts[0]
    rows = Detections(*(np.concatenate(field) for field in zip(Detections.none(), *parts)))
    nms = StackingConfig(score_threshold=0.0, max_detections=len(rows.scores), nms_iou=config.nms_iou)
    return stacking.merge(*rows, nms)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    step = max(1, side - int(overlap * side))
    return [*range(0, length - side, step), length - side]


def _shelf(shelves, ends, width, height, canvas, config) -> list[int]:
    """The first shelf with room for a piece, a new one where there is none."""
    if config.packed:
        for shelf in shelves:
            if shelf[3] + width <= canvas[1] and height <= shelf[2]:
                return shelf
        for number, end in enumerate(ends):
            if end + height <= canvas[0]:
                shelves.append([number, end, height, 0])
                ends[number] = _next(end + height, config)
                return shelves[-1]
    shelves.append([len(ends), 0, height, 0])
    ends.append(_next(height, config))
    return shelves[-1]


def _next(end: int, config: CanvasConfig) -> int:
    """Return where the next piece may begin after one that ends there, px."""
    return -(-(end + config.gutter) // config.grid) * config.grid
