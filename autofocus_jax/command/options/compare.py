"""Compare ways to use a detector that you have: whole photographs, slices, and a closer look where it pays.

autofocus compare photos/ --detector model.onnx --annotations boxes.json

runs every way on every photograph, side by side, prints a table and writes runs/compare/comparison.json. With boxes the
table has average precision, otherwise the agreement with slices. report.html shows the rows side by side over the
photographs, those that differ most first; comparison.png draws the scores against pixels. Photographs that fail are
named and skipped. Each way reads the photographs anew, in threads ahead of the detector, as `autofocus detect` does.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import ModelOptions

_DETECTOR_SAYS = "(default: by the detector and the plan)"


def _by_detector(metavar: str) -> object:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=_DETECTOR_SAYS)


@dataclasses.dataclass(frozen=True)
class Arguments:
    photos: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="PHOTOS")]] = ()
    """a folder of photographs; without --annotations also files, several folders and globs"""
    detector: Annotated[str, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required)")] = ""
    """an .onnx file"""
    annotations: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """a COCO file with boxes of the photographs; its classes count, or those of --only"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """the detector"""
    plan: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: proposed)")] = None
    """scales, valid ranges and chip rules: a .json file as `autofocus suggest --detector` writes it"""
    side: Annotated[int | None, _by_detector("PX")] = None
    """longer side at which the detector sees a whole photograph well"""
    larger: Annotated[tuple[int, ...], _by_detector("PX...")] = ()
    """more sides for whole photographs, for a detector of any input size"""
    slices: Annotated[tuple[int, ...], _by_detector("PX...")] = ()
    """sides of slices; agreement is measured against the first"""
    canvases: Annotated[tuple[int, ...], tyro.conf.arg(metavar="PX...")] = (640,)
    """sides of fixed inputs that chips are packed into, for a detector of any input size"""
    focus: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOCUS...")] = ("weak",)
    """where to look again. weak: where the detector found something small, however weakly; weak:0.05 from that score;
    network, either: where the focus network of --focus-weights says so, or both; network:0.05 as for weak"""
    focus_weights: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """a focus network, as `autofocus learn` writes it"""
    recall: bool = False
    """also follow the objects of --annotations: which share the focus map, the chips and the detector in them lose, by
    size and by how scale 1 sees them, and what false places cost"""
    sample: int = 3
    """photographs to run first, for a forecast of gain and time; they do not count in the table"""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """most photographs, spread evenly"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/compare"
    """folder of report.html, comparison.json, comparison.txt, and the drawing comparison.svg and .png"""
