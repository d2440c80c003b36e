"""What of a detector is not trained: batch norms, and the backbone's first stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax

from autofocus_jax.detector.model import Variables

_STEM = ("conv0", "bn0", "bn_data")


def in_frozen_stage(path: tuple[str, ...], stages: int) -> bool:
    """Whether the array of a name, as ("backbone", "stage1_unit2", "conv1", "kernel"), is of a frozen stage.

    stages: 1 freezes the stem, 2 the stem and stage 1, and so on (TrainingConfig.frozen_stages).
    """
    if stages == 0 or path[0] != "backbone":
        return False
    unit = re.match(r"stage(\d+)_", path[1])
    return path[1] in _STEM if unit is None else int(unit[1]) < stages


def freeze_stages(variables: Variables, stages: int) -> Variables:
    """The same values, but no gradient flows to the parameters of the first stages."""

    def freeze(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
        frozen = in_frozen_stage(tuple(part.key for part in path), stages)
        return jax.lax.stop_gradient(value) if frozen else value

    return {**variables, "params": jax.tree_util.tree_map_with_path(freeze, variables["params"])}


def freeze_norms(variables: Variables) -> Variables:
    """The same values, but no gradient flows to scales and shifts of layers that have batch statistics."""

    def freeze(params, statistics):
        if all(isinstance(value, Mapping) for value in statistics.values()):
            return {name: freeze(value, statistics[name]) if name in statistics else value
                    for name, value in params.items()}  # fmt: skip
        return jax.tree.map(jax.lax.stop_gradient, params)

    return {**variables, "params": freeze(variables["params"], variables["batch_stats"])}
