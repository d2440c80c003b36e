"""The detector compiled ahead of time, one program per bucket."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.config import Config, DetectorConfig
from autofocus_jax.detector.folding import fold
from autofocus_jax.detector.model import Variables, detect
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.structures import Bucket, ChipBatch, DetectorOutput, Placement


class CompiledDetector:
    """A `detect` for the cascade: looks up the program of a batch's shape, and never traces while it runs.

    Batch norms that follow a convolution are folded into it, which changes the answers by float rounding alone.

    The cascade calls it from `concurrency` threads at once. A CPU runs the programs of one thread one after the other,
    which leaves cores idle. The third call keeps the cores busy while the thread of a finished batch waits for the GIL.

    Programs are compiled when their bucket is first used, or all at once by `warm_up`. `compilations` counts them;
    `traces` counts how often JAX really traced the detector.
    """

    concurrency = 3  # focus.cascade.Detect

    def __init__(
        self,
        config: Config,
        variables: Variables,
        devices: Sequence[jax.Device] | None = None,
        answer: Callable[[DetectorConfig, Variables, ChipBatch], DetectorOutput] = detect,
    ):
        """devices: each batch is split evenly over these, so that it must be a multiple of their number; by default
        the first one alone. parallel.spread makes buckets for several. answer: what is compiled; its N may be any.
        Raises BucketError for an uneven batch."""
        devices = jax.local_devices()[:1] if devices is None else devices
        for bucket in config.buckets:
            if bucket.batch % len(devices):
                raise BucketError(
                    f"batches of {bucket.batch} chips of {bucket.height}x{bucket.width} px do not split over "
                    f"{len(devices)} devices; use parallel.spread(config.buckets, {len(devices)})"
                )
        detector, folded = fold(config.detector, variables)
        self._fold = lambda variables: fold(config.detector, variables)[1]
        self.buckets: tuple[Bucket, ...] = config.buckets
        self._traced: list[tuple[int, ...]] = []  # shapes; shared by copies, which share the programs
        self._mesh = parallel.mesh(devices)
        self._far = devices[0].platform != "cpu"  # a CPU's arrays are the host's own; asking for copies takes time
        self._variables = parallel.replicate(folded, self._mesh)
        self._programs: dict[tuple[int, int, int], Callable] = {}
        self._compiling = threading.RLock()  # the cascade calls from several threads

        def traced(variables: Variables, chips: ChipBatch) -> DetectorOutput:
            self._traced.append(chips.pixels.shape)
            return answer(detector, variables, chips)

        self._detect = jax.jit(parallel.pmap(traced, self._mesh, replicated=(True, False)))

    @property
    def traces(self) -> int:
        return len(self._traced)

    @property
    def compilations(self) -> int:
        return len(self._programs)

    def using(self, variables: Variables) -> CompiledDetector:
        """The same programs, and those compiled later too, with other variables of the same shapes."""
        other = copy.copy(self)
        other._variables = parallel.replicate(self._fold(variables), self._mesh)
        return other

    def __call__(self, chips: ChipBatch, placements: Sequence[Placement] = ()) -> DetectorOutput:
        """Dispatches a batch of a bucket's shape; returns at once, with arrays that are still being computed.

        Raises BucketError for a shape that is no bucket's.
        """
        program = self._program(tuple(chips.pixels.shape[:3]))
        output = program(self._variables, parallel.split(chips, self._mesh))
        if self._far:
            for array in output:
                array.copy_to_host_async()
        return output

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compiles every bucket's program, several at a time, and runs it once, because the first run takes longer.

        Calls `progress` after each.
        """
        with self._compiling:
            self._compile_all(progress)

    def _compile_all(self, progress: Callable[[Bucket], None] | None) -> None:
        shapes = [(bucket.batch, bucket.height, bucket.width) for bucket in self.buckets]
        pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        try:
            # Tracing runs Python and stays in this thread; compiling does not.
            compiling = {
                shape: pool.submit(self._lowered(shape).compile) for shape in shapes if shape not in self._programs
            }
            for bucket, shape in zip(self.buckets, shapes):
                if shape in compiling:
                    self._programs[shape] = compiling[shape].result()
                    jax.block_until_ready(self(bucket_ops.pad([], bucket)))
                if progress is not None:
                    progress(bucket)
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for programs that nobody will run

    def _program(self, shape: tuple[int, ...]) -> Callable:
        ready = self._programs.get(shape)
        if ready is not None:  # without the lock, which is held while another program compiles
            return ready
        with self._compiling:
            if shape not in self._programs:
                batch, height, width = shape
                if Bucket(height, width, batch) not in self.buckets:
                    known = ", ".join(f"{b.batch}x{b.height}x{b.width}" for b in self.buckets)
                    raise BucketError(
                        f"a batch of {batch} chips of {height}x{width} px is no bucket's; Config.buckets has {known}"
                    )
                self._programs[shape] = self._lowered(shape).compile()
            return self._programs[shape]

    def _lowered(self, shape: tuple[int, ...]) -> jax.stages.Lowered:
        like = ChipBatch(
            jax.ShapeDtypeStruct((*shape, 3), np.uint8),
            jax.ShapeDtypeStruct((shape[0], 2), np.int32),
            jax.ShapeDtypeStruct(shape[:1], np.bool_),
        )
        return self._detect.lower(self._variables, parallel.split_like(like, self._mesh))


def compile_detector(
    config: Config, variables: Variables, devices: Sequence[jax.Device] | None = None
) -> CompiledDetector:
    """The detector of a config and its variables, ready to be passed to the cascade; as CompiledDetector."""
    return CompiledDetector(config, variables, devices)
