"""What workers were doing when they died, remembered outside of them, so that one image cannot stop a job.

A piece whose worker died twice is done image by image; an image that two more workers died of is left to a row with an
error. A piece that workers go on to die of, without one image that it can be, is given up. A machine that is taken away
now and then costs repetitions, and no image.
"""

from __future__ import annotations

import collections
from typing import NamedTuple, Protocol

_PLAIN = 2  # workers that may die of a piece before it is done image by image
_DEATHS = 2  # workers that then may die of an image
_FRUITLESS = 6  # workers that may die of a piece without another image found that they died of


class Care(NamedTuple):
    """How a piece is to be done this time."""

    attempt: int  # from 1
    one_by_one: bool
    deadly: tuple[int, ...]  # positions in the piece of images that must not be touched again
    hopeless: bool = False  # it is not to be done any more
    done: tuple | None = None  # what `end` was told: it is done already, and nobody has heard of it


class Watch(Protocol):
    """What a worker tells of itself."""

    def begin(self, piece: int) -> Care: ...

    def at(self, piece: int, position: int) -> None: ...

    def end(self, piece: int, done: tuple | None) -> None: ...


class Attempts:
    """A Watch in memory. A piece that is begun again without an end had a worker that died."""

    def __init__(self):
        self._begun: collections.Counter[int] = collections.Counter()
        self._at: dict[int, int] = {}
        self._deaths: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        self._found: dict[int, tuple[int, int]] = {}  # of a piece: deadly images, and the attempt that found the last
        self._done: dict[int, tuple] = {}

    def begin(self, piece: int) -> Care:
        """Says how a piece is to be done; what it was at before, if anything, is held for what its worker died of."""
        if piece in self._done:
            return Care(0, False, (), done=self._done[piece])
        self._begun[piece] += 1
        if piece in self._at:
            self._deaths[piece][self._at.pop(piece)] += 1
        deadly = tuple(sorted(place for place, deaths in self._deaths[piece].items() if deaths >= _DEATHS))
        attempt = self._begun[piece]
        known, since = self._found.get(piece, (0, 1))
        if len(deadly) > known:
            self._found[piece], since = (len(deadly), attempt), attempt
        return Care(attempt, attempt > _PLAIN, deadly, hopeless=attempt - since >= _FRUITLESS)

    def at(self, piece: int, position: int) -> None:
        """The image of the piece that is read now, and then detected in."""
        self._at[piece] = position

    def end(self, piece: int, done: tuple | None) -> None:
        """The piece is done and came to `done`; or, without it, failed with an error that can be told."""
        for known in (self._begun, self._at, self._deaths, self._found):
            known.pop(piece, None)
        if done is not None:
            self._done[piece] = done

    def heard(self, piece: int) -> None:
        """Who started the job knows what the piece came to; nobody begins it again."""
        self._done.pop(piece, None)
