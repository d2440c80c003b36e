"""Several devices: the mesh, the per-device map, transfers between host and devices, JAX's compilation cache."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from autofocus_jax.structures import AutoFocusError, Bucket

AXIS = "devices"  # name of the mapped axis: jax.lax.pmean(x, AXIS) inside a mapped function


class ParallelError(AutoFocusError):
    """Several processes could not be made to work together."""


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One axis over devices, by default over all of all processes."""
    return Mesh(np.array(jax.devices() if devices is None else list(devices)), (AXIS,))


def pmap(function: Callable, over: Mesh, replicated: Sequence[bool], out_replicated: bool = False) -> Callable:
    """`function` run once per device, as jax.pmap did: on its own slice of the leading axis of every array.

    replicated: for each argument, whether every device gets all of it instead. out_replicated: the results are the same
    on every device (they were made so by collectives over AXIS); else their slices are put together again. To be
    passed to jax.jit.
    """
    specs = tuple(PartitionSpec() if whole else PartitionSpec(AXIS) for whole in replicated)
    out = PartitionSpec() if out_replicated else PartitionSpec(AXIS)
    return jax.shard_map(function, mesh=over, in_specs=specs, out_specs=out, check_vma=False)


def replicate(tree: Any, over: Mesh) -> Any:
    """The same arrays on every device."""
    return jax.device_put(tree, NamedSharding(over, PartitionSpec()))


def split(tree: Any, over: Mesh) -> Any:
    """Arrays cut along their leading axis, a slice to each device; starts the transfer and does not wait for it."""
    return jax.device_put(tree, NamedSharding(over, PartitionSpec(AXIS)))


def split_like(tree: Any, over: Mesh) -> Any:
    """The shapes of arrays that `split` would make; for compiling ahead of time."""
    sharding = NamedSharding(over, PartitionSpec(AXIS))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def spread(buckets: Sequence[Bucket], devices: int) -> tuple[Bucket, ...]:
    """Buckets whose batches feed that many devices; each device gets the batch that the bucket had."""
    return tuple(dataclasses.replace(bucket, batch=bucket.batch * devices) for bucket in buckets)


def cache_compilations() -> None:
    """Lets JAX keep compiled programs in the user's cache folder, so that the next start needs no compiling.

    The folder is $AUTOFOCUS_CACHE/compiled or ~/.cache/autofocus_jax/compiled, unless the environment already names one
    (JAX_COMPILATION_CACHE_DIR); JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    if jax.config.jax_compilation_cache_dir is None:
        root = Path(os.environ.get("AUTOFOCUS_CACHE") or Path.home() / ".cache" / "autofocus_jax")
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of several (jax.distributed), before JAX is first used; does nothing without coordinator.

    coordinator: HOST:PORT of process 0, or "auto" where a cluster (Slurm, Open MPI, Kubernetes) tells all three.
    Raises ParallelError for settings that do not fit each other and when the others cannot be reached.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise ParallelError("processes are given but no coordinator; give HOST:PORT of the first process, or auto")
        return
    given = {} if coordinator == "auto" else {
        "coordinator_address": coordinator, "num_processes": processes, "process_id": process
    }  # fmt: skip
    if any(value is None for value in given.values()):
        raise ParallelError(f"coordinator {coordinator} wants the number of processes and of this process too")
    if given and not 0 <= process < processes:
        raise ParallelError(f"process {process} of {processes}; they are numbered from 0")
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise ParallelError(f"the processes could not be joined ({' '.join(str(error).split())[:200]})") from None


def wait_for_all(what: str) -> None:
    """Returns when every process has come here; at once when there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
