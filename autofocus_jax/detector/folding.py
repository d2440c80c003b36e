"""Folding batch norms into the convolutions they follow, for inference.

In evaluation a batch norm is a scale and a shift a channel. Left to the compiler, a CPU computes them anew for every
element; as part of the kernel they are free. In the pre-activation network the norms before a unit's first convolution
follow a sum; of these the scale and the shift are computed once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector import resnet, resnet_v1

# The norm that follows each convolution: in the stem, in a unit; and the norms' epsilon.
_STEM = {"conv0": "bn0"}
_KINDS = {
    "v2": ({"conv1": "bn2", "conv2": "bn3"}, resnet.EPSILON),
    "v1": (
        {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "shortcut": "shortcut_bn"}, resnet_v1.EPSILON
    ),
}  # fmt: skip


def fold(config: DetectorConfig, variables: Any) -> tuple[DetectorConfig, Any]:
    """A config and variables of a detector that answers the same (to float tolerance) and has fewer layers.

    What is folded already stays as it is. The variables are not changed; new arrays are float32 on the host.
    """
    if config.backbone.folded:
        return config, variables
    params, statistics = ({**variables[name]} for name in ("params", "batch_stats"))
    params["backbone"], statistics["backbone"] = _fold_backbone(
        config.backbone, params["backbone"], statistics["backbone"]
    )
    folded = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, folded=True))
    statistics = {name: value for name, value in statistics.items() if value}
    return folded, {"params": params} | ({"batch_stats": statistics} if statistics else {})


def _fold_backbone(config: BackboneConfig, params: dict, statistics: dict) -> tuple[dict, dict]:
    in_unit, epsilon = _KINDS[config.kind]
    params, statistics = _fold_pairs(_STEM, epsilon, params, statistics)
    for name in [name for name in params if name.startswith("stage")]:
        params[name], statistics[name] = _fold_pairs(in_unit, epsilon, params[name], statistics[name])
    return params, {name: value for name, value in statistics.items() if value}


def _fold_pairs(pairs: dict[str, str], epsilon: float, params: dict, statistics: dict) -> tuple[dict, dict]:
    """Modules and statistics without batch norms.

    Those of `pairs` are folded into their convolutions, which get a new kernel and a bias. Those that follow no
    convolution become a scale and a shift a channel (resnet.Affine).
    """
    params, statistics = dict(params), dict(statistics)
    for convolution, norm in pairs.items():
        if convolution not in params:
            continue  # only a stage's first unit has a shortcut of its own
        scale, bias = _affine(params.pop(norm), statistics.pop(norm), epsilon)
        kernel = np.asarray(params[convolution]["kernel"])
        params[convolution] = {"kernel": np.float32(kernel * scale), "bias": np.float32(bias)}
    for norm in [name for name, value in statistics.items() if "mean" in value]:
        scale, bias = _affine(params.get(norm, {}), statistics.pop(norm), epsilon)
        params[norm] = {"scale": np.float32(scale), "bias": np.float32(bias)}
    return params, statistics


def _affine(trained: dict, known: dict, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift [c] float64 of a batch norm; its own may be fixed to 1 and 0."""
    scale = np.asarray(trained.get("scale", 1.0), np.float64) / np.sqrt(np.asarray(known["var"], np.float64) + epsilon)
    return scale, np.asarray(trained.get("bias", 0.0), np.float64) - np.asarray(known["mean"], np.float64) * scale
