"""Sections of gpu.py: AutoFocus against the full pyramid, from files to detections, in two settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from coco_sample import Files, Sample
from forward import random_variables
from gpu_task import ROOT, Rows, Task, compiled_until, paper

from autofocus_jax.config import Config
from autofocus_jax.config.load import load_config
from autofocus_jax.detector.api import Variables
from autofocus_jax.focus.buckets import pad
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine, measure
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.metrics import voc
from autofocus_jax.scenes.rendering import CATEGORIES, render_part
from autofocus_jax.structures import Bucket, ChipBatch, Dataset, DetectorOutput, GroundTruth, ImageInfo, Placement
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables

ROWS = 0.09  # of RoIs times classes whose score passes the threshold, as in docs/benchmarks.md, "Host stages"
DEMO_BUCKETS = ((192, 192, 16), (256, 256, 16), (480, 640, 4), (640, 480, 4), (960, 1280, 1), (1280, 960, 1))


class PerfectFocus:
    """A compiled detector whose focus maps are the ground truth's; its own maps are computed and thrown away."""

    def __init__(self, detect: CompiledDetector, dataset: Dataset, config: Config):
        truths = [dataset.ground_truth(index) for index in range(len(dataset))]
        self.detect, self.concurrency = detect, detect.concurrency
        self.oracle = oracle_detect(truths, config.focus_range, config.detector.num_classes)

    def __call__(self, chips: ChipBatch, placements: Sequence[Placement]) -> DetectorOutput:
        return self.detect(chips, placements)._replace(focus=self.oracle(chips, placements).focus)


def quiet(variables: Variables, found: DetectorOutput, threshold: float) -> Variables:
    """Return variables whose background takes so much that a share ROWS of the scores passes the threshold.

    Random weights give every class about the same score. Stacking would then have 20 times the work of a trained
    detector.
    """
    scores = np.asarray(found.scores, np.float64).reshape(-1, found.scores.shape[-1])
    objects = scores.sum(axis=1, keepdims=True)
    low, high = -30.0, 60.0
    for _ in range(40):
        bias = (low + high) / 2
        share = (scores / (objects + (1 - objects) * np.exp(bias)) > threshold).mean()
        low, high = (bias, high) if share > ROWS else (low, bias)
    head = dict(variables["params"]["box_head"])
    logits = dict(head["logits"])
    logits["bias"] = np.array(logits["bias"]) + np.float32(high) * (np.arange(len(logits["bias"])) == 0)
    return {**variables, "params": {**variables["params"], "box_head": {**head, "logits": logits}}}


def run(dataset: Dataset, detect: Any, plan: Plan, count: int) -> engine.RunResult:
    """Return the result of a run over `count` images, the data set's over and over."""
    indices = [number % len(dataset) for number in range(count)]
    done = engine.run(dataset, indices, partial(engine.stream, detect=detect, plan=plan))
    if done.skipped or done.cost is None:
        raise OSError(f"{len(done.skipped)} of {count} images could not be read")
    return done


def row(name: str, done: engine.RunResult) -> dict[str, Any]:
    """Return the row of a run."""
    costs = measure.costs_of(done)
    stages = {f"{stage}, ms": 1e3 * value / len(done.indices) for stage, value in costs["seconds"].items()}
    return {"what": name, "images": len(done.indices), "images/s": costs["images_per_second"],
            "device busy": costs["device_busy"], "side": costs["side"],
            "padding": costs["padded_pixels_per_image"] / costs["pixels_per_image"] - 1,
            "chips": sum(costs["chips_per_image"]), **stages}  # fmt: skip


def ratio(rows: dict[str, dict]) -> dict[str, Any]:
    """Return the row that compares AutoFocus with the pyramid."""
    ours, whole = rows[measure.AUTOFOCUS], rows[measure.PYRAMID]
    pixels, speed = (whole["side"] / ours["side"]) ** 2, ours["images/s"] / whole["images/s"]
    return {"what": "ratio", "times fewer pixels": pixels, "times the images/s": speed, "of it": speed / pixels}


def in_turns(task: Task, dataset: Dataset, detect: Any, plan: Plan, seconds: float, first: int) -> Rows:
    """Run AutoFocus and the pyramid, each once to fill caches, and yield their rows and the ratio."""
    plans, rows = measure.rows(plan), {}
    for name in (measure.AUTOFOCUS, measure.PYRAMID):
        once = run(dataset, detect, plans[name], first)
        count = first if task.small else max(first, int(seconds * first / once.seconds))
        rows[name] = row(name, run(dataset, detect, plans[name], count))
        yield rows[name]
    yield ratio(rows)


def papers_setting(task: Task) -> Rows:
    """COCO's sizes, chips of perfect focus maps, random weights."""
    config = paper(task.small)
    folder = task.folder / "coco"
    folder.mkdir(exist_ok=True)
    dataset = Sample(2, shrink=4) if task.small else Sample()
    dataset.draw(folder)
    variables = random_variables(config.detector)
    detect = CompiledDetector(config, variables)
    ready = compiled_until(detect, task.at(0.5), least=5)
    yield {"what": f"{len(ready)} of {len(config.buckets)} buckets compiled in time"}
    bucket = ready[-1]
    random = np.random.default_rng(0)
    noise = pad([random.integers(0, 256, (bucket.height, bucket.width, 3), np.uint8)], bucket)
    found = detect(noise, [])
    variables = quiet(variables, found._replace(scores=np.asarray(found.scores)[:1]), config.stacking.score_threshold)
    plan = Plan.of(dataclasses.replace(config, buckets=ready))
    focused = PerfectFocus(detect.using(variables), dataset, config)
    left = max(1.0, task.at(0.85) - task.at(0.5))
    yield from in_turns(task, dataset, focused, plan, seconds=left / 4, first=len(dataset))


def demo(task: Task) -> Rows:
    """Rendered scenes, shipped weights, AP50 of PASCAL VOC's metric (COCO's needs pycocotools)."""
    config = load_config(ROOT / "configs" / "demo.py")
    config = dataclasses.replace(config, buckets=tuple(Bucket(*shape) for shape in DEMO_BUCKETS), window=64)
    if task.small:
        smaller = (dataclasses.replace(scale, min_side=scale.min_side // 4, max_side=scale.max_side // 4)
                   for scale in config.scales)  # fmt: skip
        config = dataclasses.replace(config, scales=tuple(smaller), buckets=(Bucket(320, 320, 1),))
    dataset = scenes(task, 2 if task.small else 100)
    detect = CompiledDetector(config, load_variables(safetensors.shipped(config.shipped), config))
    plans, rows = measure.rows(Plan.of(config)), {}
    for name in (measure.AUTOFOCUS, measure.PYRAMID):
        if not task.small:
            run(dataset, detect, plans[name], len(dataset))  # compiles what it needs
        done = run(dataset, detect, plans[name], len(dataset))
        scores = voc.evaluate(dataset, done.detections, done.indices)
        rows[name] = row(name, done)
        yield {"AP50": measure.points(scores)["AP50"], **rows[name]}
    yield ratio(rows)


def scenes(task: Task, count: int) -> Files:
    """Render the first images of the demo's `val` with threads."""
    folder = task.folder / "scenes"
    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda index: render_part(folder, 0, "val", range(index, index + 1)), range(count))
        records = [record for part in parts for record in part]
    infos = [ImageInfo(r["index"] + 1, f"{r['index']:06d}.jpg", r["height"], r["width"]) for r in records]
    truths = [
        GroundTruth(
            np.array(r["boxes"], np.float32).reshape(-1, 4),
            np.array(r["labels"], np.int32),
            np.array(r["ignore"], bool),
        )
        for r in records
    ]
    return Files(CATEGORIES, infos, truths, folder)
