"""Drawing one of many."""

import jax
import jax.numpy as jnp

from agents.types import Array


def draw(key: Array, probabilities: Array) -> Array:
    """probabilities [..., A], of any positive sum -> an index [...] int32 for each, drawn in proportion to them.

    By inverting the cumulative sum: one random number for each, where `jax.random.categorical` makes A and takes two
    logarithms of each of these. What is below about 1e-7 of the sum is never drawn.
    """
    cumulative = jnp.cumsum(probabilities, axis=-1)
    uniform = jax.random.uniform(key, cumulative.shape[:-1], cumulative.dtype)
    # Below the sum even where it is rounded: `uniform` is at most 1 - 2^-23.
    return jnp.sum(cumulative <= uniform[..., None] * cumulative[..., -1:], axis=-1, dtype=jnp.int32)
