"""LPG (Oh et al. 2020): the update rule itself is learned.

The agent has a policy and a categorical prediction y(s) without a meaning of its own. A backward LSTM with parameters η
reads each stream's rewards, terminations, probabilities of the actions taken and embedded predictions, and says where
both should go: the inner loss is -π̂ log π(a|s) + α_y KL(y(s) || ŷ), π̂ and ŷ being the LSTM's. What it reads of θ is
stopped. A critic of the outer discount learns beside, for the outer loss's advantages; where the torso has layers it
shapes them, too (the paper's critic is apart).

The L2 penalties on π̂ and ŷ are those of the batch that the window ends with (the paper's are of all its batches).
"""

import dataclasses

import jax
import jax.numpy as jnp

from agents import losses
from agents.config import AgentSettings
from agents.networks import make_network
from agents.networks_meta import rule_network
from agents.rules import INPUTS, load_rule, rule_sizes
from agents.types import LAST, Agent, Array, EnvironmentSpec, NetworkOutput, Trajectory, real_transitions

SELF_TUNED = ()
ALSO_TUNED = "the rule"


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: the LSTM's parameters; with `lpg.rule` they and their sizes are a file's, η is empty, and the rule stays."""
    inner, outer, config = settings.inner, settings.outer, settings.lpg
    frozen = load_rule(config.rule) if config.rule else None
    if frozen:
        config = dataclasses.replace(config, **rule_sizes(frozen))
    network = make_network(settings.network, spec, {"prediction": config.predictions})
    rule = rule_network(INPUTS, config.predictions, config.hidden, config.embedding)

    def loss_scale(trajectory: Trajectory) -> float:
        return losses.reduction_scale(trajectory, inner.reduction)

    def apply_rule(meta: dict, output: NetworkOutput, trajectory: Trajectory) -> tuple[Array, Array]:
        """-> π̂ [T, B], ŷ logits [T, B, m]."""
        log_prob = losses.action_log_prob(output.logits[:-1], trajectory.action)
        reward = losses.clip_reward(trajectory.reward, inner.reward_clip).astype(log_prob.dtype)
        inputs = (reward, trajectory.discount.astype(log_prob.dtype), jnp.full_like(log_prob, outer.gamma))
        inputs = jnp.stack([*inputs, jnp.exp(log_prob)], axis=-1)
        y = jax.nn.softmax(output.heads["prediction"])
        inputs, y = jax.lax.stop_gradient((inputs, y))
        # Read backwards, what follows the end of an episode is none of this one's business.
        ends = jnp.asarray(trajectory.step_type[1:] == LAST)
        return rule.apply(frozen or meta, inputs, y[:-1], y[1:], ends)

    def inner_loss(meta, output, trajectory):
        real = real_transitions(trajectory.step_type)
        direction, target = apply_rule(meta, output, trajectory)
        log_prob = losses.action_log_prob(output.logits[:-1], trajectory.action)
        policy = jnp.where(real, -direction * log_prob, 0.0)
        kl = losses.mean_kl(output.heads["prediction"][:-1], target, trajectory)
        critic, logs = losses.outer_critic_loss(output, trajectory, inner, outer)
        loss = jnp.mean(policy, axis=0) + losses.weighted(config.prediction_weight, kl) + critic
        logs |= {"rule_policy": jnp.mean(policy), "rule_prediction": jnp.mean(kl)}
        if not frozen:  # η in the batch's own terms
            logs |= {"meta/direction": jnp.mean(direction), "meta/direction_std": jnp.std(direction)}
        return loss_scale(trajectory) * loss, logs

    def outer_loss(output, trajectory, anchor_logits):
        loss, logs = losses.outer_loss(output, trajectory, anchor_logits, inner, outer)
        log_y = jax.nn.log_softmax(output.heads["prediction"][:-1])
        entropy = -jnp.sum(jnp.exp(log_y) * log_y, axis=-1) * real_transitions(trajectory.step_type)
        loss -= losses.weighted(config.prediction_entropy, jnp.mean(entropy, axis=0))
        return loss_scale(trajectory) * loss, logs | {"entropy_y": jnp.mean(entropy)}

    def meta_penalty(meta, output, trajectory):
        direction, target = apply_rule(meta, output, trajectory)
        squares = losses.weighted(config.direction_penalty, jnp.square(direction))
        squares += losses.weighted(config.target_penalty, jnp.sum(jnp.square(jax.nn.softmax(target)), axis=-1))
        loss = jnp.mean(jnp.where(real_transitions(trajectory.step_type), squares, 0.0), axis=0)
        return loss_scale(trajectory) * loss

    return Agent(
        init=network.init,
        initial_state=network.initial_state,
        step=network.step,
        unroll=network.unroll,
        init_meta=lambda key: {} if frozen else rule.init(key),
        meta_values=lambda meta: {},
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=bool(outer.kl_weight),
        meta_penalty=None if frozen or not (config.direction_penalty or config.target_penalty) else meta_penalty,
        stream_score=losses.stream_score,
        stream_return=lambda trajectory, logits=None: losses.stream_return(trajectory, inner, outer, logits),
        loss_scale=loss_scale,
    )
