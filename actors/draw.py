"""Drawing one of many."""

import jax
import jax.numpy as jnp

from agents.types import Array


def draw(key: Array, probabilities: Array, shape: tuple[int, ...] | None = None) -> Array:
    """probabilities [..., A], positive, of any sum -> an index [...] int32 for each, drawn in proportion to them.

    `shape`: of the result, to which [...] is broadcast where it is given: many draws by one row cost one sum.
    By inverting the cumulative sum: one random number for each, where `jax.random.categorical` makes A and takes two
    logarithms of each of these. Shares below about 1e-7 of the sum are not told from 0.
    """
    size = probabilities.shape[-1]
    # As a product: on a CPU `jnp.cumsum` takes four times as long (A = 30).
    cumulative = jnp.matmul(probabilities, jnp.triu(jnp.ones((size, size), probabilities.dtype)), precision="highest")
    uniform = jax.random.uniform(key, shape or cumulative.shape[:-1], cumulative.dtype)
    # At most A - 1: `uniform` is at most 1 - 2^-23, so that the last sum is above whatever it is rounded to.
    return jnp.sum(cumulative <= uniform[..., None] * cumulative[..., -1:], axis=-1, dtype=jnp.int32)
