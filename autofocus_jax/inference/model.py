"""A detector in two lines: model = load("demo"), or load(detector="m.onnx"); result = model("photo.jpg")."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import jax
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.data.raster import read_or_open
from autofocus_jax.data.rgb import Image, as_rgb, rgb_size
from autofocus_jax.detector.api import Variables
from autofocus_jax.focus.area import Area
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cascade import AnyDetect, Outcome, Reader
from autofocus_jax.focus.chips import ChipFunction
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.pyramid import Regions
from autofocus_jax.inference import engine
from autofocus_jax.inference.compiled import CompiledDetector, compile_detector
from autofocus_jax.inference.foreign import Propose, ready
from autofocus_jax.inference.result import Result
from autofocus_jax.inference.stored import checked_names, read_weights
from autofocus_jax.structures import Bucket, ImageError, Where


class Model:
    """A detector with the AutoFocus cascade around it, and the names of its classes.

    - `load` makes a Model from stored weights or a foreign detector, and `Model.compiled` from variables in memory.
    - `Model(detect, plan, names)` takes any detector, without config or weights.
    - Several threads may call a Model at once if `detect` allows that, as a compiled detector does.
    - The detections of an image do not depend on the other images, unless a plan is proposed from their sizes.

    Attributes:
        detect: the detector (a focus.cascade.Detect).
        plan: the scales, buckets and rules; None until one is proposed (see `proposed`).
        categories: names of the classes.
        config: settings of the detector; None for a detector without a config.
    """

    def __init__(self, detect: AnyDetect, plan: Plan | None, categories: Sequence[str], config: Config | None = None,
                 propose: Propose | None = None):  # fmt: skip
        """Join a detector and a plan.

        Args:
            detect: the detector.
            plan: the scales, buckets and rules; None if `propose` makes the plan.
            categories: name of each class that the detector scores.
            config: settings that the detector was made with, for `changed`.
            propose: function from sizes (height, width) of images, px, to a plan.
        """
        if plan is None and propose is None:
            raise ConfigError("a model needs a plan or a function that proposes one; give one of them")
        self.detect, self.plan, self.categories, self.config = detect, plan, tuple(categories), config
        self._propose = propose
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
        """Return a Model of the variables of config.detector. Each bucket is compiled once, on first use.

        Args:
            config: the settings.
            variables: parameters and batch statistics of config.detector.
            categories: name of each class.
            rules: your chip rules, one for each scale but the last; by default Algorithm 1.
            devices: batches are split over these; by default all devices of this process.
        """
        devices = jax.local_devices() if devices is None else list(devices)

        def compile_for(config: Config) -> CompiledDetector:
            buckets = parallel.spread(config.buckets, len(devices))
            return compile_detector(dataclasses.replace(config, buckets=buckets), variables, devices)

        detect = compile_for(config)
        plan = dataclasses.replace(Plan.of(config, rules), buckets=detect.buckets)
        model = cls(detect, plan, checked_names(categories, config), config)
        model._compile = compile_for
        return model

    def changed(self, change: Callable[[Config], Config]) -> Model:
        """Return the same detector with other settings, as `with_sides` and `with_thresholds` make them.

        Compiled programs are shared unless the buckets differ. Your own rules and a given area stay.

        Args:
            change: function from the config to another config.

        Raises:
            ConfigError: the change is of the detector itself, or the Model has no config.
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
        buckets = cast(CompiledDetector, other.detect).buckets
        other.plan = dataclasses.replace(Plan.of(config, self.plan.rules), buckets=buckets, area=self.plan.area)
        return other

    def planned(self, plan: Plan) -> Model:
        """Return the same detector with another plan, for example `model.plan.pyramid()`."""
        other = copy.copy(self)
        other.plan = plan
        return other

    def proposed(self, sizes: Sequence[tuple[int, int]]) -> Model:
        """Return the Model with the plan that is proposed for images of these sizes; unchanged if it has a plan.

        One plan serves all images. foreign.proposal makes it for the median of their longer sides.

        Args:
            sizes: (height, width) of the images, px.
        """
        return self if self.plan is not None else self.planned(self._propose(sizes))

    def renamed(self, categories: Sequence[str]) -> Model:
        """Return the Model with other names of its classes.

        Raises:
            ConfigError: the number of names differs.
        """
        if len(categories) != len(self.categories):
            raise ConfigError(f"{len(categories)} names of categories for a detector of {len(self.categories)}; "
                              "give as many")  # fmt: skip
        other = copy.copy(self)
        other.categories = tuple(categories)
        return other

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compile the program of every bucket, if the detector compiles any, and call `progress` after each."""
        if hasattr(self.detect, "warm_up"):
            self.detect.warm_up(progress)

    def __call__(
        self,
        images: Image | Regions | Sequence[Image | Regions],
        score: float = 0.5,
        stages: bool = False,
        area: Area | None = None,
    ) -> Any:
        """Detect objects in one image, or in a list or tuple of images, whose chips share batches.

        Args:
            images: paths, NumPy arrays of uint8, PIL images, or focus.pyramid.Regions.
            score: detections below this score are left out.
            stages: keep chips and focus maps of every scale in Result.stages.
            area: where to look (focus.area.area_of), whose keys are positions in the list; by default everywhere.

        Returns:
            A Result for one image, a list of Results otherwise.

        Raises:
            ImageError: an image cannot be read; the message names the first one.
        """
        several = isinstance(images, list | tuple)
        given: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        which = "image {} of the list: " if several else ""
        if not given:
            return []
        model = self if self.plan is not None else self.proposed(_sizes(given, which))
        if area is not None:
            plan = dataclasses.replace(model.plan, area=area)
            # What is proposed for a detector without a focus map looks everywhere; here the area says where.
            model = model.planned(plan if self.plan is not None else dataclasses.replace(plan, rules=None))
        readers = ((position, partial(_read, image)) for position, image in enumerate(given))
        results = []
        for image, outcome in zip(given, model.stream(readers, stages)):
            if outcome.error is not None:
                raise ImageError(which.format(outcome.key) + outcome.error)
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
            images: (key, reader) of each image; readers return uint8 RGB [h, w, 3] or focus.pyramid.Regions, or raise
                ImageError.
            stages: fill Outcome.stages.
            window: number of images in progress, which share batches; by default that of the plan.
            threads: number of reading threads, and of threads that crop and stack; by default one for each core, at
                most 16.
            keep_images: fill Outcome.image.
        """
        if self.plan is None:
            raise ConfigError("the model has no plan yet; use model.proposed(sizes), or load it with a plan")
        plan = self.plan if window is None else dataclasses.replace(self.plan, window=window)
        return engine.stream(images, self.detect, plan, threads=threads, keep_stages=stages, keep_images=keep_images)

    def result(self, outcome: Outcome, name: str | None = None) -> Result:
        """Return an outcome without error as a Result."""
        cost = outcome.cost
        return Result(*outcome.detections, self.categories, outcome.size, int(cost.pixels.sum()),
                      int(cost.full_pixels.sum()), name, outcome.stages)  # fmt: skip


def _read(image: Image | Regions) -> np.ndarray | Regions:
    if isinstance(image, Regions):
        return image
    return read_or_open(image) if isinstance(image, str | os.PathLike) else as_rgb(image)


def load(
    weights: str | os.PathLike | None = None,
    config: Config | None = None,
    categories: Sequence[str] | None = None,
    rules: Sequence[ChipFunction] | None = None,
    *,
    detector: Any = None,
    focus: str | os.PathLike | Where | None = "weak",
    plan: Plan | None = None,
) -> Model:
    """Return a Model of stored weights or of a foreign detector.

    Args:
        weights: a .safetensors file, a training's workdir, or the name of shipped weights ("demo").
        config: settings for the weights; by default those stored beside them.
        categories: names of the classes; by default those of the weights or the detector, else "class 0", "class 1" …
            for weights.
        rules: for weights: your chip rules, one for each scale but the last; by default Algorithm 1.
        detector: instead of weights: an .onnx file, a CropDetector, a ForeignDetect, a model of SAHI, Ultralytics,
            torchvision, transformers or MMDetection, or a function image -> detections (docs/any_detector.md).
        focus: for a detector: where to look again. "weak" means where it found something small, however weakly; a
            function of autofocus_jax.where; None means everywhere.
        plan: for a detector: a plan with loose chips; by default one is proposed from the detector's input and the
            sizes of a call's images, or by `Model.proposed`.

    Raises:
        WeightsError: the weights are missing, broken or do not fit.
        CheckpointError: a checkpoint is missing, unreadable or made with another config.
        ConfigError: settings, names or arguments do not fit.
        ForeignError: the detector cannot be loaded or understood.
    """
    if (weights is None) == (detector is None):
        raise ConfigError("load needs either weights or a detector; give one of them")
    if detector is None:
        if plan is not None:
            raise ConfigError("plan goes with detector; for weights use load(weights).planned(plan)")
        return Model.compiled(*read_weights(weights, config, categories), rules)
    if config is not None or rules is not None:
        raise ConfigError("config and rules go with weights; a detector takes a plan, which holds the rules")
    if plan is not None and not isinstance(plan.buckets, Loose):
        raise ConfigError("the plan of a detector needs loose chips; give Plan(..., buckets=Loose())")
    detect, propose = ready(detector, focus, categories)
    return Model(detect, plan, detect.categories, propose=propose)


def _sizes(images: Sequence[Image | Regions], which: str) -> list[tuple[int, int]]:
    """(height, width) of each image; ImageError, which begins with `which`, for the first that cannot be read."""
    sizes = []
    for position, image in enumerate(images):
        try:
            height, width = image.shape[:2] if isinstance(image, Regions) else rgb_size(image)
            sizes.append((height, width))
        except ImageError as error:
            raise ImageError(which.format(position) + str(error)) from None
    return sizes


def _name(image: Image | Regions) -> str | None:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else getattr(image, "filename", None) or None
