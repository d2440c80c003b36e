"""Folded batch norms change the layers, not the answer."""

import dataclasses

import jax
import numpy as np
import pytest

from autofocus_jax.detector.folding import fold
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.two_stage_network import forward
from autofocus_jax.weights.fit import strict
from autofocus_jax.weights.safetensors import flatten

_forward = jax.jit(forward, static_argnums=0)


@pytest.mark.parametrize(("kind", "groups"), [("v2", 0), ("v2", 2), ("v1", 2)])
def test_same_maps(tiny_detector, draw_variables, chip_batch, kind, groups):
    backbone = dataclasses.replace(tiny_detector.backbone, kind=kind, deformable_groups=groups)
    config = dataclasses.replace(tiny_detector, backbone=backbone)
    variables = draw_variables(config)
    before = {name: array.copy() for name, array in flatten(variables).items()}
    folded, fewer = fold(config, variables)
    strict(fewer, jax.eval_shape(detector_of(folded).init, jax.random.key(0)))
    assert "batch_stats" not in fewer
    chips = chip_batch([np.random.default_rng(0).integers(0, 256, (25, 33, 3), np.uint8)], 32, 48)
    for one, other in zip(_forward(config, variables, chips), _forward(folded, fewer, chips)):
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(one).max())
    assert all((before[name] == array).all() for name, array in flatten(variables).items())
    assert fold(folded, fewer) == (folded, fewer)
