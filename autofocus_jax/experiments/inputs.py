"""Options of every experiment: the config, the images, the folder of results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.data.coco import CocoDataset
from autofocus_jax.structures import Dataset


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Options of all experiments. Each experiment inherits from this dataclass."""

    config: str
    """config file: Python that defines get_config()"""
    output: str
    """folder of the results: NAME.json, NAME.csv, NAME.svg and NAME.png"""
    annotations: str | None = None
    """COCO annotations (.json or .json.gz) in place of the config's data; without --images, no image is opened"""
    images: str | None = None
    """folder of the images of --annotations; only the experiments that run a detector need it"""
    split: str = "val"
    """which images of the config's data source"""
    limit: int | None = None
    """the first so many images only"""


def open_dataset(inputs: Inputs, config: Config) -> Dataset:
    """Return the dataset of --annotations, or of the config's split; no image is opened.

    With --annotations the number of categories may differ from the config's detector.

    Raises:
        ConfigError: there is no image.
        AutoFocusError: the data source raised it.
    """
    if inputs.images is not None and inputs.annotations is None:
        raise ConfigError("--images goes with --annotations; give both, or neither for the config's own data")
    if inputs.annotations is None:
        return open_split(config, inputs.split)
    path = Path(inputs.annotations).expanduser()
    folder = path.parent if inputs.images is None else Path(inputs.images).expanduser()
    dataset = CocoDataset(folder, path)
    if not len(dataset):
        raise ConfigError(f"annotations {path} hold no image; give a file with some")
    return dataset


def indices(inputs: Inputs, dataset: Dataset) -> range:
    """Return the images to look at: all of a dataset's, or the first --limit.

    Raises:
        ConfigError: the limit is below 1.
    """
    if inputs.limit is not None and inputs.limit < 1:
        raise ConfigError(f"--limit {inputs.limit}; want at least 1 image")
    return range(min(len(dataset), inputs.limit or len(dataset)))


def describe(inputs: Inputs, config: Config, images: int) -> dict[str, str | int]:
    """Return the origin of numbers, for the JSON of a Result."""
    data = f"{type(config.data).__name__}, {inputs.split}" if inputs.annotations is None else inputs.annotations
    return {"config": config.name, "data": data, "images": images}
