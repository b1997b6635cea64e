"""Surrogates of the policy-gradient loss: one first-order gradient, different second-order ones.

What an inner update's Jacobian dθ'/dθ holds depends on how the sampled policy gradient was written down
(Liu et al. 2022): differentiated twice, the plain form forgets that other parameters would have drawn other actions.
box(x) is exp(x - sg(x)): 1, with the gradient of x (Foerster et al. 2018).
"""

import jax
import jax.numpy as jnp

from agents.types import FIRST, LAST, Array, Trajectory, real_transitions


def box(x: Array) -> Array:
    """1, with the gradient of x, of all orders."""
    return jnp.exp(x - jax.lax.stop_gradient(x))


def score_function(weights: Array, log_prob: Array) -> Array:
    """Σ w log p, all of one shape: where w is a constant its gradient is Σ w ∇log p, of expectation ∇E[w] (SF: Tang
    2021, Section 3; the sampling correction is this, with weights of what comes later)."""
    return jnp.vdot(weights, log_prob)


def linearised(contribution: Array, log_prob: Array) -> Array:
    """A sample's contribution to what is differentiated further, as a function of the parameters that drew the sample:
    of their score, that is, to first order (LSF: Tang 2021, Section 4; box: Foerster et al. 2018). Any shape."""
    return contribution * box(log_prob)


def policy_surrogate(
    name: str,
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    unweighted: Array,
    value: Array,
    reward: Array,
    discount: Array,
    trajectory: Trajectory,
    *,
    decay: float,
    discount_states: bool,
) -> Array:
    """[T, B] what the policy maximises, transition by transition; 0 on reset transitions.

    Args:
      name: "plain", A log π; "lvc", A box(log π): the dependence on the own action only (low-variance curvature,
        Rothfuss et al. 2019); "loaded_dice", A (box(w) - box(w - log π)) with w the decayed sum of the episode's log π
        up to t (Farquhar et al. 2019; decay 0 is LVC); "dice", γ^t r box(w) with the baseline V (Foerster et al. 2018;
        its first-order gradient is that of the discounted objective, γ^t A log π); "off_policy", A' exp(log π - log μ)
        (Liu et al. 2022), which reuses the samples of another policy μ; "off_policy_dice", "dice" with exp(w - w_μ) for
        box(w) (Liu et al. 2022, for LOLA), w and w_μ the sums of log π and of log μ up to t: every derivative of the
        return from the episodes of μ, unclipped; "lsf", "dice" with w of the whole episode (within the segment) at
        every t: an episode as one sample X with φ = R ∇log p(X) (Tang 2021, Eq. 11); with a decay below 1 so much less
        of the scores' products, with 0 none.
      log_prob: [T, B] log π(a|s), differentiable.
      behaviour_log_prob: [T, B] of the policy that acted.
      advantage: [T, B] importance-weighted, constant in θ.
      unweighted: [T, B] the same before its own importance ratio; read by "off_policy".
      value: [T+1, B] constant in θ; reward, discount: [T, B], γ included; read by the two "dice" and "lsf".
      trajectory: where episodes end.
      decay: of "loaded_dice" and "lsf".
      discount_states: weigh each transition by γ^t, as "dice" does anyway: without it the policy gradient takes states
        as they come, and is no function's gradient where γ < 1 (Nota and Thomas 2020).
    """
    real = real_transitions(trajectory.step_type)
    log_prob = jnp.where(real, log_prob, 0.0)
    if name == "plain":
        surrogate = advantage * log_prob
    elif name == "lvc":
        surrogate = linearised(advantage, log_prob)
    elif name == "off_policy":
        surrogate = unweighted * jnp.exp(log_prob - jnp.where(real, behaviour_log_prob, 0.0))
    elif name == "loaded_dice":
        until = _since_start(log_prob, trajectory.step_type, decay)
        surrogate = advantage * (box(until) - box(until - log_prob))
    else:
        acted = jnp.where(real, behaviour_log_prob, 0.0)
        log_ratio = log_prob - (acted if name == "off_policy_dice" else jax.lax.stop_gradient(log_prob))
        until = _since_start(log_ratio, trajectory.step_type, 1.0)
        if name == "lsf":
            until += _to_end(log_ratio, trajectory.step_type) - log_ratio
        # Where the segment or a truncated episode ends, what is to come is the value of its last observation.
        ends = (jnp.arange(len(log_prob)) == len(log_prob) - 1)[:, None] | (trajectory.step_type[1:] == LAST)
        total = reward + jnp.where(ends, discount * value[1:], 0.0)
        surrogate = total * jnp.exp(until) + value[:-1] * (1.0 - jnp.exp(log_ratio))
        if name == "lsf":
            surrogate = decay * surrogate + (1.0 - decay) * (total * until - value[:-1] * log_ratio)
    if discount_states or name in ("dice", "off_policy_dice", "lsf"):
        surrogate *= discount_since_start(discount, trajectory.step_type)
    return jnp.where(real, surrogate, 0.0)


def _since_start(x: Array, step_type: Array, decay: float) -> Array:
    """[T, B] Σ decay^(t-u) x_u over the transitions u <= t of the episode (within the segment)."""
    return _gathered(x, step_type[:-1] == FIRST, decay)


def _to_end(x: Array, step_type: Array) -> Array:
    """[T, B] Σ x_u over the transitions u >= t of the episode (within the segment)."""
    return _gathered(x, step_type[1:] == LAST, 1.0, reverse=True)


def _gathered(x: Array, anew: Array, decay: float, reverse: bool = False) -> Array:
    """[T, B] decayed sums of x along time, which begin anew where `anew` says so."""

    def add(so_far: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        x, begins = now
        new = x + jnp.where(begins, 0.0, decay * so_far)
        return new, new

    return jax.lax.scan(add, jnp.zeros_like(x[0]), (x, anew), reverse=reverse)[1]


def discount_since_start(discount: Array, step_type: Array) -> Array:
    """[T, B] product of the discounts of the episode's transitions before t (within the segment)."""
    before = jnp.concatenate([jnp.ones_like(discount[:1]), discount[:-1]])
    before = jnp.where(step_type[:-1] == FIRST, 1.0, before)

    def multiply(so_far: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, starts = now
        new = jnp.where(starts, 1.0, so_far * factor)
        return new, new

    return jax.lax.scan(multiply, jnp.ones_like(discount[0]), (before, step_type[:-1] == FIRST))[1]
