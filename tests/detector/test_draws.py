"""Parameters are drawn in one dimension and are the numbers that JAX's own initializers draw."""

import jax
import numpy as np
import pytest
from jax.nn import initializers

from autofocus_jax.detector.draws import he_normal, normal


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 4, 2), (6, 3), (5,)])
def test_the_numbers_are_jax_s_own(shape):
    key = jax.random.key(3)
    np.testing.assert_array_equal(normal(0.01)(key, shape), initializers.normal(0.01)(key, shape))
    if len(shape) > 1:
        np.testing.assert_allclose(he_normal()(key, shape), initializers.he_normal()(key, shape), rtol=1e-6)


def test_an_output_of_a_depthwise_kernel_sums_over_its_side():
    key, shape = jax.random.key(4), (3, 3, 1, 6)
    expected = initializers.he_normal(in_axis=(0, 1), out_axis=(2, 3))(key, shape)
    np.testing.assert_allclose(he_normal(outputs=2)(key, shape), expected, rtol=1e-6)
