"""A job on Ray Data: an autoscaling pool of workers, each with a GPU, a share of one, or a share of a machine's cores.

Only the descriptions of pieces and what they came to travel through Ray, and the detector's weights, once to a machine.
A worker reads, decodes and detects its piece's images and writes its part of the output itself. Workers that die are
started anew and their pieces done again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from autofocus_jax.batch.attempts import Attempts, Care
from autofocus_jax.batch.job import Done, Job, do_piece
from autofocus_jax.batch.plan import Piece
from autofocus_jax.batch.shares import ClusterError, Machine, Share, limit, one_at_a_time
from autofocus_jax.batch.shares import share as share_of

_BLOCKS = 10_000  # tasks that Ray Data makes of the pieces, at most
_FOLDER, _LOCK = "autofocus-ray-", "owner.lock"  # of a local cluster's files
_STORE = 200 * 10**6  # bytes of a local cluster's object store, beside the weights


class Failed(NamedTuple):
    """A piece that could not be done; nothing of it is written."""

    number: int
    reason: str


@contextlib.contextmanager
def cluster(address: str | None, cores: int | None = None, weights_bytes: int = 0) -> Iterator[None]:
    """Joins the cluster at `address`, or starts one on this machine that ends with the block.

    cores: of the local cluster, by default all that this process may use. Raises ClusterError.
    """
    ray = _ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        try:
            if address is not None:
                _check_there(address)
                ray.init(address=address, **quiet)
            else:
                folder = stack.enter_context(_own_folder("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()))
                ray.init(address="local", num_cpus=cores or len(os.sched_getaffinity(0)), include_dashboard=False,
                         object_store_memory=_STORE + 2 * weights_bytes, _temp_dir=folder, **quiet)  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"cluster at {address} cannot be joined" if address else "a local cluster cannot be started"
            raise ClusterError(f"{where} ({' '.join(str(error).split())[:200]}); check --address") from None
        stack.callback(ray.shutdown)
        yield


def share(workers: tuple[int, int] | None, cores: int | None, per_gpu: int) -> Share:
    """`shares.share` of the machines of the cluster that was joined; raises ClusterError."""
    found = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    return share_of([Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in found], workers, cores, per_gpu)


def run(
    job: Job,
    variables: Any,
    pieces: Sequence[Piece],
    share: Share,
    window: int | None = None,
) -> Iterator[Done | Failed]:
    """Does pieces on the cluster that was joined, in any order; yields what each came to as it is finished.

    Raises ClusterError when the workers cannot be started, or the cluster goes away.
    """
    ray = _ray()
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    reference = ray.put(variables)
    watch = _attempts()
    items = [{"piece": json.dumps(piece)} for piece in pieces]
    described = data.from_items(items, override_num_blocks=min(len(items), _BLOCKS))
    least, most = (min(count, len(items)) for count in (share.least, share.most))
    # By default Ray Data starts an actor that died anew, and gives it the pieces that it had, without limit.
    results = described.map_batches(
        _Actor, batch_size=1, batch_format="numpy",
        compute=data.ActorPoolStrategy(min_size=least, max_size=most),
        fn_constructor_args=(job, [reference], watch, share, window),
        num_cpus=share.cores, num_gpus=share.gpus or None,
    )  # fmt: skip
    try:
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
            for text in batch["done"].tolist():
                entry = json.loads(text)
                watch.heard.remote(entry[0])
                yield Failed(*entry) if len(entry) == len(Failed._fields) else Done(*entry)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(getattr(error, "cause", None) or error).split())[-300:]
        raise ClusterError(f"the workers cannot go on: {reason}") from None


def _attempts() -> Any:
    """An Attempts on this machine, which the job ends with anyway; others may go away at any time."""
    ray = _ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Attempts).remote()


class _Actor:
    """A worker's process: a Model made once, and a call for every piece."""

    def __init__(self, job: Job, references: list, watch: Any, share: Share, window: int | None):
        limit(share)
        import jax

        from autofocus_jax import parallel
        from autofocus_jax.data.image import quiet_decoders
        from autofocus_jax.inference.model import Model

        quiet_decoders()
        parallel.cache_compilations()
        self._job, self._window, self._threads = job, window, max(1, min(16, share.cores))
        self._watch = _RemoteWatch(watch)
        (variables,) = _ray().get(references)
        self._model = Model.compiled(job.config, variables, job.categories)
        programs = f"{job.settings}_{share.cores}_{jax.__version__}"
        with one_at_a_time(jax.config.jax_compilation_cache_dir, programs):
            self._model.warm_up()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"done": [json.dumps(self._do(_piece(json.loads(text)))) for text in batch["piece"].tolist()]}

    def _do(self, piece: Piece) -> Done | Failed:
        try:
            return do_piece(self._model, self._job, piece, self._window, self._threads, self._watch)
        except Exception as error:  # told to the user; the other pieces go on
            return Failed(piece.number, " ".join(f"{type(error).__name__}: {error}".split())[:300])


class _RemoteWatch:
    """A Watch in another process; what it is told has arrived when a call returns."""

    def __init__(self, actor: Any):
        self._actor = actor

    def begin(self, piece: int) -> Care:
        return _ray().get(self._actor.begin.remote(piece))

    def at(self, piece: int, position: int) -> None:
        _ray().get(self._actor.at.remote(piece, position))

    def end(self, piece: int, done: tuple | None) -> None:
        _ray().get(self._actor.end.remote(piece, done))


def _check_there(address: str) -> None:
    """Raises OSError for a HOST:PORT where nobody listens, which Ray would wait for and then end the process."""
    match = re.fullmatch(r"(?:ray://)?([^:]+):(\d+)", address)
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()


def _piece(fields: list) -> Piece:
    number, kind, files, groups, *rest = fields
    return Piece(number, kind, tuple(files), tuple(groups), *rest)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed; pip install 'autofocus_jax[ray]'") from None
    return ray


@contextlib.contextmanager
def _own_folder(root: str) -> Iterator[str]:
    """A new folder in `root` for the files of a local cluster, gone after the block.

    Those of processes that were killed go now: the lock in a folder is free once its process is dead.
    """
    import filelock  # Ray needs it too

    for lock in glob.glob(os.path.join(root, f"{_FOLDER}*", _LOCK)):
        with contextlib.suppress(filelock.Timeout, OSError), filelock.FileLock(lock, blocking=False):
            shutil.rmtree(os.path.dirname(lock), ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=_FOLDER, dir=root)
    with filelock.FileLock(os.path.join(folder, _LOCK)):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
