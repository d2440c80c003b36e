"""Faults found in data: kinds of findings, correction of annotations, and a collector that counts each kind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.errors import BadDataError
from autofocus_jax.structures import ImageInfo

BAD_BOX = "boxes that are not four finite numbers"
FLAT = "boxes without area"
OUTSIDE = "boxes of which nothing lies in their image"
CUT = "boxes that reach over their image by more than 1 px"
TWICE = "boxes that are there twice (same class, same box)"
UNKNOWN_CATEGORY = "boxes of an unknown category"
NO_IMAGE = "annotations of an image that is not there"
INCOMPLETE = "annotations that lack their image, their category or their box"
BAD_FILE = "files of annotations that cannot be read"
MISSING = "image files that are missing"
UNREADABLE = "image files that cannot be read"
OTHER_SIZE = "images of another size than their annotations say"

SHARES = "boxes within 0 to 1, as shares of the image's sides; want pixels"
FROM_ZERO = "boxes with a corner at 0 or with fractions: these files count from 0; take one_based=False"
EQUAL_NAMES = "names that several categories have"
FOUND_ELSEWHERE = "image files found under their bare names, not where the annotations say"
NO_LABELS = "images without a file of labels"
KEYPOINTS = "boxes with keypoints, which are not used"
PASSED_OVER = "folders that are passed over"
DARK = "images of 16 bits that use the lower ones alone"
ORIENTATION = "images whose orientation tag the sizes cannot settle"
NEARLY_TWICE = "boxes that are there twice (same class, nearly the same box)"
TINY = "boxes below 2 px"
LISTED_TWICE = "images that are listed twice"
EMPTY_CATEGORY = "categories without an object"
CROWDED = "images with more than 100 objects; COCO's AP counts the 100 best detections, so it cannot reach 100"
OVERFULL = "images with more than 200 objects, the detections that are kept of an image; raise stacking.max_detections"

# What a training does about each kind that it meets.
TREATMENT = {
    BAD_BOX: "left out",
    FLAT: "left out",
    OUTSIDE: "left out",
    SHARES: "left out",
    CUT: "cut there",
    TWICE: "kept once",
    UNKNOWN_CATEGORY: "neither object nor background",
    NO_IMAGE: "left out",
    INCOMPLETE: "left out",
    BAD_FILE: "left out, and so are their images",
    MISSING: "their chips train nothing",
    UNREADABLE: "their chips train nothing",
    OTHER_SIZE: "their chips train nothing",
    FROM_ZERO: "read as counted from 1",
    EQUAL_NAMES: "told apart by a number",
    FOUND_ELSEWHERE: "used",
    NO_LABELS: "taken for images without objects",
    KEYPOINTS: "boxes used",
    PASSED_OVER: "each folder is looked at once",
    DARK: "nearly black",
    ORIENTATION: "not turned",
}

# Kinds that an inspection alone looks for.
INSPECTED = (NEARLY_TWICE, TINY, LISTED_TWICE, EMPTY_CATEGORY, CROWDED, OVERFULL)

# Kinds that an annotation is lost by, and kinds that are worth a word but no fault.
LOST = (BAD_BOX, FLAT, OUTSIDE, SHARES, UNKNOWN_CATEGORY, NO_IMAGE, INCOMPLETE)
NOTES = (PASSED_OVER, FOUND_ELSEWHERE, NO_LABELS, KEYPOINTS, EQUAL_NAMES)

# (kind, what came, what to do about it): a reader's word on one annotation. It either raises or lets the reader go on
# without that annotation.
Report = Callable[[str, str, str], None]


class Arranged(NamedTuple):
    """Corrected annotations, sorted by image. A: number of annotations that stay."""

    starts: np.ndarray  # [N + 1] where each image's part begins
    boxes: np.ndarray  # [A, 4] float32, image px
    labels: np.ndarray  # [A] int32
    ignore: np.ndarray  # [A] bool
    found: list[tuple[str, str]]  # (kind, example) of each case


def put_right(
    infos: Sequence[ImageInfo],
    classes: int,
    owner: np.ndarray,
    given: np.ndarray,
    labels: np.ndarray,
    ignore: np.ndarray,
    once: bool = False,
) -> Arranged:
    """Cut boxes at their image, leave out impossible boxes, and report both.

    A box is left out if it is not finite, has no area in its image, or lies within the first pixel, as shares of sides
    would. A label without a category makes an ignore region.

    Args:
        infos: [N] images.
        classes: number of categories.
        owner: [A] position of the image of each annotation.
        given: [A, 4] boxes as read, xyxy, image px.
        labels: [A] category of each.
        ignore: [A] True for an ignore region.
        once: also leave out repeated equal boxes of a class.
    """
    owner, labels, ignore = np.asarray(owner, np.int64), np.asarray(labels, np.int32), np.asarray(ignore, bool)
    given = np.asarray(given, np.float64).reshape(-1, 4)
    sizes = np.array([(info.height, info.width) for info in infos], np.float64).reshape(-1, 2)[owner]
    finite = np.all(np.isfinite(given), axis=1)
    inside = np.where(finite[:, None], given, 0)
    boxes = box_ops.clip(inside, sizes[:, 0], sizes[:, 1]).astype(np.float32)
    good = box_ops.area(boxes) > 0
    flat = (inside[:, 2:] <= inside[:, :2]).any(axis=1)
    shares = good & are_shares(inside) & (sizes.min(axis=1, initial=np.inf) > 2)
    unknown = (labels < 0) | (labels >= classes)
    found: list[tuple[str, str]] = []

    def tell(kind: str, rows: np.ndarray, why: str = "") -> None:
        found.extend((kind, box_example(infos[owner[row]], given[row]) + why) for row in np.flatnonzero(rows))

    tell(BAD_BOX, ~finite)
    tell(FLAT, finite & ~good & flat)
    tell(OUTSIDE, finite & ~good & ~flat)
    tell(SHARES, shares)
    tell(CUT, good & (np.abs(inside - boxes) > 1).any(axis=1))
    tell(UNKNOWN_CATEGORY, good & unknown, " is of a category that has no name")
    labels, ignore = np.where(unknown, 0, labels).astype(np.int32), ignore | unknown
    keep = good & ~shares
    if once:
        again = _repeated(owner, boxes, labels, ignore) & keep
        tell(TWICE, again, " is there twice")
        keep &= ~again
    order = np.flatnonzero(keep)[np.argsort(owner[keep], kind="stable")]
    starts = np.searchsorted(owner[order], np.arange(len(infos) + 1))
    return Arranged(starts, boxes[order], labels[order], ignore[order], found)


def are_shares(boxes: np.ndarray) -> np.ndarray:
    """Return which boxes [A, 4] are shares of an image's sides (within 0 to 1 and not whole numbers): [A] bool."""
    within = (boxes >= 0).all(axis=1) & (boxes <= 1).all(axis=1)
    return within & (boxes != np.round(boxes)).any(axis=1)


def box_example(info: ImageInfo, box: np.ndarray) -> str:
    """Return one line that names a box [4] of an image."""
    corners = " ".join(f"{value:.6g}" for value in box)
    return f"{info.file_name} ({info.width}x{info.height}): box {corners}"


def _repeated(owner: np.ndarray, boxes: np.ndarray, labels: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """[A] bool: annotations that equal an earlier one of their image in box, label and ignore flag."""
    order = np.lexsort((ignore, labels, *boxes.T, owner))  # stable, so the first of equals stays first
    equal = np.ones(max(len(order) - 1, 0), bool)
    for values in (owner, labels, ignore, *boxes.T):
        equal &= values[order[1:]] == values[order[:-1]]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:]] = equal
    return repeated


class Findings:
    """Counts of findings by kind. Several threads may add findings.

    The same example is counted once, because an unreadable image is met again every epoch.
    """

    def __init__(self, examples: int = 3):
        """Make an empty collector that keeps `examples` examples of each kind for display."""
        self._limit, self._lock = examples, threading.Lock()
        self._seen: set[int] = set()  # hashes: a data set may have many
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._told: dict[str, int] = {}
        self._alarms: list[str] = []

    def add(self, kind: str, *examples: str) -> None:
        """Count examples under a kind; each is one line that names a file and its fault."""
        with self._lock:
            for example in examples:
                if hash(example) in self._seen:
                    continue
                self._seen.add(hash(example))
                self._counts[kind] = self._counts.get(kind, 0) + 1
                kept = self._examples.setdefault(kind, [])
                if len(kept) < self._limit:
                    kept.append(example)

    def alarm(self, text: str) -> None:
        """Add a line that stands before all others, for a fault that makes most of the data useless."""
        with self._lock:
            self._alarms.append(text)

    def extend(self, cases: Iterable[tuple[str, str]]) -> None:
        """Add (kind, example) of each case."""
        for kind, example in cases:
            self.add(kind, example)

    def report(self, kind: str, what: str, remedy: str) -> None:
        """Count a fault and let the reader continue (a Report for readers)."""
        self.add(kind, what)

    def counts(self) -> dict[str, int]:
        """Return the count of each kind that occurred."""
        with self._lock:
            return dict(self._counts)

    def examples(self, kind: str) -> tuple[str, ...]:
        """Return the first examples of a kind."""
        with self._lock:
            return tuple(self._examples.get(kind, ()))

    def lines(self, new: bool = False) -> list[str]:
        """Return a line for each kind: count, treatment in training, first examples.

        Args:
            new: only kinds whose count has grown since the last call.
        """
        with self._lock:
            told, self._told = self._told, dict(self._counts)
            alarms, self._alarms = self._alarms, [] if new else self._alarms
            return alarms + [
                self._line(kind) for kind, count in self._counts.items() if not new or count > told.get(kind, 0)
            ]  # fmt: skip

    def reasons(self) -> str:
        """Return the lines as the end of a one-line error message."""
        return "".join(f" | {line}" for line in self.lines())

    def refuse(self) -> None:
        """Raise BadDataError, one line with counts and first examples, if anything but notes was added."""
        lines = self.lines()
        if any(kind not in NOTES for kind in self.counts()):
            raise BadDataError(f"the training data are not clean: {' | '.join(lines)} | mend them, or do not be strict")

    def _line(self, kind: str) -> str:
        count, shown = self._counts[kind], self._examples[kind]
        treatment = f" ({TREATMENT[kind]})" if kind in TREATMENT else ""
        more = ", …" if count > len(shown) else ""
        return f"{count} {kind}{treatment}: {', '.join(shown)}{more}"


class _Listener(logging.Handler):
    """Log handler that adds messages of readers to findings."""

    def __init__(self, found: Findings):
        super().__init__()
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.add(DARK if record.name.endswith(".image") else PASSED_OVER, record.getMessage())


def listen(found: Findings) -> None:
    """Count in `found`, from now on, everything that readers would log, such as nearly black images."""
    logger = logging.getLogger("autofocus_jax.data")
    logger.handlers[:] = [_Listener(found)]
    logger.propagate = False
