"""From the ANNOTATIONS of a command line to a data set and the line of a config that names its source."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from autofocus_jax.config import ConfigError, DataSource
from autofocus_jax.config_file import load_config
from autofocus_jax.data.coco import CocoDataset, CocoSource
from autofocus_jax.structures import Dataset


class Opened(NamedTuple):
    """A data set, and where it comes from."""

    dataset: Dataset
    source: DataSource
    name: str  # for titles and file names


def open_annotations(given: str, split: str, images: str | None = None) -> Opened:
    """Opens what ANNOTATIONS leads to.

    given: a COCO file (.json, .json.gz), whose images lie in `images`, by default where COCO has them or beside the
    file; a folder laid out as COCO's; or a config file (.py), of which the data source is taken. split: which images,
    where the source has several. Raises ConfigError or AnnotationError, one line.
    """
    path = Path(given).expanduser()
    if path.suffix == ".py":
        config = load_config(path)
        return Opened(_filled(config.data.open(split), given), config.data, config.name)
    if path.is_dir():
        source = CocoSource(str(path))
        return Opened(_filled(source.open(split), given), source, path.absolute().name)
    if not path.is_file():
        raise ConfigError(f"annotations {given} do not exist; give a COCO file, a folder of a data set or a config")
    name = path.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_")
    folder = Path(images).expanduser() if images else _images_of(path, name)
    return Opened(_filled(CocoDataset(folder, path), given), CocoSource(str(path.parent)), name)


def _images_of(path: Path, name: str) -> Path:
    """The folder of a COCO file's images: ROOT/NAME, ROOT/images/NAME, ROOT/images, or beside the file."""
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    folders = [root / name, root / "images" / name, root / "images", path.parent]
    return next((folder for folder in folders if folder.is_dir()), path.parent)


def _filled(dataset: Dataset, given: str) -> Dataset:
    if not len(dataset):
        raise ConfigError(f"annotations {given} hold no image; check them")
    return dataset
