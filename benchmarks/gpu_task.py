"""What the sections of gpu.py share: their time, the settings that they measure, compiling for a given time."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig
from autofocus_jax.config.load import load_config
from autofocus_jax.detector.focus_network import FocusNetworkConfig
from autofocus_jax.inference.compiled import CompiledDetector
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

ROOT = Path(__file__).parent.parent
Rows = Iterator[dict[str, Any]]  # a row of the table by heading, as soon as it is measured

# The chip of a training, the buckets that hold every level, then each that saves most padding of the sample's chips:
# 104% more pixels than the chips have with the first four, 68% with five, 39% with eight.
FIRST = ((512, 512), (1408, 2000), (2000, 1408), (768, 1216), (624, 768), (1344, 1344), (576, 576), (368, 496))

TINY = DetectorConfig(
    num_classes=80, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(8, 16, 16, 16, 16), deformable_groups=2),
    anchors=AnchorConfig((1.0,), (16, 32)), rpn_channels=8, proposals_before_nms=32, proposals=8, roi_channels=8,
    roi_pooling="deformable", head_channels=16, focus_channels=8, pixel_deviation=(58.0, 58.0, 58.0),
)  # fmt: skip
TINY_SCALES = (
    Scale(48, 64, ValidRange(12, math.inf), ChipRule(0.2, 3, 32)), Scale(96, 128, ValidRange(0, 16), None),
)  # fmt: skip


def quick_to_compile() -> FocusNetworkConfig:
    """Return settings of a detector that compiles in a moment, for dry runs of what compiles most."""
    runpy.run_path(str(ROOT / "tests" / "detector" / "toy_backbone.py"))  # adds "toy" to BACKBONES
    network = BackboneConfig(kind="toy", channels=(8, 16, 16, 16, 16))
    return FocusNetworkConfig(1, network, focus_channels=8)


class Task(NamedTuple):
    """What a section is given."""

    small: bool  # a dry run of tiny settings
    begin: float  # time.monotonic()
    limit: float  # seconds, after which the section is ended
    folder: Path  # for its files; sections share it
    machine: list[dict[str, Any]]  # rows of the first section

    def at(self, share: float) -> float:
        """Return the moment at which this share of the limit is over."""
        return self.begin + share * self.limit

    def over(self, share: float) -> bool:
        """Return True if this share of the limit is over."""
        return time.monotonic() > self.at(share)

    def rounds(self, once: float, seconds: float, most: int) -> int:
        """Return how often to run what takes `once` seconds in order to take `seconds`; 2 to `most`, or 2 if small."""
        return 2 if self.small else max(2, min(most, int(seconds / max(once, 1e-9))))


def begin(
    function: Callable[[Task], Rows], small: bool, limit: float, folder: Path, machine: list[dict[str, Any]]
) -> Rows:
    """Begin a section now; its arguments are the fields of Task."""
    return function(Task(small, time.monotonic(), limit, folder, machine))


def paper(small: bool, dtype: str = "bfloat16") -> Config:
    """Return the paper's setting: configs/coco_r101.py, or one with a tiny detector and tiny scales.

    Buckets come in the order of FIRST, then the others.
    """
    config = load_config(ROOT / "configs" / "coco_r101.py")
    known = {(bucket.height, bucket.width): bucket for bucket in config.buckets}
    buckets = tuple(known.pop(side) for side in FIRST) + tuple(known.values())
    if small:
        training = dataclasses.replace(
            config.training, chip=64, max_boxes=10, roi_batch=8, rpn_batch=16, ranges=config.training.ranges[:2],
            proposals_kept=8, negative_chips=0,
        )  # fmt: skip
        config = dataclasses.replace(
            config, detector=TINY, scales=TINY_SCALES, training=training, focus_range=FocusRange(2, 16, 24), window=4
        )
        buckets = (Bucket(128, 128, 1),)
    return dataclasses.replace(config, detector=typed(config.detector, dtype), buckets=buckets)


def typed(detector: Any, dtype: str) -> Any:
    """Return settings of a detector that computes in this type."""
    return dataclasses.replace(detector, compute_dtype=dtype)


def compiled_until(
    detect: CompiledDetector, end: float, least: int, note: Callable[[Bucket], None] = lambda bucket: None
) -> tuple[Bucket, ...]:
    """Compile a detector's buckets in their order and return those that are ready at time.monotonic() `end`.

    Args:
        detect: the detector.
        end: when to begin no other.
        least: number of buckets to compile whatever the time.
        note: called after each bucket.
    """
    ready: list[Bucket] = []

    class Over(Exception):
        pass

    def done(bucket: Bucket) -> None:
        ready.append(bucket)
        note(bucket)
        if len(ready) >= least and time.monotonic() > end:
            raise Over

    with contextlib.suppress(Over):
        detect.warm_up(done)
    return tuple(ready)


def mean_seconds(task: Task, call: Callable[[], Any], seconds: float = 1.0, most: int = 50) -> float:
    """Return the seconds of a call among calls that follow one another without waiting, after one that warms up."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    count = task.rounds(time.perf_counter() - begin, seconds, most)
    begin = time.perf_counter()
    for _ in range(count):
        last = call()  # the answers before are freed, as they may be large
    jax.block_until_ready(last)  # a device works in order
    return (time.perf_counter() - begin) / count
