"""A job on Ray: a pool of workers, each with a GPU, a share of one, or some cores.

Only the descriptions of pieces and what they came to travel through Ray, and the detector's weights, once to a machine.
A worker reads, decodes and detects its piece's images and writes its part of the output itself. Ray starts a worker
that died anew and gives it the piece once more; a piece that fails twice is left out and named.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import re
import socket
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from autofocus_jax import parallel
from autofocus_jax.batch.job import Done, Job, do_piece
from autofocus_jax.batch.plan import Piece
from autofocus_jax.data.image import quiet_decoders
from autofocus_jax.errors import ClusterError

_RESTARTS = 16  # times that a worker is started anew
_CORES = 4  # of a worker without GPU, by default
_STORES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")  # settings that workers elsewhere get too
_STORE = 200 * 10**6  # bytes of a local cluster's object store, beside the weights


class Share(NamedTuple):
    """The workers, and what each gets."""

    least: int  # workers
    most: int
    cores: int
    gpus: float  # 0, 1, or a part of one


class Failed(NamedTuple):
    """A piece that could not be done; nothing of it is written."""

    number: int
    reason: str


@contextlib.contextmanager
def cluster(address: str | None, cores: int | None = None, weights_bytes: int = 0) -> Iterator[None]:
    """Join the cluster at `address`, or start one on this machine that ends with the block.

    Args:
        address: HOST:PORT, or auto.
        cores: of the local cluster, by default all that this process may use.
        weights_bytes: room for the weights in its object store.

    Raises:
        ClusterError: there is none, or it cannot be started.
    """
    ray = _ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        # Ray starts its programs by a fork that becomes another program at once. JAX warns of every fork.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        try:
            if address is not None:
                _check_there(address)
                known = {name: os.environ[name] for name in _STORES if name in os.environ}
                ray.init(address=address, runtime_env={"env_vars": known} if known else None, **quiet)
            else:
                # A socket's path must be short, which that of $TMPDIR may not be.
                root = "/tmp" if os.path.isdir("/tmp") else None
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="autofocus-ray-", dir=root, ignore_cleanup_errors=True)
                )
                ray.init(address="local", num_cpus=cores or _cores_here(), include_dashboard=False,
                         object_store_memory=_STORE + 2 * weights_bytes, _temp_dir=folder, **quiet)  # fmt: skip
        except Exception as error:  # Ray raises plain Exceptions too, as on a machine that is too busy to start it
            where = f"cluster at {address} cannot be joined" if address else "a local cluster cannot be started"
            raise ClusterError(f"{where} ({' '.join(str(error).split())[:200]}); check the address") from None
        stack.callback(ray.shutdown)
        yield


def share(workers: tuple[int, int] | None, cores: int | None, per_gpu: int) -> Share:
    """Return what each worker gets of the cluster that was joined.

    Args:
        workers: bounds of their number; by default one for each GPU (or `per_gpu` of them), or for every 4 cores.
        cores: of each; by default an even share, at most what the smallest machine has.
        per_gpu: workers that share a GPU.

    Raises:
        ClusterError: the least number of workers does not fit, for which Ray would wait.
    """
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0)) * per_gpu) for node in nodes]
    gpus = any(slots for _, slots in machines)
    machines = [(cpus, slots if gpus else cpus) for cpus, slots in machines if slots or not gpus]
    all_cpus, all_slots = (sum(column) for column in zip((0, 0), *machines))
    count = all_slots if gpus else max(1, all_cpus // (cores or _CORES))
    least, most = workers or (count, count)
    if cores is None:
        even = all_cpus // max(1, min(most, all_slots))
        cores = max(1, min([even, *(cpus for cpus, _ in machines if cpus)]))
    fit = sum(min(cpus // cores, slots) for cpus, slots in machines)
    if fit < least:
        raise ClusterError(f"{least} workers of {cores} cores{' and a GPU' * gpus}, but {fit} fit on the cluster; ask "
                           "for fewer workers or cores, or add machines")  # fmt: skip
    return Share(least, most, cores, 1 / per_gpu if gpus else 0)


def run(
    job: Job,
    payload: Any,
    pieces: Sequence[Piece],
    share: Share,
    window: int | None = None,
) -> Iterator[Done | Failed]:
    """Do pieces on the cluster that was joined, in any order; yield what each came to as it is finished.

    A piece that two workers died of is Failed.

    Args:
        job: what is done with every piece.
        payload: what `job.load` makes a Model of, as arrays; sent once to a machine.
        pieces: which are done.
        share: the workers.
        window: images that a worker holds at a time; by default that of the plan.

    Raises:
        ClusterError: the workers cannot be started, or the cluster goes away.
    """
    ray = _ray()
    # Ray starts an actor that died anew, and gives it the piece that it had once more.
    worker = ray.remote(num_cpus=share.cores, num_gpus=share.gpus, max_restarts=_RESTARTS, max_task_retries=1)(_Actor)
    weights = ray.put(payload)
    actors = [worker.remote(job, [weights], share, window) for _ in range(min(share.most, len(pieces)))]
    # Actors that find no room wait, and an autoscaler sees them; pieces go to those that are ready, one at a time.
    running: dict[Any, tuple[Any, Piece | None]] = {actor.ready.remote(): (actor, None) for actor in actors}
    waiting, reason = collections.deque(pieces), ""
    while waiting or any(piece for _, piece in running.values()):
        if not running:
            raise ClusterError(f"no worker is left: {reason}")
        try:
            (answer, *_), _ = ray.wait(list(running))
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the cluster has gone away: {_cause(error)}") from None
        actor, piece = running.pop(answer)
        try:
            result = ray.get(answer)
        except ray.exceptions.RayError as error:
            reason = _cause(error)
            if piece is not None:  # the actor is asked whether it is started anew; one that is not has no piece
                running[actor.ready.remote()] = actor, None
                yield _deadly(piece)
            continue
        if waiting:
            following = waiting.popleft()
            running[actor.do.remote(following)] = actor, following
        if piece is not None:
            yield result


class _Actor:
    """A worker's process: a Model made once, and a call for every piece."""

    def __init__(self, job: Job, references: list, share: Share, window: int | None):
        limit(share)
        quiet_decoders()
        parallel.cache_compilations()
        self._job, self._window, self._threads = job, window, max(1, min(16, share.cores))
        (payload,) = _ray().get(references)
        self._model = job.load(payload, share.cores)
        self._model.warm_up()

    def ready(self) -> None:
        """Return when the programs are compiled."""

    def do(self, piece: Piece, again: bool = True) -> Done | Failed:
        """Do a piece; one that fails is tried once more."""
        try:
            return do_piece(self._model, self._job, piece, self._window, self._threads)
        except Exception as error:  # told to the user; the other pieces go on
            if again:
                return self.do(piece, again=False)
            return Failed(piece.number, " ".join(f"{type(error).__name__}: {error}".split())[:300])


def limit(share: Share) -> None:
    """Bound JAX's threads and its part of the GPU's memory, unless the environment has settled them.

    Call it before JAX opens its devices.
    """
    os.environ["NPROC"] = str(share.cores)  # what XLA takes for the number of cores
    if 0 < share.gpus < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * share.gpus:.3f}")
    elif share.gpus:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "true")  # a GPU of its own
    elif "JAX_PLATFORMS" not in os.environ:
        # The variable itself would come too late: JAX has read it when it was imported.
        jax.config.update("jax_platforms", "cpu")


def _check_there(address: str) -> None:
    """Raise OSError for a HOST:PORT where nobody listens, which Ray would wait for and then end the process."""
    match = re.fullmatch(r"(?:ray://)?([^:]+):(\d+)", address)
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()


def _cores_here() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _deadly(piece: Piece) -> Failed:
    files = " … ".join(dict.fromkeys((piece.files[0], piece.files[-1])))
    advice = "give each more memory (fewer workers, a smaller window), or take out the image that they died of"
    return Failed(piece.number, f"two workers died of it ({files}); {advice}")


def _cause(error: Exception) -> str:
    return " ".join(str(getattr(error, "cause", None) or error).split())[-300:]


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed; pip install 'autofocus_jax[ray]'") from None
    return ray
