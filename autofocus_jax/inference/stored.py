"""Stored weights with their settings and names of the classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.config.stored import from_dict
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.tfds import TfdsSource
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.kinds import DETECTORS
from autofocus_jax.focus.buckets import holding
from autofocus_jax.scenes.source import CATEGORIES, ScenesSource
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables, notes, trained_with

SOURCES = {kind.__name__: kind for kind in (CocoSource, ScenesSource, TfdsSource, VocSource, YoloSource)}


def read_weights(
    weights: str | os.PathLike, config: Config | None = None, categories: Sequence[str] | None = None
) -> tuple[Config, Variables, tuple[str, ...]]:
    """Return settings, variables and names of the classes of stored weights; the arguments are those of `load`."""
    path = safetensors.find(weights)
    said = metadata(path)
    if config is None:
        if not said["config"]:
            raise ConfigError(f"{path} holds no config.json; give the config it was trained with")
        config = from_dict(said["config"], SOURCES | {kind.__name__: kind for kind in DETECTORS}, str(path))
    variables = load_variables(path, config)
    config = dataclasses.replace(config, buckets=holding(config.buckets, config.scales))
    return config, variables, checked_names(categories or stored_categories(said, config), config)


def metadata(path: Path) -> dict[str, Any]:
    """Return what a file of weights or a training folder says of itself: "config", "categories" (or None), and more."""
    if path.is_dir():
        return {"config": trained_with(path), "categories": notes(path).get("categories")}
    return {"categories": None} | safetensors.load(path)[1]


def stored_categories(metadata: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """Return the names of the classes: those beside the weights, those of the rendered scenes, or numbered names."""
    names = metadata.get("categories")
    if isinstance(names, list) and len(names) == config.detector.num_classes:
        return tuple(map(str, names))
    if isinstance(config.data, ScenesSource) and config.detector.num_classes == len(CATEGORIES):
        return CATEGORIES
    return tuple(f"class {number}" for number in range(config.detector.num_classes))


def checked_names(categories: Sequence[str], config: Config) -> tuple[str, ...]:
    """Return the names.

    Raises:
        ConfigError: the number of names is not the number of classes of the config's detector.
    """
    if len(categories) != config.detector.num_classes:
        raise ConfigError(f"{len(categories)} names of categories for a detector of {config.detector.num_classes}; "
                          "give as many")  # fmt: skip
    return tuple(categories)
