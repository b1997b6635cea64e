"""LOLA with DiCE: learning through an opponent who learns (Foerster et al. 2018a, Section 4; 2018b, Section 5).

Two players of a game each have a policy of two actions: θ is both policies, "own" and "other", tables of one logit a
state. An action of the environment is a joint one, so the log-probability in every surrogate is the two players' joint
one. Look-ahead updates move the other's policy by the policy gradient of the other's return; η is θ⁰, both policies
before them; the outer loss, behind them, is the policy gradient of one's own return. Its meta-gradient in η's "own",
∂J/∂own + (∂θ^K/∂own)ᵀ ∂J/∂other, is LOLA's: how the other learns depends on one's own policy through the episodes that
it learns from, which only surrogates with the joint past in them (the DiCEs) know. So LOLA is a MAML that moves one
half of θ only; which one, the optimiser says (`learner.optimizers.of_part`).
"""

import jax
import jax.numpy as jnp

from agents import losses
from agents.config import HYPERPARAMETERS, InnerLossConfig, OuterLossConfig
from agents.types import Agent, Array, EnvironmentSpec, NetworkOutput

OTHER_VALUE = "other_value"  # the head of the other's values


def lola(spec: EnvironmentSpec, inner: InnerLossConfig, outer: OuterLossConfig, other_reward: Array) -> Agent:
    """An agent of a two-player game of joint actions 2 · own + other, where observations are states, one-hot [S]: the
    start, then each joint action of the last round, the own one first.

    It has no critic: its values, and those of its head `OTHER_VALUE`, are 0.

    Args:
      other_reward: [4] what a joint action pays the other.
    """
    (states,) = spec.observation_shape
    inner_fixed = {name: getattr(inner, name) for name in HYPERPARAMETERS}
    seen_by_other = jnp.array([0, 1, 3, 2, 4])  # the same states with the other's action first

    def output(params, observation):
        table = _joint(params["own"], params["other"][seen_by_other])
        nothing = jnp.zeros(observation.shape[:-1], table.dtype)
        return NetworkOutput(observation @ table, nothing, heads={OTHER_VALUE: nothing[..., None]})

    def loss_scale(trajectory):
        return losses.reduction_scale(trajectory, inner.reduction)

    def inner_loss(meta, output, trajectory):
        del meta
        loss, logs = losses.actor_critic_loss(
            inner_fixed,
            output._replace(value=output.heads[OTHER_VALUE][..., 0]),
            trajectory._replace(reward=jnp.asarray(other_reward)[trajectory.action]),
            surrogate=inner.surrogate,
            surrogate_decay=inner.surrogate_decay,
            **losses.loss_settings(inner),
        )
        return loss_scale(trajectory) * loss, logs

    def outer_loss(output, trajectory, anchor_logits):
        loss, logs = losses.outer_loss(output, trajectory, anchor_logits, inner, outer)
        return loss_scale(trajectory) * loss, logs

    def init(key):
        del key
        return {"own": jnp.zeros(states), "other": jnp.zeros(states)}

    return Agent(
        init=init,
        initial_state=lambda batch_size: (),
        step=lambda params, observation, step_type, core_state: (output(params, observation), core_state),
        unroll=lambda params, trajectory: output(params, trajectory.observation),
        init_meta=lambda key: {"params": init(key)},
        meta_values=lambda meta: {},
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=bool(outer.kl_weight),
        stream_score=losses.stream_score,
        stream_return=lambda trajectory, logits=None: losses.stream_return(trajectory, inner, outer, logits),
        starts_from_meta=True,
        loss_scale=loss_scale,
    )


def _joint(own: Array, other: Array) -> Array:
    """Logits [S] of each player's first action -> log-probabilities [S, 4] of joint actions."""
    own, other = (jax.nn.log_sigmoid(jnp.stack([x, -x], axis=-1)) for x in (own, other))
    return (own[:, :, None] + other[:, None, :]).reshape(-1, 4)
