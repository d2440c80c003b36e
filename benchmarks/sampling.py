"""How many training chips an image gives, scale by scale, and how fast one core finds them.

    python benchmarks/sampling.py --annotations instances_val2017.json
    python benchmarks/sampling.py --annotations instances_train2017.json --proposals runs/coco_r101/proposals.npz

Only boxes and sizes of images are read. Without --proposals the negative chips come from made-up proposals: their
sizes are those of boxes of the data set, drawn at random, and they lie anywhere in the image. Real ones crowd about
objects and what looks like them, so the number of negative chips is then no more than a hint; the time is that of as
many boxes.
SNIPER reports about 5 chips of 512x512 an image of COCO, negative ones included (its section 4).
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from autofocus_jax.config import Config
from autofocus_jax.config.load import load_config
from autofocus_jax.data.coco import CocoDataset
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.training import proposals as proposals_file
from autofocus_jax.training.negatives import held, negative_windows
from autofocus_jax.training.sampling import Proposals, count, epoch, in_range, positive_windows


@dataclasses.dataclass(frozen=True)
class Options:
    annotations: Path
    """COCO annotations, json or json.gz"""
    config: Path = Path(__file__).parent.parent / "configs" / "coco_r101.py"
    """scales, and the settings of training"""
    proposals: Path | None = None
    """what `train.py --stage proposals` wrote for the same images; made up by default"""
    images: int | None = None
    """the first ones alone; default all"""
    core: int | None = None
    """to be pinned to; by default the first that may be used"""
    seed: int = 0


class First:
    """The first images of a data set."""

    def __init__(self, dataset: Dataset, number: int):
        self.number, self.info, self.ground_truth = number, dataset.info, dataset.ground_truth

    def __len__(self) -> int:
        return self.number


def made_up(dataset: Dataset, number: int, seed: int) -> Proposals:
    """`number` proposals an image, of the sizes of boxes of the whole data set, anywhere in the image."""
    generator = np.random.default_rng(seed)
    boxes = np.concatenate([dataset.ground_truth(index).boxes for index in range(len(dataset))])
    sides = boxes[:, 2:] - boxes[:, :2]
    drawn = []
    for index in range(len(dataset)):
        info = dataset.info(index)
        image = np.array([info.width, info.height], np.float32)
        side = np.minimum(sides[generator.integers(len(sides), size=number)], image)
        low = generator.random((number, 2), np.float32) * (image - side)
        drawn.append(np.concatenate([low, low + side], axis=1))
    return drawn.__getitem__


def shares(dataset: Dataset, config: Config, proposals: Proposals, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Per scale: negative windows an image to draw from, and the share of the objects in range that a chip holds."""
    generator, training = np.random.default_rng(seed), config.training
    pool, objects, whole = np.zeros((3, len(config.scales)))
    for index in range(len(dataset)):
        info, truth = dataset.info(index), dataset.ground_truth(index)
        settings = info.height, info.width, config.scales, training, generator
        positive = positive_windows(truth, *settings)
        pool += [len(windows) for windows in negative_windows(proposals(index), positive, *settings)]
        for number, windows in enumerate(positive):
            boxes = truth.boxes[in_range(truth, training.ranges[number])]
            objects[number] += len(boxes)
            whole[number] += held(boxes, windows).sum()
    return pool / len(dataset), whole / np.maximum(objects, 1)


def main(options: Options) -> None:
    core = min(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    config = load_config(options.config)
    dataset = CocoDataset(options.annotations.parent, options.annotations)
    if options.images is not None:
        dataset = First(dataset, min(options.images, len(dataset)))
    images, training = len(dataset), config.training
    if options.proposals is None:
        proposals, source = made_up(dataset, training.proposals_kept, options.seed), "made up at random"
    else:
        proposals, source = proposals_file.read(options.proposals, dataset), str(options.proposals)
    timed = []
    for given in (None, proposals):
        begin = time.perf_counter()
        chips = epoch(dataset, config.scales, training, np.random.default_rng(options.seed), given)
        timed.append((chips, images / (time.perf_counter() - begin)))
    (positive, speed), (both, speed_of_both) = timed
    pool, whole = shares(dataset, config, proposals, options.seed)

    table = Table(title=f"chips an image: {config.name}, {images} images")
    for name in ("scale", "positive", "negative", "both", "negative to draw from", "objects in range held whole"):
        table.add_column(name, justify="right")
    per_scale = [np.bincount(chips.scale, minlength=len(config.scales) + 1)[1:] / images for chips in (positive, both)]
    for number, (plain, all_of_them) in enumerate(zip(*per_scale), 1):
        cells = (plain, all_of_them - plain, all_of_them, pool[number - 1])
        table.add_row(str(number), *(f"{value:.2f}" for value in cells), f"{100 * whole[number - 1]:.1f}%")
    totals = count(positive) / images, (count(both) - count(positive)) / images, count(both) / images, pool.sum()
    table.add_row("all", *(f"{value:.2f}" for value in totals), "")
    console = Console()
    console.print(table)
    made = sum(len(proposals(index)) for index in range(images)) / images
    console.print(f"proposals: {source}, {made:.0f} an image; at most {training.negative_chips} negative chips of each")
    console.print(f"one core: {speed:.0f} images/s positive chips alone, {speed_of_both:.0f} with negative ones")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except AutoFocusError as error:
        sys.exit(f"sampling.py: {error}")
