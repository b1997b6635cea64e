"""The actor-critic loss, inner and outer alike, and the score of a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from agents.config import HYPERPARAMETERS, InnerLossConfig, OuterLossConfig
from agents.returns import leaky_vtrace
from agents.surrogates import discount_since_start, policy_surrogate
from agents.types import Array, NetworkOutput, Trajectory, real_transitions


def of_action(values: Array, action: Array) -> Array:
    """values [..., A], action [...] -> the value of each action [...]."""
    return jnp.take_along_axis(values, action[..., None].astype(jnp.int32), axis=-1)[..., 0]


def action_log_prob(logits: Array, action: Array) -> Array:
    """logits [..., A], action [...] -> log π(action) [...]."""
    return of_action(jax.nn.log_softmax(logits), action)


def stream_score(output: NetworkOutput, trajectory: Trajectory) -> Array:
    """[B]: Σ_t log π(a_t|s_t) over each stream's real actions: S_j of the sampling correction (No DICE, Eq. 10).

    A sum, not a mean, and without the reset transitions, whose actions the environment ignored.
    """
    log_prob = action_log_prob(output.logits[:-1], trajectory.action)
    return jnp.sum(jnp.where(real_transitions(trajectory.step_type), log_prob, 0.0), axis=0)


def clip_reward(reward: Array, limit: float) -> Array:
    """Rewards clipped to [-limit, limit]; limit 0 leaves them."""
    return jnp.clip(reward, -limit, limit) if limit else reward


def weighted(weight: Array | float, term: Array) -> Array | float:
    """weight · term; where a weight is fixed at 0, nothing of the term, whatever its value (0 · inf is NaN)."""
    return 0.0 if isinstance(weight, int | float) and weight == 0 else weight * term


def reduction_scale(trajectory: Trajectory, reduction: str) -> float:
    """What a mean over time and streams is multiplied by: T·B for "sum", 1 for "mean"."""
    steps, streams = trajectory.reward.shape
    return float(steps * streams) if reduction == "sum" else 1.0


def actor_critic_loss(
    hyperparameters: Mapping[str, Array],
    output: NetworkOutput,
    trajectory: Trajectory,
    *,
    rho_clip: float,
    reward_clip: float,
    reward_weight: float = 1.0,
    extra_reward: Array = 0.0,
    surrogate: str = "plain",
    surrogate_decay: float = 1.0,
    discount_states: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """The loss of IMPALA and STAC (Zahavy et al. 2020): g_p L_policy + g_v L_value - g_e H.

    Differentiable in θ through log π, V and the entropy; in the hyperparameters through targets, advantages and
    weights. Values inside targets, importance ratios and behaviour logits are constants.

    Args:
      hyperparameters: the six `HYPERPARAMETERS`, each a scalar, one a stream, [B], or one a transition, [T, B].
      output: logits [T+1, B, A] and value [T+1, B] at the parameters being scored.
      trajectory: T transitions of B streams.
      rho_clip: ρ-bar of V-trace.
      reward_clip: rewards are clipped to [-x, x]; 0 for not.
      reward_weight: of the clipped rewards; 0 leaves no trace of them.
      extra_reward: [T, B] added to them; differentiable through the targets.
      surrogate, surrogate_decay, discount_states: how the policy gradient is written down (see `agents.surrogates`).

    Returns:
      [B] the loss of each stream, a mean over its T transitions (reset transitions count as zero), and the parts.
    """
    real = real_transitions(trajectory.step_type)
    logits, value = output.logits[:-1], output.value
    log_policy = jax.nn.log_softmax(logits)
    log_prob = action_log_prob(logits, trajectory.action)
    behaviour = action_log_prob(trajectory.behaviour_logits, trajectory.action)
    log_ratio = jax.lax.stop_gradient(log_prob) - behaviour
    rho = jnp.where(real, jnp.exp(log_ratio), 0.0).astype(value.dtype)
    reward = weighted(reward_weight, clip_reward(trajectory.reward, reward_clip).astype(value.dtype)) + extra_reward
    discount = hyperparameters["gamma"] * trajectory.discount.astype(value.dtype)
    targets = leaky_vtrace(
        value,
        reward,
        discount,
        rho,
        trace_lambda=hyperparameters["trace_lambda"],
        alpha=hyperparameters["alpha"],
        rho_clip=rho_clip,
    )
    mask = real.astype(value.dtype)
    policy = -policy_surrogate(
        surrogate,
        log_prob,
        behaviour,
        targets.advantage,
        targets.unweighted,
        jax.lax.stop_gradient(value),
        reward,
        discount,
        trajectory,
        decay=surrogate_decay,
        discount_states=discount_states,
    )
    critic = 0.5 * jnp.square(targets.value - value[:-1]) * mask
    entropy = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1) * mask
    loss = (
        weighted(hyperparameters["policy_weight"], policy)
        + weighted(hyperparameters["value_weight"], critic)
        - weighted(hyperparameters["entropy_weight"], entropy)
        + jnp.zeros_like(policy)  # where none of them has a weight
    )
    logs = {"policy": jnp.mean(policy), "value": jnp.mean(critic), "entropy": jnp.mean(entropy), "rho": jnp.mean(rho)}
    return jnp.mean(loss, axis=0), logs


def outer_hyperparameters(outer: OuterLossConfig) -> dict[str, float]:
    """The fixed hyperparameters of the outer loss; its V-trace is not leaky."""
    return {name: getattr(outer, name) for name in HYPERPARAMETERS if name != "alpha"} | {"alpha": 1.0}


def loss_settings(inner: InnerLossConfig) -> dict[str, Any]:
    """What the inner and the outer loss have in common, as arguments of `actor_critic_loss`."""
    return {name: getattr(inner, name) for name in ("rho_clip", "reward_clip", "discount_states")}


def outer_loss(
    output: NetworkOutput, trajectory: Trajectory, anchor_logits: Array, inner: InnerLossConfig, outer: OuterLossConfig
) -> tuple[Array, dict[str, Array]]:
    """`actor_critic_loss` with the outer hyperparameters, plus the KL to the anchor where it has a weight."""
    loss, logs = actor_critic_loss(outer_hyperparameters(outer), output, trajectory, **loss_settings(inner))
    if outer.kl_weight:
        kl = kl_to_anchor(output, anchor_logits, trajectory)
        loss += outer.kl_weight * kl
        logs["kl"] = jnp.mean(kl)
    return loss, logs


def outer_critic_loss(
    output: NetworkOutput, trajectory: Trajectory, inner: InnerLossConfig, outer: OuterLossConfig
) -> tuple[Array, dict[str, Array]]:
    """How θ learns the outer discount's values beside an inner loss that learns others: as `actor_critic_loss`."""
    no_weights = {name: 0.0 for name in HYPERPARAMETERS if name.endswith("_weight")}
    hyperparameters = outer_hyperparameters(outer) | no_weights | {"value_weight": inner.value_weight}
    return actor_critic_loss(
        hyperparameters, output, trajectory, rho_clip=inner.rho_clip, reward_clip=inner.reward_clip
    )


def mean_kl(first: Array, second: Array, trajectory: Trajectory) -> Array:
    """[B]: mean over time of KL(p || q) of the distributions with logits `first` and `second`, [T, B, n] each."""
    log_p, log_q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    kl = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    return jnp.mean(jnp.where(real_transitions(trajectory.step_type), kl, 0.0), axis=0)


def kl_to_anchor(output: NetworkOutput, anchor_logits: Array, trajectory: Trajectory) -> Array:
    """[B]: mean over time of KL(π || π_anchor), the anchor stopped (Zahavy et al. 2020: new policy first)."""
    return mean_kl(output.logits[:-1], jax.lax.stop_gradient(anchor_logits)[:-1], trajectory)


def reach_ratio(logits: Array, trajectory: Trajectory) -> Array:
    """[T, B]: Π_{s ≤ t} π(a_s) / μ(a_s) over the batch's real actions: how much likelier the policy with `logits`
    [T+1, B, A] is to get from the batch's start to transition t as it was. Nothing is clipped.
    """
    log_ratio = action_log_prob(logits[:-1], trajectory.action)
    log_ratio -= action_log_prob(trajectory.behaviour_logits, trajectory.action)
    return jnp.exp(jnp.cumsum(jnp.where(real_transitions(trajectory.step_type), log_ratio, 0.0), axis=0))


def stream_return(
    trajectory: Trajectory, inner: InnerLossConfig, outer: OuterLossConfig, logits: Array | None = None
) -> Array:
    """[B]: what the actor-critic outer loss stands for: its policy part is minus the gradient of the mean reward a
    step, in the loss's own units. The sampling correction must weigh scores in the same ones. Rewards are discounted
    where the loss discounts states. With `logits` [T+1, B, A] it is an estimate, without bias, of what their policy
    would have earned from the batch's start; without, what the policy that acted has.
    """
    reward = clip_reward(trajectory.reward, inner.reward_clip) * real_transitions(trajectory.step_type)
    if logits is not None:
        reward *= reach_ratio(logits, trajectory)
    if inner.discount_states:
        reward *= discount_since_start(outer.gamma * trajectory.discount, trajectory.step_type)
    return outer.policy_weight * reduction_scale(trajectory, inner.reduction) * jnp.mean(reward, axis=0)
