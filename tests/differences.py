"""Gradients against central finite differences."""

import jax
import jax.numpy as jnp
import numpy as np


def assert_equals_differences(function, x, gradient, eps=1e-5):
    """`function` at trees around `x`, in one random direction for each leaf: all of them at once could hide one."""
    rng = np.random.default_rng(2)
    leaves, structure = jax.tree.flatten(x)
    for index, of_leaf in enumerate(jax.tree.leaves(gradient)):
        direction = rng.normal(size=leaves[index].shape)
        ends = []
        for sign in (1, -1):
            moved = [leaf + sign * eps * direction if i == index else leaf for i, leaf in enumerate(leaves)]
            ends.append(function(jax.tree.unflatten(structure, moved)))
        difference = (ends[0] - ends[1]) / (2 * eps)
        assert abs(difference) > 1e-7, f"leaf {index} moves nothing"
        np.testing.assert_allclose(jnp.vdot(of_leaf, direction), difference, rtol=1e-5, atol=1e-9)
