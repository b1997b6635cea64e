"""Off-policy value targets and advantages that are differentiable in the meta-parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import rlax

from agents.types import Array


class Targets(NamedTuple):
    value: Array  # [T, B] target of V(observation[t])
    advantage: Array  # [T, B], importance-weighted: what multiplies the gradient of log π
    unweighted: Array  # [T, B], the same before its own transition's importance ratio


def leaky_vtrace(
    values: Array,
    reward: Array,
    discount: Array,
    rho: Array,
    *,
    trace_lambda: Array,
    alpha: Array,
    rho_clip: float,
) -> Targets:
    """Leaky V-trace (Zahavy et al. 2020; α = 1 is V-trace, Espeholt et al. 2018).

    ρ' = α min(ρ-bar, ρ) + (1-α) ρ and c = λ (α min(1, ρ) + (1-α) ρ).

    Gradients flow through `discount`, `trace_lambda` and `alpha` and nowhere else: values and ratios are stopped here.
    On a reset transition pass ρ = 0. That ends the trace there, and gives the same targets as two separate
    trajectories would: the step before bootstraps from its own last observation if its discount says so.

    Args:
      values: [T+1, B] V(observation[t]).
      reward: [T, B] follows action[t].
      discount: [T, B] γ times the environment's discount.
      rho: [T, B] π(a|s) / μ(a|s), not clipped; 0 on reset transitions.
      trace_lambda: λ, broadcastable to [T, B]; at t it is that of observation[t+1], as the discount is.
      alpha: α, broadcastable to [T, B].
      rho_clip: ρ-bar.
    """
    values, rho = jax.lax.stop_gradient((values, rho))
    lambda_, alpha = jnp.broadcast_to(trace_lambda, rho.shape), jnp.broadcast_to(alpha, rho.shape)

    def one_stream(v_tm1, v_t, r_t, discount_t, rho_tm1, alpha, lambda_):
        return rlax.leaky_vtrace_td_error_and_advantage(
            v_tm1,
            v_t,
            r_t,
            discount_t,
            rho_tm1,
            alpha=alpha,
            lambda_=lambda_,
            clip_rho_threshold=rho_clip,
            clip_pg_rho_threshold=rho_clip,
            # With rlax's default the targets would lose all gradient to γ, λ and α, and advantages most of it.
            stop_target_gradients=False,
        )

    out = jax.vmap(one_stream, in_axes=1, out_axes=1)(values[:-1], values[1:], reward, discount, rho, alpha, lambda_)
    weight = alpha * jnp.minimum(rho_clip, rho) + (1 - alpha) * rho
    unweighted = jnp.where(rho > 0, out.pg_advantage / jnp.where(rho > 0, weight, 1.0), 0.0)
    return Targets(value=out.errors + values[:-1], advantage=out.pg_advantage, unweighted=unweighted)
