"""IMPALA (Espeholt et al. 2018): V-trace actor-critic with fixed hyperparameters. Nothing is self-tuned."""

from agents.actor_critic import actor_critic
from agents.config import AgentSettings
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = ()


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η is empty; the inner loss is the actor-critic's."""
    return actor_critic(spec, settings, SELF_TUNED)
