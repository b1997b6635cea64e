"""LIRPG (Zheng, Oh and Singh 2018): an intrinsic reward is learned, for the environment's reward's sake.

The inner loss is the actor-critic's on c r + β r_in(s, a), where r_in is the tanh of a network η of its own; c is 1,
and 0 where the authors delay rewards. The outer loss sees the environment's reward alone; its critic must not be the
inner one, which learns the mixed reward's value: hence `outer.separate_critic`. (The authors' code keeps that critic
among the meta-parameters; here it is a head of θ, which learns beside the inner loss, whatever c is.)
"""

import jax.numpy as jnp

from agents.actor_critic import LearnedReward, actor_critic
from agents.config import AgentSettings
from agents.losses import of_action, weighted
from agents.networks import make_function
from agents.types import Agent, Array, EnvironmentSpec, MetaParams, Trajectory

SELF_TUNED = ()
ALSO_TUNED = "r_in(s, a)"


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: the parameters of r_in (with those of `self_tuned.parameters`, where given)."""
    return actor_critic(spec, settings, SELF_TUNED, learned_reward=intrinsic_reward(spec, settings))


def intrinsic_reward(spec: EnvironmentSpec, settings: AgentSettings) -> LearnedReward:
    """β r_in(s, a), with the raw meta-parameters "intrinsic_reward", beside c r."""
    init, unroll = make_function(settings.network, spec, spec.num_actions)

    def reward(meta: MetaParams, trajectory: Trajectory) -> Array:
        of_actions = jnp.tanh(unroll(meta["intrinsic_reward"], trajectory)[:-1])
        return weighted(settings.intrinsic.weight, of_action(of_actions, trajectory.action))

    return LearnedReward(lambda key: {"intrinsic_reward": init(key)}, reward, settings.intrinsic.reward_weight)
