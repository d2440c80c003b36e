"""What workers were doing when they died, remembered outside of them, so that one image cannot stop a job.

A piece whose worker died twice is done image by image; an image that two more workers died of is left to a row with an
error. A machine that is taken away now and then costs repetitions, and no image.
"""

from __future__ import annotations

import collections
from typing import NamedTuple, Protocol

_PLAIN = 2  # workers that may die of a piece before it is done image by image
_DEATHS = 2  # workers that then may die of an image


class Care(NamedTuple):
    """How a piece is to be done this time."""

    attempt: int  # from 1
    one_by_one: bool
    deadly: tuple[int, ...]  # positions in the piece of images that must not be touched again


class Watch(Protocol):
    """What a worker tells of itself."""

    def begin(self, piece: int) -> Care: ...

    def at(self, piece: int, position: int) -> None: ...

    def end(self, piece: int) -> None: ...


class Attempts:
    """A Watch in memory. A piece that is begun again without an end had a worker that died."""

    def __init__(self):
        self._begun: collections.Counter[int] = collections.Counter()
        self._at: dict[int, int] = {}
        self._deaths: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)

    def begin(self, piece: int) -> Care:
        """Says how a piece is to be done; what it was at before, if anything, is held for what its worker died of."""
        self._begun[piece] += 1
        if piece in self._at:
            self._deaths[piece][self._at.pop(piece)] += 1
        deadly = tuple(sorted(place for place, deaths in self._deaths[piece].items() if deaths >= _DEATHS))
        return Care(self._begun[piece], self._begun[piece] > _PLAIN, deadly)

    def at(self, piece: int, position: int) -> None:
        """The image of the piece that is begun now."""
        self._at[piece] = position

    def end(self, piece: int) -> None:
        """The piece is done, or failed with an error that can be told."""
        for known in (self._begun, self._at, self._deaths):
            known.pop(piece, None)
