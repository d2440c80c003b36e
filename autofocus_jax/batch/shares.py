"""The workers of a cluster: how many, what each gets of its machine, and how its process keeps to that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from autofocus_jax.structures import AutoFocusError

_CORES = 4  # of a worker without GPU, by default


class ClusterError(AutoFocusError):
    """There is no Ray, no such cluster, or not enough of it."""


class Share(NamedTuple):
    """The workers, and what each gets."""

    least: int  # workers
    most: int
    cores: int
    gpus: float  # 0, 1, or a part of one


class Machine(NamedTuple):
    cores: int
    gpus: int = 0


def share(machines: Sequence[Machine], workers: tuple[int, int] | None, cores: int | None, per_gpu: int) -> Share:
    """What each worker gets: a GPU (or 1 / per_gpu of one) where there is any, and cores of the machine that it is on.

    workers: bounds of their number; by default as many as there are GPUs, or one for every 4 cores. cores: of each; by
    default an even share, or less where that fits the machines badly. Raises ClusterError when the least number of
    workers does not fit, for which Ray would wait.
    """
    gpus = any(machine.gpus for machine in machines)
    fit = lambda cores: _fit(machines, cores, per_gpu)  # noqa: E731
    if workers is None:
        count = max(1, fit(cores or (1 if gpus else _CORES)))
        workers = count, count
    if cores is None:
        count = max(1, min(workers[1], fit(1)))
        even = max(1, sum(machine.cores for machine in machines) // count)
        cores = next((fewer for fewer in range(even, 0, -1) if fit(fewer) >= count), 1)
    if fit(cores) < workers[0]:
        largest = max((machine.cores for machine in machines if machine.gpus or not gpus), default=0)
        each, holds = (f"{cores} cores and a GPU", " with a GPU") if gpus else (f"{cores} cores", "")
        raise ClusterError(
            f"{workers[0]} workers of {each}, but {fit(cores)} fit on the cluster, whose largest machine{holds} has "
            f"{largest} cores; give --workers or --cores fewer, or add machines"
        )
    return Share(*workers, cores, (1 / per_gpu if per_gpu > 1 else 1) if gpus else 0)


def _fit(machines: Sequence[Machine], cores: int, per_gpu: int) -> int:
    """Workers that the machines hold at a time."""
    gpus = any(machine.gpus for machine in machines)
    return sum(min(one.cores // cores, one.gpus * per_gpu) if gpus else one.cores // cores for one in machines)


def limit(share: Share) -> None:
    """Bounds JAX's threads and its part of the GPU's memory, unless the environment has settled them.

    To be called before JAX opens its devices.
    """
    os.environ["NPROC"] = str(share.cores)  # what XLA takes for the number of cores
    if 0 < share.gpus < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * share.gpus:.3f}")
    elif share.gpus:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "true")  # a GPU of its own
    else:
        # The variable itself would come too late: JAX has read it when it was imported.
        if "JAX_PLATFORMS" not in os.environ:
            jax.config.update("jax_platforms", "cpu")


@contextlib.contextmanager
def one_at_a_time(folder: str | None, programs: str) -> Iterator[None]:
    """Lets the processes of a machine compile in turns, where they share a folder: the first fills it for the rest.

    programs: names what is compiled. Once one process has come through, the others go at the same time, since they only
    read; a file in the folder says so.
    """
    if folder is None:
        yield
        return
    import filelock

    os.makedirs(folder, exist_ok=True)
    filled = os.path.join(folder, f"warm_up_{programs}.done")
    if not os.path.exists(filled):
        with filelock.FileLock(os.path.join(folder, "warm_up.lock")):
            if not os.path.exists(filled):
                yield
                with open(filled, "w"):
                    return
    yield
