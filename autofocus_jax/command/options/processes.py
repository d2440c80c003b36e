"""Options of the commands that several processes run together."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """Where the processes meet, and which of them this one is."""

    coordinator: str | None = None
    """HOST:PORT of the first of several processes that share the work and its folder; "auto" asks the cluster"""
    processes: int | None = None
    """how many processes there are; each is given the same command and its own --process"""
    process: int | None = None
    """number of this process, 0 to --processes - 1"""
