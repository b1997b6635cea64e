"""What the actor-critic agents share: network, inner loss and outer loss. They differ in what is self-tuned."""

from collections.abc import Sequence

import jax.numpy as jnp

from agents import losses, meta_params
from agents.config import InnerLossConfig, OuterLossConfig
from agents.meta_params import MetaParameter
from agents.networks import Network
from agents.types import Agent, real_transitions


def actor_critic(
    network: Network, inner: InnerLossConfig, outer: OuterLossConfig, self_tuned: Sequence[MetaParameter]
) -> Agent:
    """An agent whose `self_tuned` hyperparameters of the inner loss are meta-parameters, the others fixed at `inner`.

    The outer loss is the same actor-critic loss with the fixed hyperparameters `outer`, plus the KL to the anchor.
    """
    fixed = {name: getattr(inner, name) for name in losses.HYPERPARAMETERS}
    outer_fixed = {name: getattr(outer, name) for name in losses.HYPERPARAMETERS if name != "alpha"} | {"alpha": 1.0}
    clips = {"rho_clip": inner.rho_clip, "reward_clip": inner.reward_clip}

    def inner_loss(meta, output, trajectory):
        hyperparameters = fixed | meta_params.values(self_tuned, meta)
        loss, logs = losses.actor_critic_loss(hyperparameters, output, trajectory, **clips)
        return losses.reduction_scale(trajectory, inner.reduction) * loss, logs

    def outer_loss(output, trajectory, anchor_logits):
        loss, logs = losses.actor_critic_loss(outer_fixed, output, trajectory, **clips)
        if outer.kl_weight:
            kl = losses.kl_to_anchor(output, anchor_logits, trajectory)
            loss += outer.kl_weight * kl
            logs["kl"] = jnp.mean(kl)
        return losses.reduction_scale(trajectory, inner.reduction) * loss, logs

    def stream_return(trajectory):
        # The policy-gradient part of the outer loss is the (negative) gradient of the mean reward a step, in the
        # loss's own units; the sampling correction must weigh scores in the same ones.
        reward = losses.clip_reward(trajectory.reward, inner.reward_clip) * real_transitions(trajectory.step_type)
        scale = outer.policy_weight * losses.reduction_scale(trajectory, inner.reduction)
        return scale * jnp.mean(reward, axis=0)

    return Agent(
        init=network.init,
        initial_state=network.initial_state,
        step=network.step,
        unroll=network.unroll,
        init_meta=lambda: meta_params.init(self_tuned),
        meta_values=lambda meta: meta_params.values(self_tuned, meta),
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=bool(outer.kl_weight),
        stream_return=stream_return,
    )
