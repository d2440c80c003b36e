"""Made-up inputs of the host stages at COCO's setting: what the three scales of one image would hand to the host.

The objects are drawn (sizes, counts and class frequencies as in COCO) or read from annotations. Focus maps are the
labels of section 4.1, blurred, with noise in their logits. A chip has 300 RoIs: bundles of them around the objects that
it shows, as class-agnostic regression leaves them, the rest anywhere; their scores are softmaxes over 81 classes with
few large logits, classes that resemble each other, and background that takes nearly all elsewhere. The regions of a
scale come from the maps of the one before by the program itself, so chips per image follow from the maps.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config
from autofocus_jax.data.coco import CocoDataset
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.chips import focus_chips, whole_pixels
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.stacking import ScaleDetections, project
from autofocus_jax.structures import FOCUS, IGNORE, Detections, FocusRange, GroundTruth, Placement

SIZES = ((480, 640), (427, 640), (426, 640), (640, 480), (640, 427), (375, 500), (500, 375), (640, 640), (333, 500))
LIKE = 6  # classes that resemble a class
_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class FocusMap(NamedTuple):
    """The focus map of one chip, as the cascade hands it to a chip rule."""

    focus: np.ndarray  # [h, w] float32, cells
    size: tuple[int, int]  # (height, width) of the chip, px
    box: np.ndarray  # [4] the chip, image frame


class HostImage(NamedTuple):
    """What the scales of one image leave to the host."""

    size: tuple[int, int]  # (height, width), image px
    maps: tuple[tuple[FocusMap, ...], ...]  # of every scale but the last
    found: tuple[ScaleDetections, ...]  # of every scale, all rows above the score threshold


def to_image(chips: np.ndarray, source: FocusMap) -> np.ndarray:
    """Chips [n, 4] in the frame of the chip that predicted them -> [m, 4] int32 whole px of the image, disjoint."""
    height, width = source.size
    x1, y1, x2, y2 = source.box.tolist()
    scale = np.array([(x2 - x1) / width, (y2 - y1) / height] * 2)
    return whole_pixels(chips * scale + np.array([x1, y1, x1, y1]))


def draw_objects(random: np.random.Generator, classes: int, crowd: int = 1) -> tuple[tuple[int, int], GroundTruth]:
    """(height, width) of an image and its objects: COCO's numbers, 41% below 32 px, 24% above 96, few classes each.

    crowd: times as many objects, with sides divided by its square root.
    """
    size = SIZES[random.integers(len(SIZES))]
    count = crowd * min(60, int(random.lognormal(1.6, 0.95)))
    frequency = 1 / np.arange(3, classes + 3)
    frequency[0] = 0.45 * frequency.sum()  # people
    present = random.choice(classes, 1 + random.poisson(1.5), p=frequency / frequency.sum())
    side, shape = random.lognormal(3.74, 1.18, count) / np.sqrt(crowd), np.exp(random.normal(0, 0.45, count))
    sides = np.clip(np.stack([side * shape, side / shape], axis=1), 4, 0.98 * np.array(size[::-1]))
    low = random.uniform(0, 1, (count, 2)) * (np.array(size[::-1]) - sides)
    boxes = np.concatenate([low, low + sides], axis=1).astype(np.float32)
    return size, GroundTruth(boxes, random.choice(present, count).astype(np.int32), np.zeros(count, bool))


def read_objects(random: np.random.Generator, file: Path, count: int) -> Iterator[tuple[tuple[int, int], GroundTruth]]:
    """(height, width) and objects of `count` images of COCO annotations (json or json.gz), chosen at random."""
    with tempfile.TemporaryDirectory() as folder:
        if file.suffix == ".gz":
            plain = Path(folder, file.stem)
            plain.write_bytes(gzip.decompress(file.read_bytes()))
            file = plain
        data = CocoDataset(folder, file)
    for index in random.permutation(len(data))[:count].tolist():
        yield (data.info(index).height, data.info(index).width), data.ground_truth(index)


def host_image(random: np.random.Generator, size: tuple[int, int], truth: GroundTruth, config: Config) -> HostImage:
    """Runs the cascade over one image with a detector that is made of its objects and noise."""
    maps, found = [], []
    regions = np.array([[0, 0, size[1], size[0]]], np.int32)
    for scale in config.scales:
        factor = pyramid.factor(*size, scale)
        places = []
        for box in regions.astype(np.float32):
            chip = pyramid.chip_size(box, factor)
            places.append((chip, Placement(0, 1, box, pyramid.axis_factors(box, chip))))
        rows = [_NOTHING, *(_detections(random, truth, *place, config) for place in places)]
        chip = np.repeat(np.arange(len(places)), [len(part.scores) for part in rows[1:]])
        detections = Detections(*(np.concatenate(parts) for parts in zip(*rows)))
        found.append(ScaleDetections(detections, chip, regions.astype(np.float32)))
        if scale.chips is not None:
            maps.append(tuple(_focus_map(random, truth, *place, config.focus_range) for place in places))
            chips = [to_image(focus_chips(item.focus, item.size, scale.chips), item) for item in maps[-1]]
            regions = np.concatenate([np.zeros((0, 4), np.int32), *chips])
    return HostImage(size, tuple(maps), tuple(found))


def _in_chip(boxes: np.ndarray, place: Placement) -> np.ndarray:
    return box_ops.scale(box_ops.shift(boxes, -place.box[0], -place.box[1]), *place.factor)


def _focus_map(
    random: np.random.Generator, truth: GroundTruth, size: tuple[int, int], place: Placement, focus_range: FocusRange
) -> FocusMap:
    labels = focus_labels(_in_chip(truth.boxes, place), *size, focus_range, ignore=truth.ignore)
    logits = ndimage.gaussian_filter(10.0 * (labels == FOCUS) + 5.0 * (labels == IGNORE), 0.7)
    noise = ndimage.gaussian_filter(random.standard_normal(labels.shape), 0.8)
    logits += 1.5 * noise / 0.35 - 8.5  # 0.35: what the filter leaves of a deviation of 1
    return FocusMap((1 / (1 + np.exp(-logits))).astype(np.float32), size, place.box)


def _detections(
    random: np.random.Generator, truth: GroundTruth, size: tuple[int, int], place: Placement, config: Config
) -> Detections:
    """Rows above the score threshold of a chip's RoIs, image frame."""
    count, classes = config.detector.proposals, config.detector.num_classes
    height, width = size
    objects = box_ops.clip(_in_chip(truth.boxes, place), height, width)
    seen = np.flatnonzero((box_ops.area(objects) > 16) & ~truth.ignore)
    bundle = np.repeat(seen, random.integers(6, 40, len(seen)))  # RoIs around each object
    bundle = random.permutation(bundle)[: int(0.8 * count)]
    low = random.uniform(-0.1, 0.9, (count, 2)) * [width, height]
    sides = np.exp(random.uniform(np.log(12), np.log(max(height, width)), (count, 2)))
    boxes = np.concatenate([low, low + sides], axis=1)
    quality = random.beta(3, 1.5, len(bundle))
    spread = np.tile(objects[bundle, 2:] - objects[bundle, :2], 2) * (0.02 + 0.25 * (1 - quality[:, None]))
    boxes[: len(bundle)] = objects[bundle] + spread * random.standard_normal((len(bundle), 4))
    boxes = box_ops.clip(np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:] - 1), boxes[:, 2:]], axis=1), *size)

    logits = random.normal(-2.5, 1.5, (count, classes + 1))
    logits[:, classes] = random.normal(7, 1, count)  # background
    own = truth.labels[bundle]
    alike = (own[:, None] + 7 * np.arange(1, LIKE + 1)) % classes
    rows = np.arange(len(bundle))
    ease = random.normal(0, 2, len(truth.labels))[bundle]
    logits[rows, classes] = random.normal(4, 1, len(bundle))
    logits[rows, own] = 9 * quality + ease + random.normal(0, 0.7, len(bundle))
    logits[rows[:, None], alike] += 2.5
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (scores / scores.sum(axis=1, keepdims=True))[:, :classes].astype(np.float32)
    roi, label = np.nonzero(scores > config.stacking.score_threshold)
    return Detections(project(boxes[roi].astype(np.float32), place), scores[roi, label], label.astype(np.int32))
