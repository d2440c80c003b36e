"""Sections of gpu.py: a step of training, compiling all buckets, and the golden arrays of the authors' network."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time

import jax
from forward import random_variables
from gpu_task import ROOT, Rows, Task, compiled_until, paper, quick_to_compile, typed
from training import Program, random_batch

from autofocus_jax.config import Config
from autofocus_jax.inference.compiled import CompiledDetector

sys.path.append(str(ROOT / "tests" / "detector"))

import golden_cases


def _settings(task: Task) -> Config:
    config = paper(task.small)
    return dataclasses.replace(config, detector=typed(quick_to_compile(), "bfloat16")) if task.small else config


def training(task: Task) -> Rows:
    """Steps on noise: chips/s, and the memory of the compiled step (arguments, results, temporary arrays)."""
    count = 2 if task.small else 16
    config = _settings(task)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch=count))
    program = Program(config, jax.device_put(random_batch(config, count)))
    while len(program.times) < (2 if task.small else 30) and not (len(program.times) > 2 and task.over(0.85)):
        program.run()
    seconds = statistics.median(program.times[1:])
    yield {"type": "bfloat16", "batch": count, "chips/s": count / seconds, "s a step": seconds,
           "GB": program.memory / 1e9, "compiled s": program.compiling,
           "TFLOP/s by XLA's count": program.flops / seconds / 1e12}  # fmt: skip


def compiling(task: Task) -> Rows:
    """All buckets with four threads, in this process and cache of programs, both of which gpu.py chooses."""
    config = _settings(task)
    detect = CompiledDetector(config, random_variables(config.detector))
    begin, seconds = time.perf_counter(), []
    ready = compiled_until(detect, task.at(0.55), 1, lambda bucket: seconds.append(time.perf_counter() - begin))
    yield {"buckets": f"{len(ready)} of {len(config.buckets)}", "programs": detect.compilations,
           "first bucket ready after, s": seconds[0], "all of these after, s": seconds[-1]}  # fmt: skip


def golden(task: Task) -> Rows:
    """Largest errors against golden arrays, in standard deviations of the array; the CPU's float32 promises 2e-3."""
    if task.small:
        for name, error in golden_cases.torchvision_errors((3, 1, 1, 1), stages=1).items():
            yield {"type": "float32", "array": f"torchvision, {name}", "error": error}
        return
    arrays, variables = golden_cases.sniper_golden(), golden_cases.sniper_variables()
    chips = golden_cases.sniper_chips(arrays)
    for dtype, precision in (("float32", "default"), ("float32", "highest"), ("bfloat16", "default")):
        with jax.default_matmul_precision(precision):
            maps = golden_cases.sniper_maps(variables, chips, dtype)
            errors = golden_cases.map_errors(arrays, maps)
            errors |= golden_cases.head_errors(arrays, variables, maps, dtype)
        for name, error in errors.items():
            yield {"type": dtype, "precision": precision, "array": name, "error": error}
