"""Reports on a data set: counts, sizes, categories, what is wrong with it, and pictures with its boxes.

autofocus inspect data/annotations/instances_train.json --images data/train

prints the report and writes runs/inspect/report.json and runs/inspect/samples/.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    annotations: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="ANNOTATIONS")]]
    """a COCO file (.json, .json.gz), the folder of a data set, or a config file, whose data are taken"""
    images: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """folder of a COCO file's images (by default where COCO has them, images/, or beside the file)"""
    split: str = "train"
    """which images, where the data have splits"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/inspect"
    """folder of the report and the pictures"""
    samples: int = 8
    """pictures with boxes, of images spread over the data set"""
    decode: bool = False
    """decode every image, not only those of the samples; finds damaged files, takes time"""
    categories: int = 100
    """lines of the table of categories at most"""
    max_pixels: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """pixels that an image may have to be decoded (default: 67108864, as 8192x8192, which take about 1 GB)"""
