"""What the differentiations share."""

import jax
import jax.numpy as jnp
import pytest

from agents.networks_convolution import convolve
from learner.meta_gradients import base


@pytest.mark.parametrize(("padding", "loops"), [(None, 1), ("SAME", 0)])
@pytest.mark.parametrize("items", [1, 3])
def test_in_turn_loops_over_all_but_convolutions(padding, loops, items):
    keys = jax.random.split(jax.random.key(0), 2)
    w = jax.random.normal(keys[0], (3, 3, 2, 4))
    x = jax.random.normal(keys[1], (items, 5, 6, 6, 2))

    def function(x):
        if padding is None:
            return {"y": jnp.tanh(x) * w.sum()}
        return {"y": jax.grad(lambda w: jnp.sum(convolve(x, w, 1, padding) ** 2))(w)}

    program = jax.make_jaxpr(lambda x: base.in_turn(function, x))(x)
    assert str(program).count("scan[") == (loops if items > 1 else 0)
    result, expected = jax.jit(lambda x: base.in_turn(function, x))(x), jax.vmap(function)(x)
    assert jnp.allclose(result["y"], expected["y"], rtol=1e-4)
