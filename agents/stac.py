"""STAC (Zahavy et al. 2020): every differentiable hyperparameter of the loss is self-tuned.

γ, λ and leaky V-trace's α are sigmoids; each loss weight is its outer weight times a sigmoid.
"""

from agents.actor_critic import actor_critic
from agents.config import HYPERPARAMETERS, AgentSettings
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = HYPERPARAMETERS


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: γ, λ, α and the three loss weights; the outer loss adds a KL to the policy at the window's start."""
    return actor_critic(spec, settings, SELF_TUNED)
