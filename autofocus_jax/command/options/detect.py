"""Find objects in images, folders of images, globs and videos, coarse to fine.

autofocus detect photos/ --weights model.safetensors
autofocus detect photos/ --detector model.onnx

writes runs/detect/pictures/ and runs/detect/detections.json. Files that cannot be read, or that the detector fails on,
are skipped, counted and named. An interrupted run (Ctrl-C, SIGTERM, a closed terminal) keeps its finished results.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro

from autofocus_jax.command.options.detector import DetectorOptions

_WEIGHTS_SAY = "(default: that of the weights)"


Form = Literal["pictures", "panels", "coco", "csv", "yolo", "yolo-scores", "geojson", "report"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    paths: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH...", help_behavior_hint="(required)")]
    ] = ()
    """images, folders (with all below them), globs in quotes, videos"""
    weights: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="(or --detector)")] = ""
    """a .safetensors file, a training's --workdir, or "demo" (shipped; knows rendered scenes
    only, no photographs)"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/detect"
    """folder of the results"""
    write: Annotated[tuple[Form, ...], tyro.conf.arg(metavar="FORM...")] = ("pictures", "coco")
    """pictures: boxes, categories and scores on each image, an .mp4 of each video; panels: focus maps and chips of
    every scale; coco: detections.json; csv: detections.csv; yolo: labels/, a text file an image, for training or
    correcting; yolo-scores: labels_scores/, the same with scores; geojson: geojson/, polygons in the CRS of
    GeoTIFF files; report: report.html, one file with levels, focus maps, chips and detections of up to 500 images"""
    score: float = 0.5
    """detections below this score are left out; give 0.001 to compute average precision"""
    threshold: Annotated[tuple[float, ...], tyro.conf.arg(metavar="T...", help_behavior_hint=_WEIGHTS_SAY)] = ()
    """least FocusPixel probability of a place to look at again: one for all scales, or one for each but the last. Lower
    finds more and costs more; 0 is the full image pyramid"""
    pixels: Annotated[float | None, tyro.conf.arg(metavar="SIDE", help_behavior_hint="")] = None
    """choose the thresholds, on 16 of the images, for so many pixels an image, given as the side of a square"""
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHORTERxLONGER...", help_behavior_hint=_WEIGHTS_SAY)] = ()
    """sides of the pyramid, coarse to fine, as 480x512 800x1280 1400x2000; one pair runs one scale alone, without
    AutoFocus"""
    where: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """an area of the images, in their px: a mask (white is inside), .geojson (polygons), .json (boxes) or .npy (a map
    of 0..1); or a folder with such a file for each image, of its name"""
    where_use: Annotated[Literal["only", "also", "not"], tyro.conf.arg(metavar="{only,also,not}")] = "only"
    """only: look and report inside the area alone; also: look again inside it, besides where the detector says so; not:
    leave it out"""
    follow: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """in videos, look where the last frames say, and at a whole frame every N frames (default: every frame whole)"""
    max_pixels: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """most pixels of an image; larger TIFF files are read by windows, other images skipped (default: 67108864, as
    8192x8192, about 1 GB)"""
    max_detections: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_WEIGHTS_SAY)] = None
    """number of best detections kept for an image; give more than 200 for photographs with hundreds of objects"""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """a config file, instead of the settings stored beside the weights"""
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DetectorOptions)
    """a detector that you already have"""
