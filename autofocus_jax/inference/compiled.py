"""The detector compiled ahead of time: one program per bucket for the part that depends on the bucket's exact shape."""

from __future__ import annotations

import copy
import gc
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from autofocus_jax import parallel
from autofocus_jax.config import Config
from autofocus_jax.detector.api import Detector, Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.errors import CompileError
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.structures import Bucket, ChipBatch, DetectorOutput, Placement

_MAPS_PER_PROGRAM = 250  # memory maps, of which Linux allows a process 65530; 108 were counted, 230 in older forms


class Parts:
    """Compiled programs of the detector's functions, by the shapes of their arguments. Copies of a detector share them.

    The first thread that asks for a program compiles it. Meanwhile other programs can be used and compiled.
    """

    def __init__(self, mesh: jax.sharding.Mesh):
        self.traces = 0  # how often JAX traced a function
        self.mesh = mesh
        self._programs: dict[tuple, Future] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def jitted(self, function: Callable[[Variables, Any], Any]) -> Callable:
        """Return `function` mapped over the devices: variables on all devices, the other argument split."""

        def traced(variables: Variables, value: Any) -> Any:
            self.traces += 1
            return function(variables, value)

        return jax.jit(parallel.pmap(traced, self.mesh, replicated=(True, False)))

    def program(self, function: Any, variables: Variables, like: Any) -> Callable:
        """Return the compiled program of a `jitted` function for arrays of these shapes."""
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(like))
        with self._lock:
            known = self._programs.get((function, shapes))
            mine = known is None
            if mine:
                known = self._programs[function, shapes] = Future()
        if mine:
            try:
                make_room()
                like = parallel.split_like(like, self.mesh)
                known.set_result(function.lower(variables, like).compile())
            except BaseException as error:
                with self._lock:
                    del self._programs[function, shapes]
                known.set_exception(error)
        return known.result()


class CompiledDetector:
    """A `detect` for the cascade that looks up the program of a batch's shape and never traces while it runs.

    Batch norms are folded into the convolutions before them, which changes answers by float rounding only.

    The cascade calls the detector from `concurrency` threads at once. A CPU runs the programs of one thread one after
    the other, which leaves cores idle. The third call keeps the cores busy while the thread of a finished batch waits
    for the GIL.

    Programs are compiled on first use, or all at once by `warm_up`. `compilations` counts programs. `traces` counts how
    often JAX traced a part of the detector.
    """

    concurrency = 3  # focus.cascade.Detect

    def __init__(
        self,
        config: Config,
        variables: Variables,
        devices: Sequence[jax.Device] | None = None,
        detector: Detector | None = None,
    ):
        """Make the detector without compiling anything.

        Args:
            config: settings of the detector and its buckets.
            variables: parameters and batch statistics.
            devices: each batch is split evenly over these; by default the first device alone. parallel.spread makes
                buckets for several.
            detector: the detector to compile for these variables; by default config.detector's.

        Raises:
            BucketError: a bucket's batch does not split evenly over the devices.
        """
        devices = jax.local_devices()[:1] if devices is None else devices
        for bucket in config.buckets:
            if bucket.batch % len(devices):
                raise BucketError(
                    f"batches of {bucket.batch} chips of {bucket.height}x{bucket.width} px do not split over "
                    f"{len(devices)} devices; use parallel.spread(config.buckets, {len(devices)})"
                )
        detector = detector or detector_of(config.detector)
        prepared, folded = detector.prepare(variables)
        self._prepare = lambda variables: detector.prepare(variables)[1]
        self.buckets: tuple[Bucket, ...] = config.buckets
        self._mesh = parallel.mesh(devices)
        self._far = devices[0].platform != "cpu"  # a CPU's arrays are the host's own; asking for copies takes time
        self._variables = parallel.replicate(folded, self._mesh)
        self._parts = Parts(self._mesh)
        self._look = self._parts.jitted(prepared.look)
        self._answer = self._parts.jitted(prepared.answer)

    @property
    def compilations(self) -> int:
        return len(self._parts)

    @property
    def traces(self) -> int:
        return self._parts.traces

    def using(self, variables: Variables) -> CompiledDetector:
        """Return a detector with other variables of the same shapes. Present and later programs are shared."""
        other = copy.copy(self)
        other._variables = parallel.replicate(self._prepare(variables), self._mesh)
        return other

    def __call__(self, chips: ChipBatch, placements: Sequence[Placement] = ()) -> DetectorOutput:
        """Start the detection of a batch and return arrays that are still being computed.

        Args:
            chips: a batch of a bucket's shape.
            placements: ignored.

        Raises:
            BucketError: the shape is no bucket's.
            CompileError: there is no room for another program.
        """
        batch, height, width = chips.pixels.shape[:3]
        if Bucket(height, width, batch) not in self.buckets:
            known = ", ".join(f"{b.batch}x{b.height}x{b.width}" for b in self.buckets)
            raise BucketError(
                f"a batch of {batch} chips of {height}x{width} px is no bucket's; Config.buckets has {known}"
            )
        seen, focus = self._run(self._look, parallel.split(chips, self._mesh))
        found = *self._run(self._answer, seen), focus
        if self._far:
            for array in found:
                array.copy_to_host_async()
        return DetectorOutput(*found)

    def _run(self, function: Callable, value: Any) -> Any:
        return self._parts.program(function, self._variables, value)(self._variables, value)

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compile the programs of every bucket, several at a time, and run each once, because first runs are slow.

        Args:
            progress: called after each bucket.
        """
        pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        try:
            ready = [(bucket, pool.submit(self, bucket_ops.pad([], bucket))) for bucket in self.buckets]
            for bucket, output in ready:
                jax.block_until_ready(output.result())
                if progress is not None:
                    progress(bucket)
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for programs that nobody will run


compile_detector = CompiledDetector  # its public name


def make_room() -> None:
    """Free unreachable programs if the process nears Linux's limit of memory maps.

    Raises:
        CompileError: the limit would still be passed. Otherwise LLVM would abort the process.
    """
    limit, used = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")
    if not limit.is_file() or not used.is_file():
        return  # no Linux, no such limit
    most = int(limit.read_text()) - 2 * _MAPS_PER_PROGRAM
    if _lines(used) > most:
        gc.collect()
        if _lines(used) > most:
            raise CompileError(
                f"no room for another compiled program: the process has {_lines(used)} of {limit.read_text().strip()} "
                f"memory maps; use fewer buckets or detectors, or raise {limit}"
            )


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
