"""The detector compiled ahead of time, one program per bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.config import Config
from autofocus_jax.detector.model import Variables, detect
from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.structures import Bucket, ChipBatch, DetectorOutput, Placement


class CompiledDetector:
    """A `detect` for the cascade: looks up the program of a batch's shape, and never traces while it runs.

    Programs are compiled when their bucket is first used, or all at once by `warm_up`. `compilations` counts them;
    `traces` counts how often JAX really traced the detector.
    """

    def __init__(self, config: Config, variables: Variables, devices: Sequence[jax.Device] | None = None):
        """devices: each batch is split evenly over these, so that it must be a multiple of their number; by default
        the first one alone. parallel.spread makes buckets for several. Raises BucketError for an uneven batch."""
        devices = jax.local_devices()[:1] if devices is None else devices
        for bucket in config.buckets:
            if bucket.batch % len(devices):
                raise BucketError(
                    f"batches of {bucket.batch} chips of {bucket.height}x{bucket.width} px do not split over "
                    f"{len(devices)} devices; use parallel.spread(config.buckets, {len(devices)})"
                )
        self.buckets: tuple[Bucket, ...] = config.buckets
        self.traces = 0
        self._mesh = parallel.mesh(devices)
        self._variables = parallel.replicate(variables, self._mesh)
        self._programs: dict[tuple[int, int, int], Callable] = {}

        def traced(variables: Variables, chips: ChipBatch) -> DetectorOutput:
            self.traces += 1
            return detect(config.detector, variables, chips)

        self._detect = jax.jit(parallel.pmap(traced, self._mesh, replicated=(True, False)))

    @property
    def compilations(self) -> int:
        return len(self._programs)

    def __call__(self, chips: ChipBatch, placements: Sequence[Placement] = ()) -> DetectorOutput:
        """Dispatches a batch of a bucket's shape; returns at once, with arrays that are still being computed.

        Raises BucketError for a shape that is no bucket's.
        """
        program = self._program(tuple(chips.pixels.shape[:3]))
        output = program(self._variables, parallel.split(chips, self._mesh))
        for array in output:
            array.copy_to_host_async()
        return output

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compiles every bucket's program; calls `progress` after each."""
        for bucket in self.buckets:
            self._program((bucket.batch, bucket.height, bucket.width))
            if progress is not None:
                progress(bucket)

    def _program(self, shape: tuple[int, ...]) -> Callable:
        if shape not in self._programs:
            batch, height, width = shape
            if Bucket(height, width, batch) not in self.buckets:
                known = ", ".join(f"{b.batch}x{b.height}x{b.width}" for b in self.buckets)
                raise BucketError(
                    f"a batch of {batch} chips of {height}x{width} px is no bucket's; Config.buckets has {known}"
                )
            like = ChipBatch(
                jax.ShapeDtypeStruct((batch, height, width, 3), np.uint8),
                jax.ShapeDtypeStruct((batch, 2), np.int32),
                jax.ShapeDtypeStruct((batch,), np.bool_),
            )
            self._programs[shape] = self._detect.lower(self._variables, parallel.split_like(like, self._mesh)).compile()
        return self._programs[shape]


def compile_detector(
    config: Config, variables: Variables, devices: Sequence[jax.Device] | None = None
) -> CompiledDetector:
    """The detector of a config and its variables, ready to be passed to the cascade; as CompiledDetector."""
    return CompiledDetector(config, variables, devices)
