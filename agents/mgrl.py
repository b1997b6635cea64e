"""MGRL (Xu, van Hasselt and Silver 2018): the discount γ and the trace λ are self-tuned."""

from agents.actor_critic import actor_critic
from agents.config import AgentSettings
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = ("gamma", "trace_lambda")


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: γ and λ, as sigmoids; inner and outer loss are the actor-critic's."""
    return actor_critic(spec, settings, SELF_TUNED)
