"""The panels of an evaluation: what every scale saw and found in a few images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autofocus_jax.command.inputs import shortened
from autofocus_jax.focus.cascade import AnyDetect, Stage, cascade
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import Dataset, GroundTruth
from autofocus_jax.visualize.boxes import write_picture
from autofocus_jax.visualize.panels import panel


class Seen(NamedTuple):
    """An image of a panel with all that happened to it."""

    key: int  # index in the dataset
    image: np.ndarray  # [h, w, 3] uint8 RGB
    truth: GroundTruth
    stages: Sequence[Stage]


def write_panels(
    folder: Path, plan: Plan, detect: AnyDetect, dataset: Dataset, indices: Sequence[int], count: int,
    seen: Callable[[Seen], None] = lambda one: None,
) -> list[Path]:  # fmt: skip
    """Write panels of `count` images spread evenly over those of `indices` that hold an object; return the files.

    A file is called INDEX_STEM.png, as images in two folders may have the same name. `seen` gets each image.
    """
    with_objects = [index for index in indices if len(dataset.ground_truth(index).labels)]
    spread = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    written = []
    for index in (with_objects[position] for position in spread):
        image, truth = dataset[index]
        (found,), _, (stages,) = cascade([image], detect, plan, keys=[index])
        picture = panel(image, stages, plan.scales, found, dataset.categories, truth)
        path = folder / f"{index:06d}_{shortened(Path(dataset.info(index).file_name).stem)}.png"
        written.append(write_picture(path, picture))
        seen(Seen(index, image, truth, stages))
    return written
