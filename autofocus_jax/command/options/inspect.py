"""Report on a data set: counts, sizes, categories, faults, and pictures with its boxes.

autofocus inspect data/annotations/instances_train.json --images data/train

prints the report and writes runs/inspect/report.html, report.json and samples/.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    annotations: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="ANNOTATIONS")]]
    """a COCO file (.json, .json.gz), the folder of a data set, or a config file"""
    images: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """folder of a COCO file's images (by default COCO's place, images/, or beside the file)"""
    split: str = "train"
    """which split, if the data have splits"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/inspect"
    """folder of the report and the pictures"""
    samples: int = 8
    """number of pictures with boxes, spread over the data set"""
    decode: bool = False
    """decode every image, not only the samples; finds damaged files, takes time"""
    categories: int = 100
    """most lines of the table of categories"""
    max_pixels: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """most pixels of an image to decode (default: 67108864, as 8192x8192, about 1 GB)"""
