"""Finds objects in images, folders of images, globs and videos, coarse to fine.

autofocus detect photos/ --weights model.safetensors
autofocus detect photos/ --detector model.onnx

writes runs/detect/pictures/ and runs/detect/detections.json. Files that cannot be read, or that the
detector fails on, are skipped, counted and named. What is finished is kept when the run is interrupted (Ctrl-C) or told
to end (SIGTERM, a closed terminal).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro

from autofocus_jax.command.options.detector import DetectorOptions

_WEIGHTS_SAY = "(default: as the weights say)"


Form = Literal["pictures", "panels", "coco", "csv", "yolo", "yolo-scores"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    paths: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH...", help_behavior_hint="(required)")]
    ] = ()
    """images, folders (with all below them), globs in quotes, videos"""
    weights: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="(or --detector)")] = ""
    """a .safetensors file, a training's --workdir, or "demo", which comes with the program and knows rendered scenes
    alone, no photographs"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/detect"
    """folder of the results"""
    write: Annotated[tuple[Form, ...], tyro.conf.arg(metavar="FORM...")] = ("pictures", "coco")
    """pictures: boxes, categories and scores on each image, an .mp4 of each video; panels: focus maps and chips of
    every scale; coco: detections.json; csv: detections.csv; yolo: labels/, a text file an image, to train on or to
    correct; yolo-scores: labels_scores/, the same with scores"""
    score: float = 0.5
    """detections below this score are left out; 0.001 to compute average precision of the results"""
    threshold: Annotated[tuple[float, ...], tyro.conf.arg(metavar="T...", help_behavior_hint=_WEIGHTS_SAY)] = ()
    """FocusPixel probability from which a place is looked at again: one for all scales, or one for each but the last;
    lower sees more and costs more, 0 is the whole image pyramid"""
    pixels: Annotated[float | None, tyro.conf.arg(metavar="SIDE", help_behavior_hint="")] = None
    """pixels an image on average, as the side of a square: chooses the thresholds on 16 of the images"""
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHORTERxLONGER...", help_behavior_hint=_WEIGHTS_SAY)] = ()
    """sides of the pyramid, coarse to fine, as 480x512 800x1280 1400x2000; one pair runs that scale alone, without
    AutoFocus"""
    max_pixels: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """pixels that an image may have, larger ones are skipped (default: 67108864, as 8192x8192, about 1 GB)"""
    max_detections: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_WEIGHTS_SAY)] = None
    """detections of an image that are kept, the best ones; more than 200 for photographs with hundreds of objects"""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """a config file, in place of the settings that lie beside the weights"""
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DetectorOptions)
    """a detector that you already have"""
