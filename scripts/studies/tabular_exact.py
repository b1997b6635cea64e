"""Tabular MDPs by dynamic programming: exact values, and what the sampled policy gradients are in expectation.

A policy is a table of logits [S, A]. Every function is differentiable, in the logits and in the rewards: `jax.grad`
gives exact policy gradients, `jax.hessian` exact Hessians. Episodes begin in state 0.
"""

import jax
import jax.numpy as jnp

from actors.environments.tabular_mdp import MDP
from agents.types import Array


def values(mdp: MDP, logits: Array, gamma: float) -> Array:
    """[S] discounted return from each state, without a horizon: solves v = r_π + γ P_π v."""
    policy = jax.nn.softmax(logits)
    transition = jnp.einsum("sa,sax->sx", policy, mdp.transition)
    reward = jnp.sum(policy * mdp.reward, axis=-1)
    return jnp.linalg.solve(jnp.eye(len(reward)) - gamma * transition, reward)


def episode_values(mdp: MDP, logits: Array, gamma: float, horizon: int, end: Array | float = 0.0) -> Array:
    """[H+1, S] value at each time of an episode of H steps that is worth `end` ([S]) where it is cut off."""
    policy = jax.nn.softmax(logits)
    last = jnp.broadcast_to(jnp.asarray(end, logits.dtype), logits.shape[:1])

    def earlier(later: Array, _: None) -> tuple[Array, Array]:
        now = jnp.sum(policy * _action_values(mdp, gamma, later), axis=-1)
        return now, now

    _, found = jax.lax.scan(earlier, last, length=horizon)
    return jnp.concatenate([found[::-1], last[None]])


def occupancies(mdp: MDP, logits: Array, gamma: float, horizon: int) -> Array:
    """[H, S] γ^t times the probability of each state at time t."""
    transition = jnp.einsum("sa,sax->sx", jax.nn.softmax(logits), mdp.transition)
    first = jnp.eye(len(logits), dtype=logits.dtype)[0]
    return jax.lax.scan(lambda now, _: (gamma * now @ transition, now), first, length=horizon)[1]


def expected_surrogate(
    name: str,
    mdp: MDP,
    logits: Array,
    gamma: float,
    horizon: int,
    *,
    baseline: Array | float = 0.0,
    end: Array | float = 0.0,
    behaviour: Array | None = None,
) -> Array:
    """What a surrogate of `agents.surrogates` is in expectation over episodes, up to a constant: a function whose
    first and second derivatives in the logits are the expectations of the sampled one's (λ = α = 1 or on-policy,
    states discounted).

    Where the sampled surrogate stops gradients, this does: the episodes' distribution and what follows an action are
    constants, except for the DiCEs and LSF, which have every derivative of the return.

    Args:
      name: any of these surrogates.
      logits: [S, A].
      baseline: [S] the values that advantages are over; only "plain" depends on them.
      end: [S] value where an episode is cut off, a constant in the logits.
      behaviour: [S, A] logits of the policy that acts, read by "off_policy" alone (with α = 0: ratios not clipped).
    """
    end = jax.lax.stop_gradient(end)
    if name in ("dice", "loaded_dice", "off_policy_dice", "lsf"):
        return episode_values(mdp, logits, gamma, horizon, end)[0, 0]
    fixed = jax.lax.stop_gradient(logits)
    acting = fixed if behaviour is None else behaviour
    ahead = episode_values(mdp, fixed, gamma, horizon, end)[1:]
    action_value = jax.vmap(lambda later: _action_values(mdp, gamma, later))(ahead)  # [H, S, A]
    visited = occupancies(mdp, acting, gamma, horizon)
    if name == "plain":
        advantage = action_value - jnp.asarray(baseline)[..., None]
        return jnp.einsum("ts,sa,tsa,sa->", visited, jax.nn.softmax(fixed), advantage, jax.nn.log_softmax(logits))
    return jnp.einsum("ts,tsa,sa->", visited, action_value, jax.nn.softmax(logits))


def _action_values(mdp: MDP, gamma: float, later: Array) -> Array:
    """[S, A] r + γ P v of the values [S] one step later."""
    return mdp.reward + gamma * mdp.transition @ later
