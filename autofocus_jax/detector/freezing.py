"""Freezing: the parts of a detector that are not trained (batch norms, the backbone's first stages)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax

from autofocus_jax.config import BackboneConfig, ConfigError, DetectorSettings, TrainingConfig
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.backbone import backbone_of


def in_frozen_stage(config: BackboneConfig, path: tuple[str, ...], stages: int) -> bool:
    """Return True if a parameter belongs to one of the backbone's first stages.

    Args:
        config: the backbone.
        path: path of the parameter, as ("backbone", "stage1_unit2", "conv1", "kernel").
        stages: number of frozen stages (TrainingConfig.frozen_stages).

    Raises:
        ConfigError: the backbone has fewer stages, or no stage for this parameter.
    """
    if stages == 0 or path[0] != "backbone":
        return False
    patterns = backbone_of(config).frozen
    if stages > len(patterns):
        raise ConfigError(f"training.frozen_stages {stages}; want 0 to {len(patterns)}: backbone {config.kind!r} names "
                          "no more stages")  # fmt: skip
    found = [number for number, pattern in enumerate(patterns) if re.fullmatch(pattern, path[1])]
    if not found:
        raise ConfigError(f"backbone {config.kind!r} has {path[1]!r} in no stage, so it cannot be frozen; name it in "
                          "Backbone.frozen")  # fmt: skip
    return found[0] < stages


def freeze(config: DetectorSettings, training: TrainingConfig, variables: Variables) -> Variables:
    """Return the variables with gradients stopped for everything that these settings freeze.

    Every loss begins with it.
    """
    if config.frozen_norm:
        variables = freeze_norms(variables)
    return freeze_stages(config.backbone, variables, training.frozen_stages) if training.frozen_stages else variables


def freeze_stages(config: BackboneConfig, variables: Variables, stages: int) -> Variables:
    """Return the variables with gradients stopped for the parameters of the first stages."""

    def stop(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
        frozen = in_frozen_stage(config, tuple(part.key for part in path), stages)
        return jax.lax.stop_gradient(value) if frozen else value

    return {**variables, "params": jax.tree_util.tree_map_with_path(stop, variables["params"])}


def freeze_norms(variables: Variables) -> Variables:
    """Return the variables with gradients stopped for scales and shifts of layers that have batch statistics."""

    def stop(params, statistics):
        if all(isinstance(value, Mapping) for value in statistics.values()):
            return {name: stop(value, statistics[name]) if name in statistics else value
                    for name, value in params.items()}  # fmt: skip
        return jax.tree.map(jax.lax.stop_gradient, params)

    return {**variables, "params": stop(variables["params"], variables["batch_stats"])}
