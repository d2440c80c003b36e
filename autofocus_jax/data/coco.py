"""Images and boxes in COCO's format: a folder of images and one JSON file of annotations."""

from __future__ import annotations

import collections
import dataclasses
import errno
import functools
import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.data.annotations import AnnotatedImages, AnnotatedSource, AnnotationError, fill, refuse
from autofocus_jax.data.coco_selection import groups, images_of_split, merge_categories
from autofocus_jax.data.coco_tables import (
    columns,
    complete,
    ignored,
    infos_of,
    integer,
    require,
    spread_ignored,
    table,
    unique,
)
from autofocus_jax.data.findings import FOUND_ELSEWHERE, Report
from autofocus_jax.data.image import read_annotated
from autofocus_jax.data.reading import LARGEST_TABLE, Listings
from autofocus_jax.files import read_regular
from autofocus_jax.structures import GroundTruth, ImageInfo

_PART = 2**24  # bytes that are expanded at a time
EXPORTED = "_annotations.coco.json"  # Roboflow's name, beside the images of a split


class CocoDataset(AnnotatedImages):
    """One split of a COCO file; implements structures.Dataset.

    - categories [K] and category_ids [K] are ordered by id: label k means category_ids[k].
    - Boxes are cut at the image's borders. Boxes without area are left out and counted in `dropped`.
    - An annotation with `iscrowd` or `ignore` becomes an ignore region of its category.
    - Boxes of a category in ignore_categories become ignore regions of every other category.
    - Images are read by image.read_annotated.
    """

    def __init__(
        self,
        images_folder: str | os.PathLike,
        annotations_file: str | os.PathLike,
        ignore_categories: Sequence[str] = (),
        report: Report = refuse,
        merged: Sequence[str] = (),
        field: str | None = None,
        splits: Sequence[str] = (),
        split: str = "all",
    ):
        """Read the annotations, not the images.

        Args:
            images_folder: the images.
            annotations_file: .json or .json.gz.
            ignore_categories: as in CocoSource.
            report: called for each wrong annotation. If it returns, a box of an unknown category becomes an ignore
                region, and any other such annotation is left out.
            merged: as in CocoSource.
            field: as in CocoSource.
            splits: as in CocoSource.
            split: the split of `splits` to read.

        Raises:
            AnnotationError: an entry is wrong; the message names it.
        """
        self.images_folder = Path(images_folder)
        self.annotations_file = Path(annotations_file)
        content = _load(self.annotations_file)
        where = str(self.annotations_file)
        images, annotations = (table(content, key, where) for key in ("images", "annotations"))
        categories = table(content, "categories", where)
        images, others = images_of_split(images, field, groups(splits, "data.splits"), split, where) if field else (
            images, set())  # fmt: skip
        infos = infos_of(images, where)
        require(categories, ("id", "name"), "categories", where)
        categories = [e | {"id": integer(e["id"], "categories", e, where)} for e in categories]
        categories.sort(key=lambda entry: entry["id"])
        unique(np.array([entry["id"] for entry in categories], dtype=np.int64), "categories", where)
        rows = complete(annotations, where, report)
        if others:
            rows = [row for row in rows if row[1]["image_id"] not in others]
        categories, rows = merge_categories(categories, rows, groups(merged, "data.merged"), where)
        categories, rows = spread_ignored(categories, rows, ignore_categories, where)
        self.category_ids = np.array([entry["id"] for entry in categories], dtype=np.int64)

        image_ids = np.array([info.image_id for info in infos], dtype=np.int64)
        owner, boxes, labels = columns(rows, image_ids, self.category_ids, where, report)
        known = labels >= 0
        keep = np.flatnonzero((owner >= 0) & np.isfinite(boxes).all(axis=1) & (known | bool(len(categories))))
        ignore = ignored(rows, where)
        files, elsewhere = _located(infos, self.images_folder, self.annotations_file.parent)
        super().__init__(
            [str(entry["name"]) for entry in categories],
            infos,
            files,
            owner[keep],
            boxes[keep],
            np.maximum(labels, 0)[keep],
            (ignore | ~known)[keep],
            functools.partial(read_annotated, annotations=self.annotations_file),
            noticed=[(FOUND_ELSEWHERE, example) for example in elsewhere],
        )


@dataclasses.dataclass(frozen=True)
class CocoSource(AnnotatedSource):
    """A COCO file of annotations (.json or .json.gz) and a folder of images for each split, both below `root`.

    By default a split is found in COCO's layout: annotations/instances_SPLIT.json with images in SPLIT/ or
    images/SPLIT/, also with a year (instances_val2017.json, val2017/). Roboflow's layout is found too:
    SPLIT/_annotations.coco.json beside the images, "val" also in valid/. Other layouts are named by the settings.

    - annotations, images: paths from root; {split} stands for the split's name.
    - ignore_categories: categories that are no classes but mark regions where nothing is judged.
    - merged: categories taken as one, as "vehicle=car,minibus".
    - field, splits: a field of the images that splits one file, as "scene", and its values for each split, as
      "train=crossing_a,crossing_b" "val=crossing_c".
    """

    root: str
    annotations: str | None = None
    images: str | None = None
    ignore_categories: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    field: str | None = None
    splits: tuple[str, ...] = ()

    def open_tolerant(self, split: str, report: Report) -> CocoDataset:
        """Open a split without looking at images. Raises AnnotationError if its file is missing or malformed."""
        root = Path(self.root).expanduser()
        if (self.field is None) == bool(self.splits):
            raise AnnotationError("data.field and data.splits go together, as field='scene', splits=('train=a,b', "
                                  f"'val=c'); got {self.field!r} and {self.splits}")  # fmt: skip
        made = functools.partial(
            CocoDataset, ignore_categories=self.ignore_categories, report=report, merged=self.merged, field=self.field,
            splits=self.splits, split=split,
        )  # fmt: skip
        if self.field is not None:
            if self.annotations is None:
                raise AnnotationError("data.field wants one file for all splits; name it, as "
                                      "annotations='annotations/instances.json'")  # fmt: skip
            return made(root / (self.images or "images"), root / self.annotations)
        if self.annotations is None and (folder := _exported(root, split)) is not None:
            return made(folder, folder / EXPORTED)
        if self.annotations is not None:
            name, file = split, root / fill(self.annotations, split, "CocoSource's annotations")
        else:
            name, file = _find_annotations(root / "annotations", split)
        if self.images is not None:
            folder = root / self.images.replace("{split}", name)
        else:
            folders = [root / name, root / "images" / name, root / "images"]
            folder = next((folder for folder in folders if folder.is_dir()), folders[0])
        return made(folder, file)


def _exported(root: Path, split: str) -> Path | None:
    """The folder of a split as Roboflow exports it."""
    names = [split, "valid"] if split == "val" else [split]
    return next((root / name for name in names if (root / name / EXPORTED).is_file()), None)


def _find_annotations(folder: Path, split: str) -> tuple[str, Path]:
    """The name of a split as COCO writes it, with or without a year, and its file of annotations."""
    plain = [folder / f"instances_{split}{suffix}" for suffix in (".json", ".json.gz")]
    for file in plain:
        if file.exists():
            return split, file
    years = sorted(folder.glob(f"instances_{glob.escape(split)}[0-9][0-9][0-9][0-9].json*"))
    if len(years) > 1:
        names = ", ".join(file.name for file in years)
        raise AnnotationError(f"{folder} has several files for the split {split!r} ({names}); name one, as val2017")
    if not years:
        raise AnnotationError(f"annotations {plain[0]} cannot be read (there is no such file); check the path")
    return years[0].name.removeprefix("instances_").split(".")[0], years[0]


def write_coco(
    path: str | os.PathLike,
    infos: Sequence[ImageInfo],
    categories: Sequence[str],
    ground_truths: Iterable[GroundTruth],
) -> None:
    """Write annotations (boxes in the image frame) as a COCO file. Label k becomes category id k + 1."""
    images = [{"id": i.image_id, "file_name": i.file_name, "height": i.height, "width": i.width} for i in infos]
    annotations: list[dict[str, Any]] = []
    for info, truth in zip(infos, ground_truths, strict=True):
        areas = box_ops.area(truth.boxes)
        for box, label, ignore, area in zip(truth.boxes, truth.labels, truth.ignore, areas, strict=True):
            x, y, right, bottom = (float(value) for value in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": info.image_id,
                    "category_id": int(label) + 1,
                    "bbox": [x, y, right - x, bottom - y],
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def _load(path: Path) -> dict:
    """The object of a JSON file, which may be compressed by gzip, whatever its name."""
    try:
        data = read_regular(path, LARGEST_TABLE)
        content = json.loads(_expanded(data) if data.startswith(b"\x1f\x8b") else data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise AnnotationError(f"annotations {path} are a damaged gzip file ({error}); copy it again") from None
    except OSError as error:
        raise AnnotationError(f"annotations {path} cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"annotations {path} are not JSON ({error}); give a COCO annotation file") from None
    if not isinstance(content, dict):
        raise AnnotationError(f"annotations {path} hold a {type(content).__name__}; want a COCO object with images")
    return content


def _expanded(data: bytes) -> bytes:
    parts, size = [], 0
    with gzip.open(io.BytesIO(data)) as file:
        while part := file.read(_PART):
            parts.append(part)
            size += len(part)
            if size > LARGEST_TABLE:
                raise OSError(errno.EFBIG, f"more than {LARGEST_TABLE} bytes when it is expanded")
    return b"".join(parts)


def _located(infos: list[ImageInfo], folder: Path, beside: Path) -> tuple[list[Path], list[str]]:
    """Paths of the images, and a line for each that only its bare name led to.

    A name is a path from the folder of images, from the folder that holds that one, or from the file of annotations;
    backslashes are those of another system. Exporters also write paths of their own server: then the bare name counts,
    where no other image has it.
    """
    listings, files, elsewhere = Listings(), [], []
    bare = collections.Counter(_bare(info.file_name) for info in infos)
    for info in infos:
        name = info.file_name.replace("\\", "/")
        places = dict.fromkeys([folder / info.file_name, folder / name, folder.parent / name, beside / name])
        found = next(filter(None, map(listings.find, places)), None)
        if found is None and bare[_bare(name)] == 1 and _bare(name) != name:
            found = next(filter(None, (listings.find(place / _bare(name)) for place in (folder, beside))), None)
            if found is not None:
                elsewhere.append(f"{info.file_name[:80]}: {found}")
        files.append(found or folder / info.file_name)
    return files, elsewhere


def _bare(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
