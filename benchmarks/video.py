"""Frame by frame against following (docs/video.md), side by side in one process.

    python benchmarks/video.py --videos 6 --frames 40 --rounds 3
    python benchmarks/video.py --film bikes.mp4 --detector yolox_nano_dynamic.onnx --rounds 3

The first line renders videos (moving_scenes.py), half of them with a camera that moves, and runs the demo's weights.
The second line compares with frame by frame, since the film has no truth. Every round takes all rows in turn; a first
round fills caches and is not counted.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax import boxes as box_ops
from autofocus_jax import parallel
from autofocus_jax.command import video
from autofocus_jax.focus.cascade import Outcome
from autofocus_jax.inference.model import Model, load
from autofocus_jax.inference.video import follow, one_by_one
from autofocus_jax.metrics.agreement import agreement
from autofocus_jax.metrics.coco import evaluate
from autofocus_jax.scenes.source import CATEGORIES
from autofocus_jax.structures import Cost, Dataset, GroundTruth, ImageInfo, sum_costs
from benchmarks.moving_scenes import HEIGHT, WIDTH, Frame, moving_scene

PAN = 0.5  # px a frame that the camera of every other video moves
SEEN = 0.5  # score and IoU from which an object counts as seen


@dataclasses.dataclass(frozen=True)
class Arguments:
    videos: int = 6
    frames: int = 40
    seed: int = 0
    """of the first video; the others follow"""
    every: tuple[int, ...] = (5, 10, 20)
    rounds: int = 3
    film: str | None = None
    """a video file, in place of rendered ones"""
    detector: str | None = None
    """an ONNX file for it"""


class Truth(Dataset):
    """The frames of all videos as a data set."""

    categories = CATEGORIES

    def __init__(self, frames: Sequence[Frame]):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def info(self, index: int) -> ImageInfo:
        return ImageInfo(index + 1, str(index), HEIGHT, WIDTH)

    def ground_truth(self, index: int) -> GroundTruth:
        return self.frames[index].truth


class Turn(NamedTuple):
    """One row in one round."""

    outcomes: list[Outcome]  # of all videos, one after the other
    seconds: float
    processor: float  # seconds


Videos = Sequence[Sequence[np.ndarray]]


def framewise(model: Model, videos: Videos) -> list[Outcome]:
    """Return the Outcome of each frame; frames share batches."""
    images = [image for frames in videos for image in frames]
    return list(model.stream((number, lambda image=image: image) for number, image in enumerate(images)))


def following(model: Model, videos: Videos, every: int) -> list[Outcome]:
    """Return the Outcome of each frame; each video is followed by itself."""
    return [outcome for frames in videos
            for _, outcome in follow(model, [(n, lambda image=image: image) for n, image in enumerate(frames)], every)
            ]  # fmt: skip


def in_turns(rows: dict[str, Callable[[], list[Outcome]]], rounds: int) -> dict[str, list[Turn]]:
    """Return the turns of each row, but for the first round."""
    turns: dict[str, list[Turn]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name in list(rows)[:: -1 if number % 2 else 1]:
            wall, processor = time.perf_counter(), time.process_time()
            outcomes = rows[name]()
            turns[name].append(Turn(outcomes, time.perf_counter() - wall, time.process_time() - processor))
    return {name: kept[1:] for name, kept in turns.items()}


def first_seen(frames: Sequence[Frame], outcomes: Sequence[Outcome]) -> dict[int, int]:
    """Return the frame in which each object that is not in the first frame is first seen, by its number."""
    old, seen = set(frames[0].numbers), {}
    for number, (frame, outcome) in enumerate(zip(frames, outcomes, strict=True)):
        found = outcome.detections
        sure = found.scores >= SEEN
        same = frame.truth.labels[:, None] == found.labels[sure]
        hit = (same & (box_ops.iou(frame.truth.boxes, found.boxes[sure]) >= SEEN)).any(axis=1)
        for mover in np.array(frame.numbers)[hit].tolist():
            if mover not in old:
                seen.setdefault(mover, number)
    return seen


def delays(videos: Sequence[Sequence[Frame]], reference: list[Outcome], outcomes: list[Outcome]) -> list[float]:
    """Return how many frames later than frame by frame each new object is seen; inf if it never is."""
    late, start = [], 0
    for frames in videos:
        part = slice(start, start + len(frames))
        there = first_seen(frames, outcomes[part])
        late += [there.get(mover, np.inf) - number for mover, number in first_seen(frames, reference[part]).items()]
        start += len(frames)
    return late


def common(turns: list[Turn], base: list[Turn]) -> list[str]:
    """Return the cells of a row that need no truth: pixels, full looks, speeds, and both against frame by frame."""
    outcomes, count = turns[0].outcomes, len(turns[0].outcomes)
    cost: Cost = sum_costs(outcome.cost for outcome in outcomes)
    full = sum(np.array_equal(outcome.regions[0], [[0, 0, *outcome.size[::-1]]]) for outcome in outcomes)
    speed = statistics.median(count / turn.seconds for turn in turns)
    busy = statistics.median(1000 * turn.processor / count for turn in turns)
    faster = statistics.median(one.seconds / turn.seconds for one, turn in zip(base, turns))
    return [f"{cost.pixels.sum() / count:,.0f}", f"{cost.padded_pixels.sum() / count:,.0f}", f"{full / count:.0%}",
            f"{speed:.1f}", f"{busy:.0f}", f"{faster:.2f}"]  # fmt: skip


COLUMNS = ("px", "padded px", "full looks", "frames/s", "cpu ms", "times as fast")


def rendered(arguments: Arguments) -> Table:
    """Return the table of rendered videos."""
    seeds = range(arguments.seed, arguments.seed + arguments.videos)
    scenes = [moving_scene(seed, arguments.frames, PAN if seed % 2 else 0.0) for seed in seeds]
    images = [[frame.image for frame in frames] for frames in scenes]
    model = load("demo")
    single = model.changed(one_by_one)
    rows: dict[str, Callable[[], list[Outcome]]] = {"frame by frame": lambda: framewise(model, images)}
    rows |= {f"n = {every}": lambda every=every: following(single, images, every) for every in arguments.every}
    turns = in_turns(rows, arguments.rounds)
    truth = Truth([frame for frames in scenes for frame in frames])
    base = turns["frame by frame"]
    title = f"{arguments.videos} videos of {arguments.frames} frames, 640x480, seed {arguments.seed}"
    table = Table("", "AP", "small", "medium", "large", *COLUMNS, "new seen after, median", "worst", title=title)
    for name, taken in turns.items():
        outcomes = taken[0].outcomes
        scores = evaluate(truth, [outcome.detections for outcome in outcomes], range(len(truth)))
        late = delays(scenes, base[0].outcomes, outcomes)
        values = scores.ap, scores.ap_small, scores.ap_medium, scores.ap_large
        table.add_row(name, *(f"{value:.1f}" for value in values),
                      *common(taken, base), f"{np.median(late):g} ({len(late)} objects)", f"{max(late):g}")  # fmt: skip
    return table


def filmed(arguments: Arguments) -> Table:
    """Return the table of a film."""
    images = list(video.frames(Path(arguments.film)))[: arguments.frames]
    model = load(detector=arguments.detector).proposed([images[0].shape[:2]])
    rows: dict[str, Callable[[], list[Outcome]]] = {"frame by frame": lambda: framewise(model, [images])}
    rows |= {f"n = {every}": lambda every=every: following(model, [images], every) for every in arguments.every}
    turns = in_turns(rows, arguments.rounds)
    base = turns["frame by frame"]
    reference = [outcome.detections for outcome in base[0].outcomes]
    table = Table("", "found again", "extra a frame", *COLUMNS, title=f"{arguments.film}, {len(images)} frames")
    for name, taken in turns.items():
        agreed = agreement(reference, [outcome.detections for outcome in taken[0].outcomes])
        table.add_row(name, f"{agreed.found:.1%}", f"{agreed.extra:.2f}", *common(taken, base))
    return table


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    parallel.cache_compilations()
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(rendered(arguments) if arguments.film is None else filmed(arguments))


if __name__ == "__main__":
    main()
