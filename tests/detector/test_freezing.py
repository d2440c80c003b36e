"""What is frozen, by name."""

import jax
import jax.numpy as jnp
import pytest

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.freezing import freeze_norms, freeze_stages, in_frozen_stage
from autofocus_jax.weights.safetensors import flatten

PLAIN = BackboneConfig()
FROZEN_FROM = {  # least number of frozen stages with which an array is not trained; None: it always is
    "backbone/conv0/kernel": 1,
    "backbone/bn0/scale": 1,
    "backbone/bn_data/bias": 1,
    "backbone/stage1_unit1/shortcut/kernel": 2,
    "backbone/stage1_unit12/bn1/bias": 2,
    "backbone/stage4_unit1/conv2/kernel": 5,
    "proposal_head/conv/kernel": None,
    "box_head/fc1/bias": None,
    "focus_head/conv1/kernel": None,
}


@pytest.mark.parametrize("name", FROZEN_FROM)
def test_stages_by_name(name):
    least = FROZEN_FROM[name]
    for stages in range(6):
        assert in_frozen_stage(PLAIN, tuple(name.split("/")), stages) == (least is not None and stages >= least)


def test_a_head_without_modules_is_no_stage():
    assert not in_frozen_stage(PLAIN, ("kernel",), 5)


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_no_gradient_flows_to_frozen_stages(tiny_variables, stages):
    def total(params):
        frozen = freeze_stages(PLAIN, {**tiny_variables, "params": params}, stages)["params"]
        return sum((value**2).sum() for value in jax.tree.leaves(frozen))

    params = jax.tree.map(jnp.ones_like, tiny_variables["params"])
    for name, gradient in flatten(jax.grad(total)(params)).items():
        assert (gradient == (0 if in_frozen_stage(PLAIN, tuple(name.split("/")), stages) else 2)).all(), name


def test_no_gradient_flows_to_frozen_norms(tiny_variables):
    def total(params):
        return sum((v**2).sum() for v in jax.tree.leaves(freeze_norms({**tiny_variables, "params": params})["params"]))

    gradient = flatten(jax.grad(total)(jax.tree.map(jnp.ones_like, tiny_variables["params"])))
    still = {name for name, value in gradient.items() if not value.any()}
    assert still == {name for name in gradient if name.split("/")[-2].startswith("bn")} and len(still) > 10
