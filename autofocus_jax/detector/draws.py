"""Random parameters, drawn in one dimension: the numbers of JAX's own initializers, in programs that compile faster.

JAX counts the numbers of a draw along the flat array, so its shape does not matter to them. It matters to XLA, which
takes 0.3 s for a draw in one dimension and 1.5 s for one in four (a core of an AMD EPYC, JAX 0.10).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from autofocus_jax.structures import Array

Draw = Callable[..., Any]  # an initializer: from a key, a shape and a type to an array
_TRUNCATED = 0.87962566103423978  # deviation of a standard normal cut at 2 deviations


def normal(deviation: float) -> Draw:
    """Return an initializer that draws from a normal distribution."""

    def draw(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        return (jax.random.normal(key, (math.prod(shape),), dtype) * jnp.array(deviation, dtype)).reshape(shape)

    return draw


def he_normal(outputs: int = 1) -> Draw:
    """Return an initializer that draws from He et al.'s (2015) normal distribution, cut at two deviations.

    Args:
        outputs: so many last axes of the kernel are outputs; the others are what one output sums over.
    """

    def draw(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        summed = math.prod(shape[: len(shape) - outputs])
        deviation = jnp.sqrt(jnp.array(2.0 / max(1, summed), dtype)) / jnp.array(_TRUNCATED, dtype)
        return (jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype) * deviation).reshape(shape)

    return draw
