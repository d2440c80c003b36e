"""`autofocus check-detector`: how a detector in an ONNX file is understood, and what it finds in one photograph."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np

from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.check_detector import Arguments
from autofocus_jax.config import ConfigError
from autofocus_jax.data.image import quiet_decoders, read_image
from autofocus_jax.visualize.boxes import draw_boxes, write_picture


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    quiet_decoders()
    if not 0 <= arguments.shown <= 1:
        raise ConfigError(f"--shown must be in [0, 1], got {arguments.shown}")
    detector = arguments.options.load(arguments.model)
    image = read_image(arguments.photo, oriented=True)
    say = console.say
    width = max(len(heading) for heading, _ in detector.about)
    for heading, text in detector.about:
        say(f"{heading:<{width}}  {text}")
    (found,) = detector.find([image])
    counts = collections.Counter(detector.categories[label] for label in found.labels[found.scores >= arguments.shown])
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    say(f"{'found':<{width}}  {listed} with scores from {arguments.shown:g}; {len(found.scores)} boxes with scores "
        f"from {arguments.options.score_threshold:g}")  # fmt: skip
    kept = np.flatnonzero(found.scores >= arguments.shown)
    thickness = max(1, round(max(image.shape[:2]) / 600))
    picture = draw_boxes(image, found.boxes[kept], found.labels[kept], found.scores[kept], detector.categories,
                         thickness=thickness)  # fmt: skip
    path = Path(arguments.output) / f"{Path(arguments.photo).stem}.jpg"
    write_picture(path, picture)
    say(f"written: {path}")
    return 0
