"""STACX (Zahavy et al. 2020): STAC with auxiliary heads, each with self-tuned parameters of its own.

Every auxiliary head is a policy and a value on the shared torso, with its own copy of STAC's six parameters and its own
share of the inner loss. Acting and the outer loss use the main head alone: the auxiliary losses shape the torso, and η
learns how far.
"""

from agents.actor_critic import actor_critic
from agents.config import HYPERPARAMETERS, AgentSettings
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = HYPERPARAMETERS


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: STAC's six parameters for each of 1 + inner.auxiliary_heads heads ("gamma", "gamma_1", ...)."""
    return actor_critic(spec, settings, SELF_TUNED, auxiliary_heads=settings.inner.auxiliary_heads)
