"""Opening ANNOTATIONS of the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from autofocus_jax.config import ConfigError, DataSource
from autofocus_jax.config.load import load_config
from autofocus_jax.data.coco import EXPORTED, CocoSource
from autofocus_jax.data.findings import Findings
from autofocus_jax.data.image import SUFFIXES
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.structures import Dataset


class Opened(NamedTuple):
    """A data set, and where it comes from."""

    dataset: Dataset
    source: DataSource
    name: str  # for titles and file names


def open_annotations(given: str, split: str, found: Findings, images: str | None = None) -> Opened:
    """Open ANNOTATIONS of the command line.

    Args:
        given: a COCO file (.json, .json.gz); a YOLO data.yaml; a folder laid out as COCO's, VOC's or YOLO's; or a
            config file (.py), whose data source is opened.
        split: which split, if the source has splits.
        found: collects the faults that the reader reports.
        images: folder of a COCO file's images; by default COCO's place, or beside the file.

    Raises:
        AutoFocusError: the data cannot be opened.
    """
    path = Path(given).expanduser()
    if path.suffix == ".py":
        config = load_config(path)
        source, name = config.data, config.name
    elif path.is_dir():
        source, name = _of_folder(path, given), path.resolve().name
    elif not path.is_file():
        raise ConfigError(f"annotations {given} do not exist; give a COCO file, the folder of a data set or a config")
    elif path.suffix.lower() in (".yaml", ".yml"):
        source, name = YoloSource(str(path)), path.resolve().parent.name
    else:
        source, split = _of_coco_file(path, images)
        name = path.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_")
        name = f"{Path(source.root).resolve().name}_{name}"
    dataset = source.open_tolerant(split, found.report)
    if not len(dataset):
        raise ConfigError(f"annotations {given} hold no image; check them{found.reasons()}")
    return Opened(dataset, source, name)


def _of_folder(folder: Path, given: str) -> DataSource:
    """The source that reads a folder, by what lies in it."""
    if (folder / "annotations").is_dir() and any((folder / "annotations").glob("instances_*.json*")):
        return CocoSource(str(folder))
    if any((folder / name / EXPORTED).is_file() for name in ("train", "valid", "val", "test")):
        return CocoSource(str(folder))
    if (folder / "labels").is_dir() or any((folder / name).is_file() for name in ("data.yaml", "data.yml")):
        return YoloSource(str(folder))
    if (folder / "Annotations").is_dir():
        return VocSource(str(folder))
    years = sorted(year.name for year in folder.glob("VOC*") if (year / "Annotations").is_dir())
    if years:
        lists = {split: " ".join(f"{year}/{split}" for year in years
                                 if (folder / year / "ImageSets" / "Main" / f"{split}.txt").is_file())
                 for split in ("train", "val")}  # fmt: skip
        given_lists: dict[str, Any] = {split: value for split, value in lists.items() if value}
        return VocSource(str(folder), **given_lists)
    darknet = sorted(folder.glob("*.data"))
    if darknet or (folder / "obj.names").is_file():
        raise ConfigError(
            f"folder {given} is laid out for Darknet; write {folder}/data.yaml: `train: train.txt` (the "
            "list of images), `val: valid.txt` and `names: [first, second]`, the lines of obj.names"
        )
    beside = [name for name in sorted(os.listdir(folder)) if os.path.splitext(name)[1].lower() in SUFFIXES
              and (folder / f"{os.path.splitext(name)[0]}.txt").is_file()]  # fmt: skip
    if beside:
        raise ConfigError(f"folder {given} has images and YOLO's labels side by side ({beside[0]} …), without a list "
                          f"of classes and splits; write {folder}/data.yaml: `train: .` and `names: [first, second]`, "
                          "in the order of the class numbers, as in obj.names or classes.txt")  # fmt: skip
    raise ConfigError(f"folder {given} is no data set that is known; want COCO's annotations/instances_*.json, VOC's "
                      "Annotations/ or YOLO's labels/, or give a COCO file or a config")  # fmt: skip


def _of_coco_file(path: Path, images: str | None) -> tuple[CocoSource, str]:
    """The source of one COCO file, and the split that the file is."""
    standard = path.parent.name == "annotations" and path.name.startswith("instances_")
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    if path.name == EXPORTED and path.parent.name in ("train", "valid", "val", "test") and images is None:
        return CocoSource(str(root.parent)), path.parent.name
    if standard and images is None:
        return CocoSource(str(root)), path.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_")
    folder = Path(images).expanduser() if images is not None else root / "images"
    folder = folder if folder.is_dir() or images is not None else root
    file, pictures = (os.path.relpath(place.absolute(), root.absolute()) for place in (path, folder))
    return CocoSource(str(root), file, pictures), "all"
