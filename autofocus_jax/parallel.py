"""Several devices and processes: the mesh, the per-device map, transfers to and from devices, the compilation cache."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from autofocus_jax import files
from autofocus_jax.errors import ParallelError
from autofocus_jax.structures import Bucket

_PATIENCE = 24 * 3600  # seconds that a process which is done waits for the others
AXIS = "devices"  # name of the mapped axis: jax.lax.pmean(x, AXIS) inside a mapped function


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh with one axis over devices; by default over all devices of all processes."""
    return Mesh(np.array(jax.devices() if devices is None else list(devices)), (AXIS,))


def pmap(function: Callable, over: Mesh, replicated: Sequence[bool], out_replicated: bool = False) -> Callable:
    """Map a function over devices, as jax.pmap did, each on its slice of the leading axis of every array.

    Args:
        function: a function of arrays.
        over: the devices.
        replicated: for each argument, True if every device gets the whole argument.
        out_replicated: True if collectives over AXIS made the results equal on every device. Otherwise the slices of
            the results are joined.

    Returns:
        The mapped function, to be passed to jax.jit.
    """
    specs = tuple(PartitionSpec() if whole else PartitionSpec(AXIS) for whole in replicated)
    out = PartitionSpec() if out_replicated else PartitionSpec(AXIS)
    return jax.shard_map(function, mesh=over, in_specs=specs, out_specs=out, check_vma=False)


def replicate(tree: Any, over: Mesh) -> Any:
    """Copy arrays to every device. Every process must pass the same arrays."""
    sharding = NamedSharding(over, PartitionSpec())
    if not over.is_multi_process:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if _is_key(leaf):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        return jax.make_array_from_process_local_data(sharding, values, values.shape)

    return jax.tree.map(place, tree)


def split(tree: Any, over: Mesh) -> Any:
    """Cut arrays along their leading axis, a slice for each device, and start the transfer without waiting.

    With several processes, each process passes the slices of its own devices.
    """
    sharding = NamedSharding(over, PartitionSpec(AXIS))
    if not over.is_multi_process:
        return jax.device_put(tree, sharding)
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), tree)


def fetch(tree: Any) -> Any:
    """Return NumPy copies of arrays that every device holds whole. Keys become their data. Waits for the arrays."""
    here = jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree)
    here = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, here)
    for leaf in jax.tree.leaves(here):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return jax.tree.map(np.array, here)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def split_like(tree: Any, over: Mesh) -> Any:
    """Return the shapes of arrays that `split` would make, for compiling ahead of time."""
    sharding = NamedSharding(over, PartitionSpec(AXIS))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def spread(buckets: Sequence[Bucket], devices: int) -> tuple[Bucket, ...]:
    """Return buckets for that many devices: each device gets the batch of the given bucket."""
    return tuple(dataclasses.replace(bucket, batch=bucket.batch * devices) for bucket in buckets)


def cache_compilations() -> None:
    """Make JAX keep compiled programs in the cache folder, so that the next start needs no compiling.

    The folder is `compiled` in files.cache_folder(), or JAX_COMPILATION_CACHE_DIR. JAX_ENABLE_COMPILATION_CACHE=false
    turns the cache off.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(files.cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Make this process one of several (jax.distributed). Call it before JAX is first used.

    Args:
        coordinator: HOST:PORT of process 0, "auto" if a cluster (Slurm, Open MPI, Kubernetes) sets all three arguments,
            or None to do nothing.
        processes: number of processes.
        process: number of this process, from 0.

    Raises:
        ParallelError: the arguments do not fit each other, or the other processes cannot be reached.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise ParallelError("processes are given but no coordinator; give HOST:PORT of the first process, or auto")
        return
    if coordinator == "auto":
        coordinator = processes = process = None
    elif processes is None or process is None:
        raise ParallelError(f"coordinator {coordinator} wants the number of processes and of this process too")
    elif not 0 <= process < processes:
        raise ParallelError(f"process {process} of {processes}; they are numbered from 0")
    try:
        # The others wait at their end while the first one validates and writes.
        jax.distributed.initialize(coordinator, processes, process, shutdown_timeout_seconds=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise ParallelError(f"the processes could not be joined ({' '.join(str(error).split())[:200]})") from None


def process() -> tuple[int, int]:
    """Return the number of this process, from 0, and the number of processes."""
    return jax.process_index(), jax.process_count()


def from_first(tree: Any) -> Any:
    """Send a tree of process 0 to every process. The arrays must have the same shapes everywhere."""
    return multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree


_QUESTIONS = itertools.count(1)


def asked_to_stop() -> bool:
    """Return True if all processes shall stop now, because one of them got SIGTERM.

    Every process must call this after every step. All get the same answer for the same step. Nothing else may catch
    SIGTERM.
    """
    # JAX answers yes to one number alone, the next after those that any process has named. Steps would not do: a run
    # that goes on begins with a large one, and the next stage with 1.
    return multihost_utils.reached_preemption_sync_point(next(_QUESTIONS))


def wait_for_all(what: str) -> None:
    """Wait until every process has called this; return at once if there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
