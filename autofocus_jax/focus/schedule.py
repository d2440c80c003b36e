"""The next action of the cascade: a decision on plain numbers, without threads, images or a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Waiting(NamedTuple):
    """Chips that wait for a batch of one bucket."""

    chips: int  # how many, at least 1
    batch: int  # how many a batch of the bucket takes
    oldest: int  # when the image of the first chip arrived, counted from 0


class State(NamedTuple):
    """Everything that a decision depends on."""

    more: bool  # images may be left to read
    held: int  # images that have arrived and are not through
    window: int  # how many images may be held
    waiting: Sequence[Waiting]  # buckets whose queue is not empty
    flying: int  # batches that were sent and not received
    concurrency: int  # calls of the detector that run at once


class Admit(NamedTuple):
    """Read the next image and queue its first chip."""


class Send(NamedTuple):
    """Send a batch to the detector."""

    queue: int  # position in State.waiting


class Receive(NamedTuple):
    """Wait for the oldest batch in flight."""


class Done(NamedTuple):
    """All images are through."""


def decide(state: State) -> Admit | Send | Receive | Done:
    """Return the next action. The action depends on the images alone, never on the clock.

    - Admit images while the window has room and no batch is full.
    - Send a full batch while at most `concurrency` batches are in flight: that many run, and one more is ready for the
      first free thread. The batch with the oldest first chip goes first.
    - Send a partial batch only if no image can be admitted and the detector is about to idle. The batches in flight may
      still fill the partial one. The fullest batch goes first.
    - Otherwise receive the oldest batch in flight.
    """
    shares = [min(1.0, queue.chips / queue.batch) for queue in state.waiting]
    fullest = max(shares, default=0.0)
    if state.more and state.held < state.window and fullest < 1.0:
        return Admit()
    may_send = state.flying <= state.concurrency
    about_to_idle = state.flying < max(1, state.concurrency - 1)
    if shares and may_send and (fullest == 1.0 or about_to_idle):
        fitting = [position for position, share in enumerate(shares) if share == fullest]
        return Send(min(fitting, key=lambda position: state.waiting[position].oldest))
    return Receive() if state.flying else Done()
