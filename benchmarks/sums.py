"""What a GPU should do: arithmetic and bytes of each part of the paper's detector, and images/s at the paper's setting.

    python benchmarks/sums.py

Nothing is measured here. The chips are those of perfect focus maps on a sample of COCO's boxes, in the config's
buckets. A part takes the longer of two times: its FLOP at SHARE of the device's peak, its bytes at SHARE of the
memory's bandwidth. Sequential steps come on top. A multiplication and an addition are 2 FLOP. Padding is not
multiplied, as in XLA's own count. A layer reads its input and weights once and writes its output once. Element-wise
work is fused, and not counted.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from coco_sample import Sample

from autofocus_jax.config import BackboneConfig, Config, DetectorConfig
from autofocus_jax.config.load import load_config
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STRIDE, Bucket

SHARE = 0.5  # of the peak and of the bandwidth that programs reach; an assumption
ROUNDS = 10  # steps after which suppression by a matrix of overlaps no longer changes; an assumption
STEP = 25e-6  # seconds of one step of the loop of NMS: about five small kernels; an assumption
RATE = 300  # images/s, the aim
CORNERS, SAMPLES = 4, 4  # corners of a bilinear sample; samples of a bin of deformable pooling, each side


class Device(NamedTuple):
    """Peaks from NVIDIA's product pages and data sheets: dense products, memory, one direction of the PCIe x16 slot."""

    flops: float
    bandwidth: float  # bytes/s
    slot: float  # bytes/s
    itemsize: int  # of the type that the peak is for


DEVICES = {
    "Titan X (Pascal), float32": Device(11e12, 480e9, 15.75e9, 4),
    "H100 SXM, bfloat16": Device(989e12, 3.35e12, 63e9, 2),
    "H200, bfloat16": Device(989e12, 4.8e12, 63e9, 2),
}


class Part(NamedTuple):
    """Work on one chip, but for `weights` and `steps`, which a batch has once."""

    flops: float = 0.0
    values: float = 0.0  # read and written, in numbers of the type of the computation
    weights: float = 0.0  # read, numbers
    steps: int = 0  # one after the other

    def __add__(self, other: Part) -> Part:  # type: ignore[override]
        return Part(*(a + b for a, b in zip(self, other)))

    def seconds(self, device: Device, batch: int) -> float:
        """Return the time of one chip in a batch."""
        moved = (self.values + self.weights / batch) * device.itemsize
        longer = max(self.flops / device.flops, moved / device.bandwidth) / SHARE
        return longer + self.steps * STEP / batch

    def bound(self, device: Device, batch: int) -> str:
        """Return what bounds it: arithmetic, memory or steps."""
        moved = (self.values + self.weights / batch) * device.itemsize
        times = {"arithmetic": self.flops / device.flops / SHARE, "memory": moved / device.bandwidth / SHARE,
                 "steps": self.steps * STEP / batch}  # fmt: skip
        return max(times, key=lambda name: times[name])


def taps(cells: int, kernel: int, stride: int = 1, dilation: int = 1) -> int:
    """Return how many taps of a line's convolution lie inside, summed over its answers; equal padding on both sides."""
    starts = range(-dilation * (kernel // 2), cells + dilation * (kernel // 2) - dilation * (kernel - 1), stride)
    return sum(0 <= start + dilation * tap < cells for start in starts for tap in range(kernel))


def convolution(height: int, width: int, inputs: int, outputs: int, kernel=1, stride=1, dilation=1) -> Part:
    """Return the work of a square convolution of a map [height, width, inputs]."""
    places = taps(height, kernel, stride, dilation) * taps(width, kernel, stride, dilation)
    values = height * width * inputs + -(-height // stride) * -(-width // stride) * outputs
    return Part(2 * places * inputs * outputs, values, kernel**2 * inputs * outputs)


def dense(rows: int, inputs: int, outputs: int) -> Part:
    """Return the work of a fully connected layer on `rows` vectors."""
    return Part(2 * rows * inputs * outputs, rows * (inputs + outputs), inputs * outputs)


def sampling(height: int, width: int, channels: int) -> Part:
    """Return the work of the nine bilinear samples a cell of a deformable convolution, written before the product."""
    samples = 9 * height * width * channels
    return Part(2 * CORNERS * samples, (CORNERS + 1) * samples)


def backbone(config: BackboneConfig, height: int, width: int) -> dict[str, Part]:
    """Return the work of stem and stages on one chip (pre-activation ResNet, norms folded)."""
    channels, *stages = config.channels
    found = {"stem": convolution(height, width, 3, channels, 7, 2)}
    h, w, deformable = height // 4, width // 4, Part()
    for stage, (units, outputs) in enumerate(zip(config.units, stages), 1):
        total, middle = Part(), outputs // 4
        for unit in range(units):
            stride = 2 if unit == 0 and stage in (2, 3) else 1
            dilation = config.dilation if stage == 4 else 1
            total += convolution(h, w, channels, middle)
            if unit == 0:
                total += convolution(h // stride, w // stride, channels, outputs)
            second = convolution(h, w, middle, middle, 3, stride, dilation)
            if stage == 4 and config.deformable_groups:
                offsets = convolution(h, w, middle, 18 * config.deformable_groups, 3, 1, dilation)
                product = dense(9 * h * w, middle, middle)
                deformable += offsets + sampling(h, w, middle) + product
            else:
                total += second
            h, w = h // stride, w // stride
            total += convolution(h, w, middle, outputs)
            channels = outputs
        found[f"stage {stage}"] = total
    return found | ({"deformable 3x3 of stage 4": deformable} if config.deformable_groups else {})


def patch(cells: int, size: int) -> int:
    """Return the cells along a side that pooling by cells visits for each bin (detector/deformable_pool.py)."""
    return min(cells, math.ceil((cells + 1 / STRIDE) / size * (SAMPLES - 1) / SAMPLES) + 2)


def pooling(config: DetectorConfig, height: int, width: int, form: str) -> Part:
    """Return the work of one pass of deformable RoI pooling over a map of height x width cells.

    Args:
        config: the detector.
        height: rows of the map.
        width: columns of the map.
        form: "cells" visits every cell that a bin may touch, "samples" the corners of its 16 samples, "products"
            multiplies the weights of all cells.
    """
    answers = config.proposals * config.roi_size**2
    channels, cells = config.roi_channels, height * width
    if form == "products":
        return Part(2 * answers * cells * channels, answers * (cells + channels) + cells * channels)
    visits = SAMPLES**2 * CORNERS
    if form == "cells":
        visits = patch(height, config.roi_size) * patch(width, config.roi_size)
    return Part(2 * answers * visits * channels, answers * channels * (visits + 1))


def parts(
    config: DetectorConfig, height: int, width: int, form: str = "cells", batched: bool = False
) -> dict[str, Part]:
    """Return the work of every part of the detector on one chip of height x width px.

    Args:
        config: the detector.
        height: of the bucket, px.
        width: of the bucket, px.
        form: of RoI pooling (`pooling`).
        batched: count NMS as a matrix of overlaps and ROUNDS steps on it instead of a step a proposal.
    """
    found = backbone(config.backbone, height, width)
    h, w, seen = height // STRIDE, width // STRIDE, sum(config.backbone.channels[-2:])
    anchors = len(config.anchors.ratios) * len(config.anchors.sizes)
    rpn, focus = config.rpn_channels, config.focus_channels
    found["RPN"] = convolution(h, w, seen, rpn, 3) + convolution(h, w, rpn, 6 * anchors)
    found["focus head"] = (
        convolution(h, w, seen, focus, 3) + convolution(h, w, focus, focus) + convolution(h, w, focus, 2)
    )
    best, kept = min(config.proposals_before_nms, h * w * anchors), config.proposals
    overlaps = best * (best if batched else kept)
    # 14 FLOP an overlap. A step of the loop reads the 4 float32 of every box, a round the matrix of bits.
    values = ROUNDS * overlaps / 16 if batched else 8 * overlaps
    found["NMS"] = Part(14 * overlaps, values, 0, ROUNDS if batched else kept)
    bins = config.roi_size**2
    both = 2 if config.roi_pooling == "deformable" else 1
    pooled = pooling(config, h, w, form)
    found["RoI pooling"] = pooled if both == 1 else pooled + pooled
    head = convolution(h, w, seen, config.roi_channels)
    head += dense(kept, bins * config.roi_channels, config.head_channels)
    head += dense(kept, config.head_channels, config.head_channels)
    head += dense(kept, config.head_channels, config.num_classes + 5)
    if both == 2:
        head += dense(kept, bins * config.roi_channels, 2 * bins)
    found["box head"] = head
    return found


class Work(NamedTuple):
    """Mean work of one image of the sample."""

    chips: dict[Bucket, float]  # an image
    parts: dict[Bucket, dict[str, Part]]

    @property
    def padded(self) -> float:
        """Return the pixels of the buckets, an image."""
        return sum(count * bucket.height * bucket.width for bucket, count in self.chips.items())

    def seconds(self, device: Device) -> dict[str, float]:
        """Return the seconds an image of each part, in full batches."""
        total: Counter[str] = Counter()
        for bucket, count in self.chips.items():
            for name, part in self.parts[bucket].items():
                total[name] += count * part.seconds(device, bucket.batch)
        return dict(total)

    def total(self) -> dict[str, Part]:
        """Return the work an image of each part; the weights and steps are a chip's share of its batch."""
        found: dict[str, Part] = {}
        for bucket, count in self.chips.items():
            for name, part in self.parts[bucket].items():
                share = part._replace(weights=part.weights / bucket.batch, steps=part.steps / bucket.batch)
                found[name] = found.get(name, Part()) + Part(*(count * value for value in share))
        return found


class Chips(NamedTuple):
    """Chips of a sample, an image."""

    buckets: dict[Bucket, float]
    pixels: float  # without padding


def chips_of(config: Config, plan: Plan, sample: Sample) -> Chips:
    """Return the chips that perfect focus maps make under a plan, in the plan's buckets."""
    chips: Counter[Bucket] = Counter()
    pixels = 0
    for index in range(len(sample)):
        info, truth = sample.info(index), sample.ground_truth(index)
        for scale in oracle_chips((info.height, info.width), truth, plan, config.focus_range):
            buckets, sizes = plan.fit(scale.sizes)
            chips.update(buckets)
            pixels += int(sizes.prod(axis=1).sum())
    return Chips({bucket: number / len(sample) for bucket, number in chips.items()}, pixels / len(sample))


def work(config: Config, chips: Chips, **forms) -> Work:
    """Return the work on chips; `forms` are those of `parts`."""
    found = {bucket: parts(config.detector, bucket.height, bucket.width, **forms) for bucket in chips.buckets}
    return Work(chips.buckets, found)


def by_part(ours: Work, others: Work, device: Device) -> Iterator[str]:
    """Yield the lines of the table of parts: with the forms of a GPU, and the times of those of a CPU."""
    yield "| part | GFLOP an image | MB an image | bound on an H200 by | ms an image there | ms with a CPU's forms |"
    yield "|---|---|---|---|---|---|"
    seconds, other, total = ours.seconds(device), others.seconds(device), ours.total()
    for name, part in total.items():
        moved = (part.values + part.weights) * device.itemsize / 1e6
        times = f"{1e3 * seconds[name]:.2f} | {1e3 * other[name]:.2f}"
        yield f"| {name} | {part.flops / 1e9:.1f} | {moved:.0f} | {part.bound(device, 1)} | {times} |"
    flops = sum(part.flops for part in total.values()) / 1e9
    yield f"| all | {flops:.0f} | | | {1e3 * sum(seconds.values()):.2f} | {1e3 * sum(other.values()):.2f} |"


def by_device(works: Sequence[Work]) -> Iterator[str]:
    """Yield the lines of the table of images/s."""
    yield "| images/s to expect | AutoFocus | AutoFocus, a CPU's forms | pyramid | pyramid, a CPU's forms |"
    yield "|---|---|---|---|---|"
    for name, device in DEVICES.items():
        speeds = (1 / sum(made.seconds(device).values()) for made in works)
        yield f"| {name} | {' | '.join(f'{speed:.1f}' for speed in speeds)} |"


def by_transfer(ours: Work, sample: Sample, config: Config, slot: float) -> Iterator[str]:
    """Yield the lines of the table of bytes over PCIe."""
    raw = sum(info.height * info.width for info in map(sample.info, range(len(sample)))) / len(sample)
    answers = config.detector.proposals * (config.detector.num_classes + 4) * 4
    rows = {"chips, padded, uploaded": 3 * ours.padded, "whole images uploaded, chips cut on the device": 3 * raw,
            "answers downloaded, float32": sum(ours.chips.values()) * answers}  # fmt: skip
    yield f"| at {RATE} images/s | MB an image | GB/s | of PCIe 5 x16 |"
    yield "|---|---|---|---|"
    for name, size in rows.items():
        yield f"| {name} | {size / 1e6:.2f} | {RATE * size / 1e9:.2f} | {RATE * size / slot:.1%} |"


def main() -> None:
    config = load_config(Path(__file__).parent.parent / "configs" / "coco_r101.py")
    sample, plan, h200 = Sample(), Plan.of(config), DEVICES["H200, bfloat16"]
    ours, whole = chips_of(config, plan, sample), chips_of(config, plan.pyramid(), sample)
    gpu = {"form": "products", "batched": True}
    works = [work(config, chips, **forms) for chips in (ours, whole) for forms in (gpu, {})]
    print("\n".join(by_part(*works[:2], h200)), end="\n\n")
    print("\n".join(by_device(works)), end="\n\n")
    print("\n".join(by_transfer(works[0], sample, config, h200.slot)), end="\n\n")
    for name, chips, made in (("AutoFocus", ours, works[0]), ("pyramid", whole, works[2])):
        count, side, padded = sum(chips.buckets.values()), math.sqrt(chips.pixels), math.sqrt(made.padded)
        print(f"{name}: {count:.2f} chips an image, side {side:.0f}, padded {padded:.0f}")


if __name__ == "__main__":
    main()
