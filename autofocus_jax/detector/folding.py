"""Folding batch norms into the convolutions before them, for inference.

At inference a batch norm is a scale and a shift a channel. Left to the compiler, a CPU applies them to every element;
as part of the kernel they are free. In the pre-activation network the norms before a unit's first convolution follow a
sum. Their scale and shift are computed once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from autofocus_jax.config import DetectorSettings
from autofocus_jax.detector.api import Backbone, Detector, Names, Variables
from autofocus_jax.detector.backbone import backbone_of
from autofocus_jax.detector.freezing import in_frozen_stage

Settings = TypeVar("Settings", bound=DetectorSettings)


def foldable(
    make: Callable[[Any], Detector], settings: DetectorSettings, names: Names,
    proposals: Mapping[str, Callable] | None = None, **functions: Callable,
) -> Detector:  # fmt: skip
    """Return a detector whose `prepare` folds batch norms. All functions take the settings first.

    Args:
        make: returns the detector of any settings of its kind.
        settings: its settings.
        names: as in Detector.
        proposals: what Detector.proposals has in place of some functions; None for no proposals.
        functions: init, look, answer and loss of Detector.
    """

    def prepare(variables: Variables) -> tuple[Detector, Variables]:
        folded, variables = fold(settings, variables)
        return (detector if folded is settings else make(folded)), variables

    def prepare_proposals(variables: Variables) -> tuple[Detector, Variables]:
        prepared, variables = prepare(variables)
        return prepared.proposals or prepared, variables

    def bound(given: Mapping[str, Callable]) -> dict[str, Any]:
        return {name: partial(function, settings) for name, function in given.items()}

    frozen = partial(in_frozen_stage, settings.backbone)
    detector = Detector(settings, prepare=prepare, frozen=frozen, names=names, **bound(functions))
    if proposals is not None:
        detector = detector._replace(proposals=detector._replace(prepare=prepare_proposals, **bound(proposals)))
    return detector


def fold(config: Settings, variables: Any) -> tuple[Settings, Any]:
    """Return settings and variables of a detector with fewer layers and the same answers (to float tolerance).

    Folded settings stay as they are, and so does a backbone whose kind does not list its norms. The variables are not
    changed. New arrays are float32 on the host.
    """
    kind = backbone_of(config.backbone)
    if config.backbone.folded or kind.folds is None:
        return config, variables
    params, statistics = ({**variables.get(name, {})} for name in ("params", "batch_stats"))
    params["backbone"], statistics["backbone"] = _fold_module(kind, params["backbone"], statistics.get("backbone", {}))
    folded = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, folded=True))
    statistics = {name: value for name, value in statistics.items() if value}
    return folded, {"params": params} | ({"batch_stats": statistics} if statistics else {})


def _fold_module(kind: Backbone, params: Mapping, statistics: Mapping) -> tuple[dict, dict]:
    """Return modules and statistics without batch norms, at every depth.

    Norms in `folds` are folded into their convolutions, which get a new kernel and a bias. Norms without a convolution
    become a scale and a shift a channel (resnet.Affine).
    """
    params, statistics = dict(params), dict(statistics)
    for convolution, norm in (kind.folds or {}).items():
        if convolution in params and norm in statistics:  # only a stage's first unit has a shortcut of its own
            scale, bias = _affine(params.pop(norm), statistics.pop(norm), kind.epsilon)
            kernel, before = (np.asarray(params[convolution].get(name, 0.0)) for name in ("kernel", "bias"))
            params[convolution] = {"kernel": np.float32(kernel * scale), "bias": np.float32(before * scale + bias)}
    for name, value in list(statistics.items()):
        if "mean" in value:
            scale, bias = _affine(params.get(name, {}), statistics.pop(name), kind.epsilon)
            params[name] = {"scale": np.float32(scale), "bias": np.float32(bias)}
        else:
            params[name], statistics[name] = _fold_module(kind, params[name], value)
    return params, {name: value for name, value in statistics.items() if value}


def _affine(trained: Mapping, known: Mapping, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift [c] float64 of a batch norm; its own may be fixed to 1 and 0."""
    scale = np.asarray(trained.get("scale", 1.0), np.float64) / np.sqrt(np.asarray(known["var"], np.float64) + epsilon)
    return scale, np.asarray(trained.get("bias", 0.0), np.float64) - np.asarray(known["mean"], np.float64) * scale
