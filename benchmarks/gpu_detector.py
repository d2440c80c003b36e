"""Sections of gpu.py: what the machine can do, and the paper's detector on it, by bucket, by part, and in PyTorch."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import partial
from typing import Any

import forward
import jax
import jax.numpy as jnp
import numpy as np
import sums
from gpu_task import Rows, Task, compiled_until, mean_seconds, paper

from autofocus_jax.config import Config
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.structures import Bucket, ChipBatch


def machine(task: Task) -> Rows:
    """Device and versions, large matrix products, a copy on the device, copies to and from it."""
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    yield {"what": "device", "value": f"{len(jax.devices())} x {device.device_kind} ({device.platform})"}
    yield {"what": "host", "value": f"{os.cpu_count()} cores, Python {platform.python_version()}"}
    yield {"what": "versions", "value": f"jax {jax.__version__}, {device.client.platform_version.splitlines()[0]}"}
    yield {"what": "memory that JAX may use, GB", "value": None if limit is None else limit / 1e9}
    side = 128 if task.small else 8192
    for dtype, precision in (("bfloat16", None), ("float32", None), ("float32", "highest")):
        a = jnp.ones((side, side), dtype)
        with jax.default_matmul_precision(precision or "default"):
            multiply = jax.jit(jnp.matmul).lower(a, a).compile()
        speed = 2 * side**3 / mean_seconds(task, partial(multiply, a, a)) / 1e12
        name = dtype if precision is None else f"{dtype}, {precision} precision"
        yield {"what": f"matrix product, {name}, TFLOP/s", "value": speed}
    values = jnp.zeros((1 if task.small else 512) * 2**20, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    yield {"what": "copy on the device, GB/s read and written",
           "value": 2 * values.nbytes / mean_seconds(task, partial(copy, values), most=20) / 1e9}  # fmt: skip
    here = np.zeros((1 if task.small else 64) * 2**20, np.float32)
    yield {"what": "to the device, GB/s",
           "value": here.nbytes / mean_seconds(task, partial(jax.device_put, here), most=10) / 1e9}  # fmt: skip
    fresh = [jnp.ones_like(here) + number for number in range(3)]  # an array keeps what was fetched of it
    jax.block_until_ready(fresh)
    fetched = iter(fresh)
    seconds = min(forward.seconds(lambda: np.asarray(next(fetched))) for _ in fresh)
    yield {"what": "from the device, GB/s", "value": here.nbytes / seconds / 1e9}


def product(rows: Sequence[dict], dtype: str) -> float | None:
    """Return the TFLOP/s of the matrix product in this type that `machine` found; None if it was not reached."""
    return next((row["value"] for row in rows if row["what"] == f"matrix product, {dtype}, TFLOP/s"), None)


def by_bucket(task: Task) -> Rows:
    """The compiled detector on chips that are on the device, bucket by bucket, with its fraction of the product."""
    types = (("bfloat16", 0.4, 0.7), ("float32", 0.75, 0.95))
    for dtype, compiling, end in types[:1] if task.small else types:
        config = paper(task.small, dtype)
        detect = CompiledDetector(config, forward.random_variables(config.detector))
        peak, first = product(task.machine, dtype), config.buckets[0]
        yield {"type": dtype, **speed(task, detect, config, first, peak)}  # before the others are there
        for bucket in compiled_until(detect, task.at(compiling), least=1)[1:]:
            if not task.over(end):
                yield {"type": dtype, **speed(task, detect, config, bucket, peak)}


def speed(task: Task, detect: CompiledDetector, config: Config, bucket: Bucket, peak: float | None) -> dict[str, Any]:
    """Return the row of a bucket; `peak` is that of the matrix product, TFLOP/s."""
    height, width, batch = bucket.height, bucket.width, bucket.batch
    pixels = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    chips = ChipBatch(pixels, np.full((batch, 2), (height, width), np.int32), np.ones(batch, bool))
    seconds = mean_seconds(task, partial(detect, jax.device_put(chips)), seconds=0.5)
    flops = batch * sum(part.flops for part in sums.parts(config.detector, height, width).values()) / seconds / 1e12
    return {"bucket": f"{batch} x {height} x {width}", "chips/s": batch / seconds,
            "Mpx/s": batch * height * width / seconds / 1e6, "ms a batch": 1e3 * seconds, "TFLOP/s": flops,
            "of the product": None if peak is None else flops / peak}  # fmt: skip


def _row(row: forward.Row, detector: float | None = None) -> dict:
    share = {} if detector is None else {"of the detector": detector / row.speed}
    ratio = {} if row.ratio is None else {"times PyTorch": row.ratio}
    return {"what": row.what, "batch": row.batch, "images/s": row.speed, **share, **ratio}


def by_part(task: Task) -> Rows:
    """The parts of the detector apart, in bfloat16: RPN, NMS, RoI pooling, and what deformable layers add."""
    config = paper(task.small)
    bucket = config.buckets[0] if task.small else Bucket(512, 512, 10)
    options = forward.Options(
        bucket.height, (bucket.batch,), 1 if task.small else 10, torch=False, one_by_one=False, compute_dtype="bfloat16"
    )
    whole = CompiledDetector(config, forward.random_variables(config.detector))
    fastest = None
    for row in forward.shares(options, config.detector, whole):
        fastest = fastest or row.speed  # the first is the whole
        yield _row(row, fastest)
    features = {}
    for row in forward.compare_features(options, config.detector, forward.FORMS[1:]):
        features[row.what] = 1 / row.speed
        yield _row(row, fastest)
    more = features["features, deformable, folded"] - features["features, folded"]
    yield {"what": "deformable layers, the difference", "batch": bucket.batch, "of the detector": more * fastest}


def in_pytorch(task: Task) -> Rows:
    """The same plain features in PyTorch, compiled, in turns with ours."""
    try:
        import torch
    except ImportError:
        yield {"what": "PyTorch is not installed here"}
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, batch, rounds = (64, 2, 1) if task.small else (512, 10, 10)
    for dtype in ("bfloat16", "float32"):
        options = forward.Options(side, (batch,), rounds, one_by_one=False, compute_dtype=dtype, torch_device=device)
        for row in forward.compare_features(options, paper(task.small, dtype).detector, forward.FORMS[:2]):
            place = device if "PyTorch" in row.what else jax.devices()[0].platform
            yield {"type": dtype, "on": place, **_row(row)}
