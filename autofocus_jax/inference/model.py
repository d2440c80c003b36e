"""A detector in two lines: model = load("demo"); result = model("photo.jpg")."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from autofocus_jax import parallel
from autofocus_jax.checkpoint import load_variables, trained_with
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config_dict import from_dict
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.rgb import Image, as_rgb
from autofocus_jax.data.tfds import TfdsSource
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.detector.model import Variables
from autofocus_jax.focus.cascade import Detect, Outcome, Reader
from autofocus_jax.focus.chips import ChipFunction
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import CompiledDetector, compile_detector
from autofocus_jax.inference.settings import holding
from autofocus_jax.result import Result
from autofocus_jax.scenes.source import CATEGORIES, ScenesSource
from autofocus_jax.structures import Bucket, ImageError
from autofocus_jax.weights import safetensors

SOURCES = {kind.__name__: kind for kind in (CocoSource, ScenesSource, TfdsSource, VocSource, YoloSource)}


class Model:
    """A detector with the AutoFocus cascade around it, and the names of its classes.

    `load` makes one of stored weights, `Model.compiled` one of variables in memory. `Model(detect, plan, names)` takes
    any detector, with no config and no weights behind it. Calls may come from several threads at once if `detect` bears
    that, as a compiled detector does. What it finds in an image does not depend on the images beside it.

    Attributes: `detect` (a focus.cascade.Detect), `plan`, `categories`, and `config` (None for a detector without one).
    """

    def __init__(self, detect: Detect, plan: Plan, categories: Sequence[str], config: Config | None = None):
        """Put a detector and a plan together.

        Args:
            detect: the detector.
            plan: the scales, buckets and rules.
            categories: name of each class that the detector scores.
            config: the settings that the detector was made with, for `changed`.
        """
        self.detect, self.plan, self.categories, self.config = detect, plan, tuple(categories), config
        self._compile: Callable[[Config], CompiledDetector] | None = None

    @classmethod
    def compiled(
        cls,
        config: Config,
        variables: Variables,
        categories: Sequence[str],
        rules: Sequence[ChipFunction] | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> Model:
        """Return a Model of variables of config.detector, compiled once for each bucket, when it is first needed.

        Args:
            config: the settings.
            variables: those of config.detector.
            categories: name of each class.
            rules: chip rules of one's own, one for each scale but the last; by default Algorithm 1.
            devices: batches are split over these; by default all of this process.
        """
        devices = jax.local_devices() if devices is None else list(devices)

        def compile_for(config: Config) -> CompiledDetector:
            buckets = parallel.spread(config.buckets, len(devices))
            return compile_detector(dataclasses.replace(config, buckets=buckets), variables, devices)

        detect = compile_for(config)
        plan = dataclasses.replace(Plan.of(config, rules), buckets=detect.buckets)
        model = cls(detect, plan, _checked(categories, config), config)
        model._compile = compile_for
        return model

    def changed(self, change: Callable[[Config], Config]) -> Model:
        """Return the same detector run with other settings, as `with_sides` and `with_thresholds` make them.

        Compiled programs are shared unless the buckets differ. Rules of one's own stay. Raises ConfigError for another
        detector, and for a Model without a config.
        """
        if self.config is None or self._compile is None:
            raise ConfigError("this model has no config to change; use Model.planned with another plan")
        config = change(self.config)
        if config.detector != self.config.detector:
            raise ConfigError("these settings change the detector; load its weights with their own config")
        other = copy.copy(self)
        other.config = config
        if config.buckets != self.config.buckets:
            other.detect = self._compile(config)
        other.plan = dataclasses.replace(Plan.of(config, self.plan.rules), buckets=other.detect.buckets)
        return other

    def planned(self, plan: Plan) -> Model:
        """Return the same detector run with another plan, for example `model.plan.pyramid()`."""
        other = copy.copy(self)
        other.plan = plan
        return other

    def renamed(self, categories: Sequence[str]) -> Model:
        """Return the same with other names of its classes; ConfigError unless there are as many."""
        if len(categories) != len(self.categories):
            raise ConfigError(f"{len(categories)} names of categories for a detector of {len(self.categories)}; "
                              "give as many")  # fmt: skip
        other = copy.copy(self)
        other.categories = tuple(categories)
        return other

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compile the program of every bucket and call `progress` after each, if the detector compiles any."""
        if hasattr(self.detect, "warm_up"):
            self.detect.warm_up(progress)

    def __call__(self, images: Image | Sequence[Image], score: float = 0.5, stages: bool = False) -> Any:
        """Return the Result of one image, or a list of them for a list or tuple of images, whose chips share batches.

        Args:
            images: paths, NumPy arrays of uint8 or PIL images.
            score: detections below it are left out.
            stages: keep chips and focus maps of every scale in Result.stages.

        Raises:
            ImageError: names the first image that cannot be read.
        """
        several = isinstance(images, list | tuple)
        given = list(images) if several else [images]
        readers = ((position, lambda image=image: as_rgb(image)) for position, image in enumerate(given))
        results = []
        for image, outcome in zip(given, self.stream(readers, stages)):
            if outcome.error is not None:
                which = f"image {outcome.key} of the list: " if several else ""
                raise ImageError(f"{which}{outcome.error}")
            results.append(self.result(outcome, _name(image)).above(score))
        return results if several else results[0]

    def stream(
        self,
        images: Iterable[tuple[Hashable, Reader]],
        stages: bool = False,
        window: int | None = None,
        threads: int | None = None,
        keep_images: bool = False,
    ) -> Iterator[Outcome]:
        """Yield the Outcome of any number of images, in their order.

        Args:
            images: (key, reader) of each image; readers return uint8 RGB [h, w, 3] or raise ImageError.
            stages: fill Outcome.stages.
            window: images that share batches, and a bound of those that are held; by default that of the plan.
            threads: that read, and as many that crop and stack; by default one for each core, at most 16.
            keep_images: fill Outcome.image.
        """
        plan = self.plan if window is None else dataclasses.replace(self.plan, window=window)
        return engine.stream(images, self.detect, plan, threads=threads, keep_stages=stages, keep_images=keep_images)

    def result(self, outcome: Outcome, name: str | None = None) -> Result:
        """Return an outcome without error as a Result."""
        cost = outcome.cost
        return Result(*outcome.detections, self.categories, outcome.size, int(cost.pixels.sum()),
                      int(cost.full_pixels.sum()), name, outcome.stages)  # fmt: skip


def load(
    weights: str | os.PathLike,
    config: Config | None = None,
    categories: Sequence[str] | None = None,
    rules: Sequence[ChipFunction] | None = None,
) -> Model:
    """Return a Model of stored weights.

    Args:
        weights: a .safetensors file, a training's --workdir, or the name of shipped weights ("demo").
        config: by default the one that the weights were made with, which lies beside them.
        categories: names of the classes; by default those that lie beside the weights, else "class 0", "class 1" …
        rules: chip rules of one's own, one for each scale but the last; by default Algorithm 1.

    Raises:
        WeightsError, CheckpointError, ConfigError: one line.
    """
    return Model.compiled(*read_weights(weights, config, categories), rules)


def read_weights(
    weights: str | os.PathLike, config: Config | None = None, categories: Sequence[str] | None = None
) -> tuple[Config, Variables, tuple[str, ...]]:
    """What `load` makes a Model of, as `load` finds it: settings, variables of the detector, names of the classes."""
    path = Path(weights)
    if not path.exists() and path.parent == Path() and path.suffix in ("", ".safetensors"):
        path = safetensors.shipped(f"{path.stem}.safetensors") if _is_shipped(path.stem) else path
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
