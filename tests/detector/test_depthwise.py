"""Depthwise convolutions and their written gradients against XLA's grouped convolution and its derived ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.detector.depthwise import Depthwise, depthwise, same_pads


def grouped(x, kernel, stride, dilation, pads):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [pads, pads], rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


@pytest.mark.parametrize(("side", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2)])
def test_answers_and_gradients(side, stride, dilation):
    random = np.random.default_rng(0)
    x, kernel = (random.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 12, 3), (side, side, 1, 3)))
    pads = same_pads(side, stride, dilation)
    answer = jax.jit(lambda *of: depthwise(*of, stride, dilation))(x, kernel)
    theirs = grouped(x, kernel, stride, dilation, pads)
    assert answer.shape == (2, 8 // stride, 12 // stride, 3)
    np.testing.assert_allclose(answer, theirs, atol=1e-5)
    weight = random.standard_normal(answer.shape).astype(np.float32)
    own = jax.jit(jax.grad(lambda *of: (depthwise(*of, stride, dilation) * weight).sum(), (0, 1)))(x, kernel)
    derived = jax.grad(lambda *of: (grouped(*of, stride, dilation, pads) * weight).sum(), (0, 1))(x, kernel)
    for one, other in zip(own, derived, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_pads_are_those_of_tensorflow():
    assert [same_pads(side, 2) for side in (3, 5)] == [(0, 1), (1, 2)]
    assert [same_pads(3, 1), same_pads(5, 1), same_pads(5, 1, 2)] == [(1, 1), (2, 2), (4, 4)]


def test_the_layer_computes_in_its_type():
    layer = Depthwise(3, bias=True, dtype=jnp.bfloat16)
    x = jnp.ones((1, 4, 4, 2))
    variables = layer.init(jax.random.key(0), x)
    assert {array.dtype for array in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert layer.apply(variables, x).dtype == jnp.bfloat16
