"""A detector in two lines: model = load("model.safetensors"); result = model("photo.jpg")."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax.checkpoint import load_variables, trained_with
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config_dict import from_dict
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.image import read_image
from autofocus_jax.data.scenes import CATEGORIES, ScenesSource
from autofocus_jax.data.tfds import TfdsSource
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.detector.model import Variables
from autofocus_jax.focus.cascade import Outcome
from autofocus_jax.inference.worker import Worker
from autofocus_jax.result import Result
from autofocus_jax.structures import STRIDE, Bucket, ChipBatch, DetectorOutput, ImageError, Placement, Scale
from autofocus_jax.weights import safetensors

SOURCES = {kind.__name__: kind for kind in (CocoSource, ScenesSource, TfdsSource, VocSource, YoloSource)}

Image = Any  # a path, a NumPy array (uint8: RGB [h, w, 3], RGBA [h, w, 4] or grey [h, w]) or a PIL image


class Model:
    """A detector with the AutoFocus cascade around it; made by `load`.

    Batches are split over all devices of this process. Calls may come from several threads at once. A program is
    compiled once for each padded shape, when it is first needed, or all of them at once by `warm_up`.
    """

    def __init__(self, config: Config, variables: Variables, categories: Sequence[str]):
        self.config = config
        self.categories = _checked(categories, config)
        self._worker = Worker(variables, config)

    def changed(self, change: Callable[[Config], Config]) -> Model:
        """The same detector run with other settings, as `with_sides` and `with_thresholds` make them.

        Compiled programs are shared unless the buckets differ. Raises ConfigError for another detector.
        """
        config = change(self.config)
        if config.detector != self.config.detector:
            raise ConfigError("these settings change the detector; load its weights with their own config")
        other = copy.copy(self)
        other.config, other._worker = config, self._worker.changed(config)
        return other

    def renamed(self, categories: Sequence[str]) -> Model:
        """The same with other names of its classes; ConfigError unless there are as many."""
        other = copy.copy(self)
        other.categories = _checked(categories, self.config)
        return other

    def detect(self, chips: ChipBatch, placements: Sequence[Placement] = ()) -> DetectorOutput:
        """The detector alone, a focus.cascade.Detect; returns at once, with arrays that are still being computed."""
        return self._worker.detect(chips, placements)

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compiles every bucket's program; calls `progress` after each."""
        self._worker.warm_up(progress)

    def __call__(self, images: Image | Sequence[Image], score: float = 0.5, stages: bool = False) -> Any:
        """The Result of one image, or a list of them for a list or tuple of images, whose chips share batches.

        score: detections below it are left out. stages: keep chips and focus maps of every scale in Result.stages.
        Raises ImageError, which names the image, for the first that cannot be read.
        """
        several = isinstance(images, list | tuple)
        given = list(images) if several else [images]
        results = []
        for image, outcome in zip(given, self.stream((lambda i=i: as_rgb(i) for i in given), stages)):
            if outcome.error is not None:
                which = f"image {outcome.index} of the list: " if several else ""
                raise ImageError(f"{which}{outcome.error}")
            results.append(self.result(outcome, _name(image)).above(score))
        return results if several else results[0]

    def stream(
        self, readers: Iterable[Callable[[], np.ndarray]], stages: bool = False, window: int | None = None
    ) -> Iterator[Outcome]:
        """Outcomes of any number of images, in their order; readers return uint8 RGB [h, w, 3] or raise ImageError.

        window: images whose chips share batches, and a bound of those that are held; by default Config.window.
        """
        return self._worker.stream(readers, stages, window)

    def result(self, outcome: Outcome, name: str | None = None) -> Result:
        """An outcome without error as a Result."""
        info = outcome.info
        return Result(*outcome.detections, self.categories, outcome.size, int(info.pixels.sum()),
                      int(info.full_pixels.sum()), name, outcome.stages)  # fmt: skip


def load(
    weights: str | os.PathLike,
    config: Config | None = None,
    categories: Sequence[str] | None = None,
) -> Model:
    """A Model of a .safetensors file, a training's --workdir, or the name of shipped weights ("demo").

    config: by default the one that the weights were made with, which lies beside them. categories: names of the
    classes; by default those that lie beside the weights, else "class 0", "class 1" …

    Raises WeightsError, CheckpointError or ConfigError, one line.
    """
    return Model(*read_weights(weights, config, categories))


def read_weights(
    weights: str | os.PathLike, config: Config | None = None, categories: Sequence[str] | None = None
) -> tuple[Config, Variables, tuple[str, ...]]:
    """What `load` makes a Model of, as `load` finds it: settings, variables of the detector, names of the classes."""
    path = Path(weights)
    # A name alone is that of shipped weights first, or a folder "demo" would take their place; ./demo is the folder.
    bare = os.fspath(weights) == path.name and (not path.suffix or not path.exists())
    if bare and path.suffix in ("", ".safetensors") and _is_shipped(path.stem):
        path = safetensors.shipped(f"{path.stem}.safetensors")
    metadata = {"config": trained_with(path)} if path.is_dir() else safetensors.load(path)[1]
    if config is None:
        if not metadata["config"]:
            raise ConfigError(f"{path} holds no config.json; give the config it was trained with")
        config = from_dict(metadata["config"], SOURCES, str(path))
    variables = load_variables(path, config)
    config = dataclasses.replace(config, buckets=holding(config.buckets, config.scales))
    return config, variables, _checked(categories or stored_categories(metadata, config), config)


def stored_categories(metadata: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """Names of the classes: those beside the weights, those of the rendered scenes, or numbered ones."""
    names = metadata.get("categories")
    if isinstance(names, list) and len(names) == config.detector.num_classes:
        return tuple(map(str, names))
    if isinstance(config.data, ScenesSource) and config.detector.num_classes == len(CATEGORIES):
        return CATEGORIES
    return tuple(f"class {number}" for number in range(config.detector.num_classes))


def with_sides(config: Config, sides: Sequence[tuple[int, int]]) -> Config:
    """The config with other (min side, max side) of its scales, and buckets that hold the new levels.

    Valid ranges stay as they are: they are in image pixels. training.chip grows when it has to hold scale 1. Raises
    ConfigError unless there is a pair for every scale.
    """
    if len(sides) != len(config.scales):
        raise ConfigError(f"{len(sides)} pairs of sides for {len(config.scales)} scales; give one for each")
    scales = tuple(dataclasses.replace(scale, min_side=low, max_side=high)
                   for scale, (low, high) in zip(config.scales, sides))  # fmt: skip
    chip = max(config.training.chip, -(-scales[0].max_side // STRIDE) * STRIDE)
    training = dataclasses.replace(config.training, chip=chip)
    return dataclasses.replace(config, scales=scales, buckets=holding(config.buckets, scales), training=training)


def with_thresholds(config: Config, thresholds: Sequence[float]) -> Config:
    """The config with other thresholds of its chip rules: one for all of them or one for each scale but the last."""
    count = len(config.scales) - 1
    if len(thresholds) not in (1, count):
        raise ConfigError(f"{len(thresholds)} thresholds for {count} chip rules; give one, or {count}")
    values = list(thresholds) * (count if len(thresholds) == 1 else 1)
    rules = [dataclasses.replace(scale.chips, threshold=value) for scale, value in zip(config.scales, values)]
    scales = [dataclasses.replace(scale, chips=rule) for scale, rule in zip(config.scales, rules)]
    return dataclasses.replace(config, scales=(*scales, config.scales[-1]))


def holding(buckets: Sequence[Bucket], scales: Sequence[Scale]) -> tuple[Bucket, ...]:
    """Buckets, and for every scale whose whole level fits none of them, in either orientation, one that it fits."""
    result = list(buckets)
    for scale in scales:
        short, long = (-(-side // STRIDE) * STRIDE for side in (scale.min_side, scale.max_side))
        for height, width in ((short, long), (long, short)):
            if not any(bucket.height >= height and bucket.width >= width for bucket in result):
                result.append(Bucket(height, width, 1))
    return tuple(result)


def as_rgb(image: Image) -> np.ndarray:
    """uint8 RGB [h, w, 3] of a path, a NumPy array or a PIL image.

    Files and PIL images are turned as their orientation tag says; transparency is laid on white; of 16 bits a sample
    the upper 8 are kept. Raises ImageError for what is no image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, oriented=True)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # PIL, which is not imported for this
        image = _of_pil(image)
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{type(image).__name__} is no image; give a path, a NumPy array or a PIL image")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"an array of {image.dtype} is no image; give uint8 from 0 to 255")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ImageError(f"an array of shape {list(image.shape)} is no image; give [h, w, 3], [h, w, 4] or [h, w]")
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 4:
        opacity = image[..., 3:].astype(np.float32) / 255
        image = np.round(image[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(image)


def _of_pil(image: Any) -> np.ndarray:
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        transparent = image.has_transparency_data
        return np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"PIL image {getattr(image, 'filename', '')!r} cannot be decoded ({error})") from None


def _checked(categories: Sequence[str], config: Config) -> tuple[str, ...]:
    if len(categories) != config.detector.num_classes:
        raise ConfigError(f"{len(categories)} names of categories for a detector of {config.detector.num_classes}; "
                          "give as many")  # fmt: skip
    return tuple(categories)


def _is_shipped(name: str) -> bool:
    try:
        safetensors.shipped(f"{name}.safetensors")
    except safetensors.WeightsError:
        return False
    return True


def _name(image: Image) -> str | None:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else getattr(image, "filename", None) or None
