"""How long a step of training takes, and what memory and arithmetic it needs.

    python benchmarks/training.py --config configs/coco_r101.py --batch 1 --dtype float32
    chrt -r 1 python benchmarks/training.py --config configs/demo.py --batch 16 --dtype float32 bfloat16

Chips are noise with boxes at random; weights are random. Several types run in turns in one process, so that each pair
of steps sees the same machine; times are medians. "Program" is the memory that the compiled step asks for: its
arguments, results and temporaries. "FLOP" are XLA's own count (compiled.cost_analysis), which counts the body of a loop
once, as in the gradient of the deformable parts: a fraction of the peak is therefore a lower bound. The peak is the
device's for dense products, of bfloat16 or, for float32, of TF32; `--peak` gives that of a device that PEAKS does not
know, and on a CPU there is no fraction without it.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.config import Config
from autofocus_jax.config.load import load_config
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.machine import heap
from autofocus_jax.structures import STRIDE, AutoFocusError, ChipBatch, TrainBatch, TrainState
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import make_step

BOXES = 8  # objects of a chip
# TFLOP/s of dense products by a part of the device's name, from NVIDIA's data sheets; the first that fits counts.
PEAKS = {"H200": {"bfloat16": 989.0, "float32": 494.0}, "H100": {"bfloat16": 989.0, "float32": 494.0},
         "A100": {"bfloat16": 312.0, "float32": 156.0}}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    config: Path = Path(__file__).parent.parent / "configs" / "coco_r101.py"
    batch: int = 1
    """chips a step"""
    dtype: tuple[str, ...] = ("float32",)
    """of convolutions and fully connected layers; one or both of float32, bfloat16"""
    rounds: int = 3
    """timed steps of each type, after one that warms up"""
    peak: float | None = None
    """of the device, TFLOP/s"""


def random_batch(config: Config, count: int) -> TrainBatch:
    """Noise of training.chip px with BOXES trainable objects a chip."""
    random, training = np.random.default_rng(0), config.training
    side, capacity = training.chip, training.max_boxes
    corner, length = random.uniform(0, side / 2, (2, count, capacity, 2))
    boxes = np.concatenate([corner, corner + np.maximum(length, STRIDE)], axis=2).astype(np.float32)
    present = np.tile(np.arange(capacity) < BOXES, (count, 1))
    chips = ChipBatch(
        random.integers(0, 256, (count, side, side, 3), np.uint8), np.full((count, 2), side, np.int32),
        np.ones(count, bool),
    )  # fmt: skip
    labels = random.integers(0, config.detector.num_classes, (count, capacity)).astype(np.int32)
    focus = random.integers(-1, 2, (count, side // STRIDE, side // STRIDE)).astype(np.int8)
    return TrainBatch(chips, boxes, labels, present, present, focus)


def random_state(config: Config) -> TrainState:
    """What training.step.initial_state gives, without compiling the drawing of the parameters."""
    random = np.random.default_rng(0)

    def draw(path, like):
        kind = path[-1].key
        if kind == "kernel":
            deviation = np.sqrt(1 / np.prod(like.shape[:-1]))
            return jnp.asarray(random.standard_normal(like.shape, np.float32) * np.float32(deviation))
        return jnp.full(like.shape, 1.0 if kind in ("scale", "var") else 0.0)

    shapes = jax.eval_shape(detector_of(config.detector).init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    params, statistics = variables["params"], variables["batch_stats"]
    ema = jax.tree.map(jnp.array, params) if config.training.ema else None
    moments = optimizer(config).init(params)
    return TrainState(jnp.int32(0), params, statistics, moments, jax.random.key(0), ema)


def peak_flops(dtype: str, given: float | None) -> float | None:
    """FLOP/s that the device can do; None where nobody knows."""
    if given is not None:
        return given * 1e12
    name = jax.devices()[0].device_kind
    known = next((peaks for part, peaks in PEAKS.items() if part in name), {})
    return known[dtype] * 1e12 if dtype in known else None


def peak_memory() -> tuple[int, str]:
    """The largest memory in use so far, in bytes, and of what."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak, "process, compiling included"


class Program:
    """A compiled step of one type and the state that it goes on from."""

    def __init__(self, config: Config, batch: TrainBatch):
        self.state, self.batch = random_state(config), batch
        start = time.perf_counter()
        step = jax.jit(make_step(config, optimizer(config)), donate_argnums=0)
        self.step = step.lower(self.state, batch).compile()
        self.compiling = time.perf_counter() - start
        memory = self.step.memory_analysis()
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        self.memory = held + memory.temp_size_in_bytes
        self.flops = self.step.cost_analysis().get("flops", 0.0)
        self.times: list[float] = []

    def run(self) -> None:
        """One step, timed. Raises AutoFocusError when its loss is not finite: then nothing was measured."""
        start = time.perf_counter()
        self.state, info = self.step(self.state, self.batch)
        loss = float(info["loss"])
        self.times.append(time.perf_counter() - start)
        if not np.isfinite(loss):
            raise AutoFocusError(f"the loss is {loss} after {len(self.times)} steps on noise; not measured")


def main(options: Options) -> None:
    from rich import box  # gpu.py does without
    from rich.console import Console
    from rich.table import Table

    if options.batch < 1 or options.rounds < 1 or not options.dtype:
        raise AutoFocusError(f"batch {options.batch}, rounds {options.rounds}; want at least 1, and a type")
    config = load_config(options.config)
    heap.share_one()  # as train.py does
    heap.keep_freed()
    parallel.cache_compilations()
    batch = random_batch(config, options.batch)
    programs = {}
    for dtype in options.dtype:
        detector = dataclasses.replace(config.detector, compute_dtype=dtype)
        training = dataclasses.replace(config.training, batch=options.batch)
        own = dataclasses.replace(config, detector=detector, training=training)
        programs[dtype] = Program(own, jax.device_put(batch))
    for _ in range(1 + options.rounds):
        for program in programs.values():
            program.run()
    device = jax.devices()[0].device_kind
    title = f"{config.name}, {options.batch} chips of {config.training.chip} px, {device}, {options.rounds} rounds"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("type", "s/step", "chips/s", "program GB", "TFLOP/step", "TFLOP/s", "of peak", "compiled s"):
        table.add_column(heading, justify="right")
    for dtype, program in programs.items():
        seconds, peak = statistics.median(program.times[1:]), peak_flops(dtype, options.peak)
        speed = program.flops / seconds
        table.add_row(
            dtype, f"{seconds:.3f}", f"{options.batch / seconds:.2f}", f"{program.memory / 1e9:.2f}",
            f"{program.flops / 1e12:.3f}", f"{speed / 1e12:.3f}", "-" if peak is None else f"{speed / peak:.1%}",
            f"{program.compiling:.0f}",
        )  # fmt: skip
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(table)
    if len(programs) > 1:
        first, *others = options.dtype
        for other in others:
            pairs = [a / b for a, b in zip(programs[first].times[1:], programs[other].times[1:])]
            console.print(f"{other} is {statistics.median(pairs):.2f} times as fast as {first} (median of pairs)")
    memory, where = peak_memory()
    console.print(f"peak memory ({where}): {memory / 1e9:.2f} GB")


if __name__ == "__main__":
    import tyro

    try:
        main(tyro.cli(Options, description=__doc__))
    except (AutoFocusError, OSError) as error:
        sys.exit(str(error))
