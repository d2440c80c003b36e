"""Export of any data set: folders of images with annotations in COCO's, VOC's or YOLO's format.

CocoSource, VocSource and YoloSource read the same ground truth back. TFDS is in data/tfds.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.data.coco import write_coco
from autofocus_jax.data.image import decode_image
from autofocus_jax.data.voc import write_voc
from autofocus_jax.data.yolo import write_yolo
from autofocus_jax.files import make_folder
from autofocus_jax.structures import Dataset, ImageInfo


def export_coco(dataset: Dataset, root: str | os.PathLike, split: str) -> None:
    """Write annotations/instances_SPLIT.json and SPLIT/, for CocoSource(root)."""
    root = make_folder(Path(root).expanduser())
    infos = _write_images(dataset, root / split)
    (root / "annotations").mkdir(exist_ok=True)
    write_coco(
        root / "annotations" / f"instances_{split}.json",
        infos,
        dataset.categories,
        map(dataset.ground_truth, range(len(dataset))),
    )


def export_voc(dataset: Dataset, root: str | os.PathLike, split: str) -> None:
    """Write Annotations/, ImageSets/Main/SPLIT.txt, JPEGImages/ and labels.txt, for VocSource(root).

    The folders hold all splits, so the names of the images begin with the name of their split.
    """
    root = make_folder(Path(root).expanduser())
    infos = _write_images(dataset, root / "JPEGImages", prefix=f"{split}_")
    write_voc(root, split, infos, dataset.categories, map(dataset.ground_truth, range(len(dataset))))


def export_yolo(dataset: Dataset, root: str | os.PathLike, split: str) -> None:
    """Write images/SPLIT/, labels/SPLIT/ and data.yaml, for YoloSource(root). Ignore regions go to ignore/SPLIT/."""
    root = make_folder(Path(root).expanduser())
    infos = _write_images(dataset, root / "images" / split)
    write_yolo(root, split, infos, dataset.categories, map(dataset.ground_truth, range(len(dataset))))


def image_file(dataset: Dataset, index: int) -> tuple[str, bytes]:
    """Return suffix and content of a file of an image.

    The file is the data set's own if its orientation tag does not change the pixels, else a PNG of the pixels.

    Raises:
        ImageError: the image cannot be read.
    """
    image = dataset.image(index)
    content, name = dataset.encoded(index), dataset.info(index).file_name
    turns = (False, True)
    if content is not None and all(np.array_equal(decode_image(content, name, turn), image) for turn in turns):
        return Path(name).suffix, content
    return ".png", cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _write_images(dataset: Dataset, folder: Path, prefix: str = "") -> list[ImageInfo]:
    """Write all images into one folder; return their infos with new names, whose stems all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = [Path(dataset.info(index).file_name).stem for index in range(len(dataset))]
    if len(set(stems)) < len(stems):
        stems = [f"{dataset.info(index).image_id:012d}" for index in range(len(dataset))]
    infos = []
    for index, stem in enumerate(stems):
        suffix, content = image_file(dataset, index)
        name = f"{prefix}{stem}{suffix}"
        (folder / name).write_bytes(content)
        infos.append(dataset.info(index)._replace(file_name=name))
    return infos
