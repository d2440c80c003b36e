"""Options of the commands that several processes run together."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """Options of several processes that share the work."""

    coordinator: str | None = None
    """HOST:PORT of the first of several processes that share the work and its folder; "auto" asks Slurm, Open MPI or
    Kubernetes"""
    processes: int | None = None
    """number of processes; each gets the same command and its own --process"""
    process: int | None = None
    """number of this process, 0 to --processes - 1"""
