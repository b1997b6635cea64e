"""Inner optimisers that are safe to differentiate through, and the optimiser of η.

optax's own Adam and RMSProp give NaN meta-gradients where a gradient coordinate is 0 (their root has an infinite
slope there), as does its global-norm clip at a zero gradient. Here eps sits inside the root, the clip factor is a
constant to the meta-gradient, and the second moment is one too unless asked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from agents.types import Array, Params
from learner.config import InnerOptimizerConfig, MetaOptimizerConfig


class InnerOptimizer(NamedTuple):
    """`init(params) -> state` and `update(grads, state, params, count) -> (params, state)`.

    The state holds float arrays only, so that adjoints and tangents have its shape; `count` (integer scalar,
    inner updates so far) is passed in for the schedule and the bias correction.
    """

    init: Callable[[Params], Any]
    update: Callable[[Params, Any, Params, Array], tuple[Params, Any]]


def clip_by_global_norm(grads: Params, max_norm: float) -> Params:
    """Scales `grads` to global norm `max_norm` if above; the factor is stopped (as in Liu et al.'s code)."""
    if not max_norm:
        return grads
    norm = optax.tree.norm(jax.lax.stop_gradient(grads))
    factor = max_norm / jnp.maximum(norm, max_norm)
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def make_inner_optimizer(config: InnerOptimizerConfig, total_updates: float) -> InnerOptimizer:
    """The optimiser of θ; with `anneal` its learning rate falls linearly to 0 at `total_updates`."""

    def learning_rate(count: Array) -> Array:
        if not config.anneal:
            return jnp.asarray(config.learning_rate, float)
        return config.learning_rate * jnp.maximum(0.0, 1.0 - count / total_updates)

    def second_moment(nu: Params, grads: Params, decay: float) -> Params:
        new = jax.tree.map(lambda n, g: decay * n + (1.0 - decay) * jnp.square(g), nu, grads)
        return new if config.differentiate_second_moment else jax.lax.stop_gradient(new)

    def init(params: Params) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"sgd": {}, "rmsprop": {"nu": zeros}, "adam": {"mu": zeros, "nu": zeros}}[config.name]

    def update(grads: Params, state: Any, params: Params, count: Array) -> tuple[Params, Any]:
        grads = clip_by_global_norm(grads, config.max_grad_norm)
        rate = learning_rate(count)
        if config.name == "sgd":
            step, new_state = grads, state
        elif config.name == "rmsprop":
            nu = second_moment(state["nu"], grads, config.decay)
            step = jax.tree.map(lambda g, n: g / jnp.sqrt(n + config.eps), grads, nu)
            new_state = {"nu": nu}
        else:
            mu = jax.tree.map(lambda m, g: config.b1 * m + (1.0 - config.b1) * g, state["mu"], grads)
            nu = second_moment(state["nu"], grads, config.b2)
            mu_scale, nu_scale = 1.0 / (1.0 - config.b1 ** (count + 1.0)), 1.0 / (1.0 - config.b2 ** (count + 1.0))
            step = jax.tree.map(lambda m, n: m * mu_scale / jnp.sqrt(n * nu_scale + config.eps), mu, nu)
            new_state = {"mu": mu, "nu": nu}
        return jax.tree.map(lambda p, s: p - (rate * s).astype(p.dtype), params, step), new_state

    return InnerOptimizer(init, update)


def of_part(optimizer: InnerOptimizer, name: str) -> InnerOptimizer:
    """Moves θ[name] alone, of a θ that is a dict: elsewhere gradients count as 0. Their derivatives do not: in LOLA the
    other's step depends on one's own policy, which stays where it is.
    """

    def update(grads: Params, state: Any, params: Params, count: Array) -> tuple[Params, Any]:
        own = {key: part if key == name else jax.tree.map(jnp.zeros_like, part) for key, part in grads.items()}
        return optimizer.update(own, state, params, count)

    return InnerOptimizer(optimizer.init, update)


def make_meta_optimizer(config: MetaOptimizerConfig, total_steps: float) -> optax.GradientTransformation:
    """The optimiser of η; with `anneal` its learning rate falls linearly to 0 at `total_steps` of η.

    Nothing differentiates through it, so it is optax's.
    """
    rate = config.learning_rate
    if config.anneal:
        rate = optax.linear_schedule(rate, 0.0, max(round(total_steps), 1))
    optimizer = {
        "sgd": lambda: optax.sgd(rate),
        "rmsprop": lambda: optax.rmsprop(rate, decay=config.decay, eps=config.eps),
        "adam": lambda: optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
    }[config.name]()
    if config.max_grad_norm:
        return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer)
    return optimizer
