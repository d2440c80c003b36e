"""Shows how a detector in an ONNX file is understood, and what it finds in one photograph.

autofocus check-detector model.onnx photo.jpg

prints the inputs, the layout of the outputs, the preparation of pixels and the classes, and writes
runs/check-detector/PHOTO.jpg with the boxes. What is wrong can be said with the options.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from autofocus_jax.command.detector_options import ModelOptions
from autofocus_jax.config import ConfigError
from autofocus_jax.config_file import parse
from autofocus_jax.data.image import quiet_decoders, read_image
from autofocus_jax.terminal import say
from autofocus_jax.visualize import draw_boxes, write_picture


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """an .onnx file"""
    photo: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PHOTO")]]
    """an image file"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """what is known better than the file says it"""
    shown: float = 0.3
    """least score of a box in the picture"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/check-detector"
    """folder of the picture"""


def run(argv: Sequence[str], console: Console) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    arguments = parse(Arguments, list(argv), prog="autofocus check-detector", description=__doc__)
    if not 0 <= arguments.shown <= 1:
        raise ConfigError(f"--shown must be in [0, 1], got {arguments.shown}")
    detector = arguments.options.load(arguments.model)
    image = read_image(arguments.photo, oriented=True)
    tell = partial(say, console)
    width = max(len(heading) for heading, _ in detector.about)
    for heading, text in detector.about:
        tell(f"{heading:<{width}}  {text}")
    (found,) = detector.find([image])
    counts = collections.Counter(detector.categories[label] for label in found.labels[found.scores >= arguments.shown])
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    tell(f"{'found':<{width}}  {listed} with scores from {arguments.shown:g}; {len(found.scores)} boxes with scores "
        f"from {arguments.options.score_threshold:g}")  # fmt: skip
    kept = np.flatnonzero(found.scores >= arguments.shown)
    thickness = max(1, round(max(image.shape[:2]) / 600))
    picture = draw_boxes(image, found.boxes[kept], found.labels[kept], found.scores[kept], detector.categories,
                         thickness=thickness)  # fmt: skip
    path = Path(arguments.output) / f"{Path(arguments.photo).stem}.jpg"
    write_picture(path, picture)
    tell(f"written: {path}")
    return 0
