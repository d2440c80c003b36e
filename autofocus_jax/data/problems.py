"""What is wrong with data: kinds of it, and a collector that counts each kind and keeps its first examples."""

from __future__ import annotations

import threading
from collections.abc import Callable

from autofocus_jax.structures import AutoFocusError

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

# What a training does about each kind.
TREATMENT = {
    BAD_BOX: "left out",
    FLAT: "left out",
    OUTSIDE: "left out",
    CUT: "cut there",
    TWICE: "kept once",
    UNKNOWN_CATEGORY: "neither object nor background",
    NO_IMAGE: "left out",
    INCOMPLETE: "left out",
    BAD_FILE: "left out, and so are their images",
    MISSING: "their chips train nothing",
    UNREADABLE: "their chips train nothing",
    OTHER_SIZE: "their chips train nothing",
}

# (kind, what came, what to do about it): a reader's word on one annotation. It either raises or lets the reader go on
# without that annotation.
Report = Callable[[str, str, str], None]


class BadDataError(AutoFocusError):
    """The data have something wrong in them, and the training was told to be strict."""


class Problems:
    """Counts what is wrong by kind; several threads may add to it.

    The same example is counted once, however often it is met: an image that cannot be read is met again every epoch.
    """

    def __init__(self, examples: int = 3):
        """examples: how many of each kind are kept to be shown."""
        self._limit, self._lock = examples, threading.Lock()
        self._seen: set[int] = set()  # hashes: a data set may have many
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._told: dict[str, int] = {}

    def add(self, kind: str, *examples: str) -> None:
        """Counts examples, each one line that names a file and what is wrong, under a kind."""
        with self._lock:
            for example in examples:
                if hash(example) in self._seen:
                    continue
                self._seen.add(hash(example))
                self._counts[kind] = self._counts.get(kind, 0) + 1
                kept = self._examples.setdefault(kind, [])
                if len(kept) < self._limit:
                    kept.append(example)

    def report(self, kind: str, what: str, remedy: str) -> None:
        """A Report for readers: counts and lets the reader go on."""
        self.add(kind, what)

    def counts(self) -> dict[str, int]:
        """How many of each kind there are, of kinds that there are."""
        with self._lock:
            return dict(self._counts)

    def examples(self, kind: str) -> tuple[str, ...]:
        """The first few of a kind."""
        with self._lock:
            return tuple(self._examples.get(kind, ()))

    def lines(self, new: bool = False) -> list[str]:
        """A line for each kind: count, what training does about it, first examples.

        new: only of kinds whose count has grown since the last call.
        """
        with self._lock:
            told, self._told = self._told, dict(self._counts)
            return [
                self._line(kind) for kind, count in self._counts.items() if not new or count > told.get(kind, 0)
            ]  # fmt: skip

    def refuse(self) -> None:
        """Raises BadDataError, one line with counts and first examples, when anything was added."""
        lines = self.lines()
        if lines:
            raise BadDataError(
                f"the training data are not clean: {' | '.join(lines)} | mend them, or train without --strict"
            )

    def _line(self, kind: str) -> str:
        count, shown = self._counts[kind], self._examples[kind]
        treatment = f" ({TREATMENT[kind]})" if kind in TREATMENT else ""
        more = ", …" if count > len(shown) else ""
        return f"{count} {kind}{treatment}: {', '.join(shown)}{more}"
