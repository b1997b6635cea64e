"""The bootstrapped objective (BMG, Flennerhag et al. 2021): match where the learner is going, not the outer loss.

A window is K + L - 1 inner updates. The meta-gradient goes through its first K; L - 1 more, with the same rule, and one
step on the outer loss make the target, through which nothing is differentiated. Training goes on from θ^(K+L-1): the
target's last step is discarded.
"""

from typing import Any

import jax
import jax.numpy as jnp

from agents.losses import mean_kl, weighted
from agents.types import Array, Params, Trajectory, real_transitions
from learner.config import BootstrapConfig
from learner.inner_update import InnerState, InnerUpdate


def matching_gradient(
    update: InnerUpdate,
    config: BootstrapConfig,
    params: Params,
    final: InnerState,
    outer_gradient: Params,
    trajectory: Trajectory,
    count: Array,
) -> tuple[Params, dict[str, Array]]:
    """∂μ(target, θ)/∂θ at θ^K, and the parts of the matching loss μ.

    The target is one step of the inner optimiser from `final` along `outer_gradient`: on the outer loss, with the
    inner learning rate and, where it has one, its preconditioner. μ is the weighted sum of KL(π_target || π), of half
    the squared difference of the values, both in the units of the agent's losses (a sum over the batch's transitions
    or a mean; a reset's is 0), and of ½|θ - θ_target|². As in those losses, the parts are logged as means.

    Args:
      update: the inner update rule.
      config: the weights.
      params: θ^K.
      final: θ^(K+L-1) and its optimiser state.
      outer_gradient: of the outer loss at `final`.
      trajectory: whose states are matched on.
      count: inner updates before `final`, for the learning rate.
    """
    target = jax.lax.stop_gradient(update.apply(outer_gradient, final, count).params)
    goal = update.agent.unroll(target, trajectory)
    real, scale = real_transitions(trajectory.step_type), update.agent.loss_scale(trajectory)

    def loss(params: Params) -> tuple[Array, dict[str, Any]]:
        output = update.agent.unroll(params, trajectory)
        kl = jnp.mean(mean_kl(goal.logits[:-1], output.logits[:-1], trajectory))
        value = jnp.mean(jnp.where(real, 0.5 * jnp.square(goal.value - output.value)[:-1], 0.0))
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(target), strict=True)
        distance = 0.5 * sum(jnp.sum(jnp.square(a - b)) for a, b in pairs)
        parts = {"match_policy": kl, "match_value": value, "match_parameters": distance}
        matched = weighted(config.match_policy, kl) + weighted(config.match_value, value)
        return scale * matched + weighted(config.match_parameters, distance), parts

    return jax.grad(loss, has_aux=True)(params)
