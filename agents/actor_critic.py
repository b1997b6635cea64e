"""What the actor-critic agents share: network, inner loss and outer loss. They differ in what is self-tuned."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from agents import losses
from agents.config import HYPERPARAMETERS, AgentSettings
from agents.meta_params import MetaParameter, MetaParameters
from agents.networks import make_network, num_features
from agents.types import Agent, Array, EnvironmentSpec, MetaParams, NetworkOutput, Trajectory

OUTER_CRITIC = "outer_value"  # the head of `outer.separate_critic`


class LearnedReward(NamedTuple):
    """A reward with meta-parameters of its own."""

    init: Callable[[Array], dict[str, MetaParams]]  # (key) -> raw meta-parameters, by names of their own
    reward: Callable[[MetaParams, Trajectory], Array]  # (all raw meta-parameters, trajectory) -> [T, B]
    game_weight: float = 1.0  # of the game's clipped reward, which it is added to


def actor_critic(
    spec: EnvironmentSpec,
    settings: AgentSettings,
    self_tuned: Sequence[str],
    *,
    auxiliary_heads: int = 0,
    learned_reward: LearnedReward | None = None,
) -> Agent:
    """An agent whose `self_tuned` hyperparameters of the inner loss are meta-parameters, the others fixed.

    `settings.self_tuned.parameters`, where given, replace the list. The outer loss is the same actor-critic loss with
    the fixed hyperparameters of `settings.outer`, plus the KL to the anchor, on the main head. Each of the auxiliary
    heads (STACX) is another policy and value with hyperparameters of its own in the inner loss, named with its number.
    A learned reward (LIRPG) is added to the clipped rewards of the inner loss's policies and values.
    """
    inner, outer = settings.inner, settings.outer
    names = settings.self_tuned.parameters or tuple(self_tuned)
    suffixes = ["", *(f"_{i + 1}" for i in range(auxiliary_heads))]
    tuned = MetaParameters(
        [_meta_parameter(name, suffix, settings) for suffix in suffixes for name in names],
        settings.self_tuned,
        num_features(settings.network, spec),
    )
    widths = {OUTER_CRITIC: 1} if outer.separate_critic else {}
    if auxiliary_heads:
        widths |= {"auxiliary_policy": auxiliary_heads * spec.num_actions, "auxiliary_value": auxiliary_heads}
    network = make_network(settings.network, spec, widths)
    fixed = {name: getattr(inner, name) for name in HYPERPARAMETERS}
    written = {"surrogate": inner.surrogate, "surrogate_decay": inner.surrogate_decay} | losses.loss_settings(inner)
    if learned_reward:
        written["reward_weight"] = learned_reward.game_weight

    def loss_scale(trajectory: Trajectory) -> float:
        return losses.reduction_scale(trajectory, inner.reduction)

    def outer_critic(output: NetworkOutput) -> NetworkOutput:
        return output._replace(value=output.heads[OUTER_CRITIC][..., 0]) if outer.separate_critic else output

    def inner_loss(meta, output, trajectory):
        values = tuned.values(meta, output, trajectory)
        extra = learned_reward.reward(meta, trajectory) if learned_reward else 0.0
        loss, logs = 0.0, {}
        if learned_reward:  # η in the batch's own terms
            logs = {"meta/learned_reward": jnp.mean(extra), "meta/learned_reward_std": jnp.std(extra)}
        for head, suffix in enumerate(suffixes):
            own = fixed | {name: values[name + suffix] for name in names}
            scored = _head(output, head, auxiliary_heads)
            part, parts = losses.actor_critic_loss(own, scored, trajectory, **written, extra_reward=extra)
            loss += part
            logs |= {name + suffix: value for name, value in parts.items()}
        if outer.separate_critic:
            part, parts = losses.outer_critic_loss(outer_critic(output), trajectory, inner, outer)
            loss += part
            logs["outer_critic"] = parts["value"]
        return loss_scale(trajectory) * loss, logs | tuned.logs(values)

    def outer_loss(output, trajectory, anchor_logits):
        loss, logs = losses.outer_loss(outer_critic(output), trajectory, anchor_logits, inner, outer)
        return loss_scale(trajectory) * loss, logs

    def init_meta(key: Array) -> MetaParams:
        tuned_key, reward_key = jax.random.split(key)
        return tuned.init(tuned_key) | (learned_reward.init(reward_key) if learned_reward else {})

    return Agent(
        init=network.init,
        initial_state=network.initial_state,
        step=network.step,
        unroll=network.unroll,
        init_meta=init_meta,
        meta_values=tuned.scalars,
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=bool(outer.kl_weight),
        stream_score=losses.stream_score,
        stream_return=lambda trajectory, logits=None: losses.stream_return(trajectory, inner, outer, logits),
        init_context=tuned.init_context,
        next_context=tuned.next_context,
        loss_scale=loss_scale,
    )


def _meta_parameter(name: str, suffix: str, settings: AgentSettings) -> MetaParameter:
    """STAC's bounds: 1 for γ, λ and α; for a loss weight its outer one (or the entropy's own bound, where set)."""
    bound = getattr(settings.outer, name) if name.endswith("_weight") else 1.0
    if name == "entropy_weight":
        bound = settings.self_tuned.entropy_bound or bound
    return MetaParameter(name + suffix, bound, getattr(settings.meta_init, name))


def _head(output: NetworkOutput, head: int, auxiliary_heads: int) -> NetworkOutput:
    """The output of policy and value `head`: 0 is the main one."""
    if head == 0:
        return output
    logits = output.heads["auxiliary_policy"]
    logits = logits.reshape((*logits.shape[:-1], auxiliary_heads, -1))
    return NetworkOutput(logits[..., head - 1, :], output.heads["auxiliary_value"][..., head - 1])
