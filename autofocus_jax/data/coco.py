"""Images and boxes in COCO's format: a folder of images beside one JSON file of annotations."""

from __future__ import annotations

import dataclasses
import functools
import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import DataSource
from autofocus_jax.data.annotations import AnnotatedImages, AnnotationError, fill
from autofocus_jax.data.image import read_annotated
from autofocus_jax.structures import GroundTruth, ImageInfo


class CocoDataset(AnnotatedImages):
    """One split of a COCO file; implements structures.Dataset.

    categories [K] names and category_ids [K] are ordered by id, so label k means category_ids[k]. Boxes are cut at the
    image's borders; those that then have no area are left out and counted in `dropped`. An annotation with `iscrowd`
    or `ignore` becomes an ignore region. Images are read by image.read_annotated.
    """

    def __init__(self, images_folder: str | os.PathLike, annotations_file: str | os.PathLike):
        """Reads the annotations, not the images. Raises AnnotationError naming the entry that is wrong."""
        self.images_folder = Path(images_folder)
        self.annotations_file = Path(annotations_file)
        content = _load(self.annotations_file)
        where = str(self.annotations_file)
        images, annotations = (_table(content, key, where) for key in ("images", "annotations"))
        categories = _table(content, "categories", where)
        infos = _infos(images, where)
        _require(categories, ("id", "name"), "categories", where)
        categories = sorted(categories, key=lambda entry: _integer(entry["id"], "categories", entry, where))
        self.category_ids = np.array([entry["id"] for entry in categories], dtype=np.int64)
        _unique(self.category_ids, "categories", where)

        _require(annotations, ("image_id", "category_id", "bbox"), "annotations", where)
        image_ids = np.array([info.image_id for info in infos], dtype=np.int64)
        super().__init__(
            [str(entry["name"]) for entry in categories],
            infos,
            [self.images_folder / info.file_name for info in infos],
            _positions([entry["image_id"] for entry in annotations], image_ids, "image_id", where),
            _boxes(annotations, where),
            _positions([entry["category_id"] for entry in annotations], self.category_ids, "category_id", where),
            np.array([bool(e.get("iscrowd", 0)) or bool(e.get("ignore", 0)) for e in annotations], dtype=bool),
            functools.partial(read_annotated, annotations=self.annotations_file),
        )


@dataclasses.dataclass(frozen=True)
class CocoSource(DataSource):
    """A COCO file of annotations (.json or .json.gz) and a folder of images for each split, both below `root`.

    Left alone, a split is found where COCO has it: annotations/instances_SPLIT.json with the images in SPLIT/ or
    images/SPLIT/, or the same with a year, as in instances_val2017.json with val2017/. Other layouts are named:
    annotations and images are paths from root, with {split} where the split's name belongs.
    """

    root: str
    annotations: str | None = None
    images: str | None = None

    def open(self, split: str) -> CocoDataset:
        """Raises AnnotationError for a file of annotations that is missing or malformed; images are not looked at."""
        root = Path(self.root).expanduser()
        if self.annotations is not None:
            name, file = split, root / fill(self.annotations, split, "CocoSource's annotations")
        else:
            name, file = _find_annotations(root / "annotations", split)
        if self.images is not None:
            folder = root / self.images.replace("{split}", name)
        else:
            folders = [root / name, root / "images" / name, root / "images"]
            folder = next((folder for folder in folders if folder.is_dir()), folders[0])
        return CocoDataset(folder, file)


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
    """Writes annotations (boxes in the image frame) as a COCO file; label k becomes category id k + 1."""
    images = [{"id": i.image_id, "file_name": i.file_name, "height": i.height, "width": i.width} for i in infos]
    annotations = []
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
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise AnnotationError(f"annotations {path} are a damaged gzip file ({error}); copy it again") from None
    except OSError as error:
        raise AnnotationError(f"annotations {path} cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"annotations {path} are not JSON ({error}); give a COCO annotation file") from None
    if not isinstance(content, dict):
        raise AnnotationError(f"annotations {path} hold a {type(content).__name__}; want a COCO object with images")
    return content


def _table(content: dict, key: str, where: str) -> list[dict]:
    table = content.get(key)
    if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
        raise AnnotationError(f"{where}: {key!r} is missing or not a list of objects; give a COCO annotation file")
    return table


def _require(table: list[dict], keys: tuple[str, ...], name: str, where: str) -> None:
    for position, entry in enumerate(table):
        for key in keys:
            if key not in entry:
                raise AnnotationError(f"{where}: {name}[{position}] has no {key!r}; add it or remove the entry")


def _integer(value: object, name: str, entry: dict, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise AnnotationError(f"{where}: {name} entry {str(entry)[:120]} has {value!r}; want an integer there")
    return value


def _unique(ids: np.ndarray, name: str, where: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise AnnotationError(f"{where}: {name} has the id {values[counts > 1][0]} more than once; ids must be unique")


def _infos(images: list[dict], where: str) -> list[ImageInfo]:
    _require(images, ("id", "file_name", "height", "width"), "images", where)
    infos = []
    for entry in images:
        number, height, width = (_integer(entry[key], "images", entry, where) for key in ("id", "height", "width"))
        if height < 1 or width < 1 or not isinstance(entry["file_name"], str):
            raise AnnotationError(
                f"{where}: image {number} has the size {width}x{height} and the file "
                f"{entry['file_name']!r}; want sides of at least 1 px and a file name"
            )
        infos.append(ImageInfo(number, entry["file_name"], height, width))
    _unique(np.array([info.image_id for info in infos], dtype=np.int64), "images", where)
    return infos


def _positions(ids: list, known: np.ndarray, key: str, where: str) -> np.ndarray:
    """Positions [A] in `known` [n] of the ids [A] that the annotations name."""
    table = {int(value): position for position, value in enumerate(known)}
    found = np.array([table.get(value, -1) if isinstance(value, int) else -1 for value in ids], dtype=np.int64)
    if (found < 0).any():
        bad = int(np.argmax(found < 0))
        raise AnnotationError(
            f"{where}: annotations[{bad}] has {key} {ids[bad]!r}, which the file does not list; "
            "add it or remove the annotation"
        )
    return found


def _boxes(annotations: list[dict], where: str) -> np.ndarray:
    """Boxes [A, 4] float64 as xyxy."""
    try:
        xywh = np.array([entry["bbox"] for entry in annotations] or np.zeros((0, 4)))
    except ValueError:  # of different lengths
        xywh = np.empty(0, dtype=object)
    if xywh.dtype.kind in "iuf" and xywh.shape == (len(annotations), 4):
        good = np.isfinite(xywh).all(axis=1)
    else:
        good = np.array([_is_box(entry["bbox"]) for entry in annotations])
    if not good.all():
        bad = int(np.argmin(good))
        raise AnnotationError(
            f"{where}: annotations[{bad}] has bbox {str(annotations[bad]['bbox'])[:80]}; "
            "want four finite numbers x, y, width, height"
        )
    xywh = xywh.astype(np.float64)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _is_box(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(isinstance(item, (int, float)) and not isinstance(item, bool) and abs(item) < 1e30 for item in value)
