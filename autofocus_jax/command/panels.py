"""The panels of an evaluation: what every scale saw and found in a few images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autofocus_jax.focus.cascade import AnyDetect, cascade
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import Dataset
from autofocus_jax.visualize.boxes import write_picture
from autofocus_jax.visualize.panels import panel


def write_panels(
    folder: Path, plan: Plan, detect: AnyDetect, dataset: Dataset, indices: Sequence[int], count: int
) -> list[Path]:
    """Write panels of `count` images spread evenly over those of `indices` that hold an object; return the files.

    A file is called INDEX_STEM.png, as images in two folders may have the same name.
    """
    with_objects = [index for index in indices if len(dataset.ground_truth(index).labels)]
    spread = np.linspace(0, len(with_objects) - 1, min(count, len(with_objects))).round().astype(int)
    written = []
    for index in (with_objects[position] for position in spread):
        image, truth = dataset[index]
        (found,), _, (stages,) = cascade([image], detect, plan, keys=[index])
        picture = panel(image, stages, plan.scales, found, dataset.categories, truth)
        path = folder / f"{index:06d}_{Path(dataset.info(index).file_name).stem}.png"
        written.append(write_picture(path, picture))
    return written
