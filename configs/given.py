"""What a user gives on the command line and nothing reads: said, not ignored.

A preset may hold such settings, for the agent that it is made for; so what is looked at is what was given beside it.
"""

from collections.abc import Collection
from typing import Any

from configs.tree import ConfigError, flag
from configs.validate import AGENTS, self_tuned

# What only matters where something is tuned.
_OF_WINDOWS = ("window", "meta_gradient.", "meta_optimizer.", "meta_init.", "bootstrap.")
_OF_LEARNING_A_RULE = ("lpg.prediction_entropy", "lpg.direction_penalty", "lpg.target_penalty")
_SIZES_OF_A_RULE = ("lpg.predictions", "lpg.hidden", "lpg.embedding")
_OF_THE_PLAIN_GRADIENT = ("lvc", "loaded_dice")  # surrogates that differ from plain in their second derivatives alone
_OF_ONE_AGENT = {"intrinsic.": "lirpg", "lpg.": "lpg", "bandit.": "bandit"}


def check_given(config: Any, given: Collection[str]) -> None:
    """Raises ConfigError where a setting that the user has `given` another value, by path, is not read by the agent."""
    for path in given:
        if config.agent == "impala" and path.startswith(_OF_WINDOWS):
            raise ConfigError(f"{flag(path)} has no effect with --agent impala, which tunes nothing; leave it out")
        if config.lpg.rule and path.startswith(_OF_WINDOWS + _OF_LEARNING_A_RULE):
            raise ConfigError(
                f"{flag(path)} has no effect with a rule that is held still, which tunes nothing; leave it out"
            )
        if config.lpg.rule and path in _SIZES_OF_A_RULE:
            raise ConfigError(f"{flag(path)} has no effect with --rule, whose file says how large it is; leave it out")
        for group, agent in _OF_ONE_AGENT.items():
            # Of agents that are not ours nobody knows what they read.
            if path.startswith(group) and config.agent != agent and config.agent in AGENTS:
                raise ConfigError(f"{flag(path)} has no effect with --agent {config.agent}; use --agent {agent}")
    if "inner.surrogate" in given:
        _check_surrogate(config)
    for name in self_tuned(config):
        if f"inner.{name}" in given:
            raise ConfigError(
                f"{flag(f'inner.{name}')}: {getattr(config.inner, name):g} has no effect with --agent {config.agent},"
                f" which tunes it; it is born as {flag(f'meta_init.{name}')} says, a raw value (docs/agents.md)"
            )


def _check_surrogate(config: Any) -> None:
    """Raises ConfigError where a surrogate with the plain gradient is given, and no second derivative is read."""
    if config.inner.surrogate not in _OF_THE_PLAIN_GRADIENT:
        return
    name = f"--inner.surrogate: {config.inner.surrogate} has no effect with"
    if config.agent == "impala":
        raise ConfigError(f"{name} --agent impala, which tunes nothing; leave it out")
    # A trace goes on through all updates; within a window the first one's Jacobian in θ is not asked for.
    if config.agent in AGENTS and config.window == 1 and config.meta_gradient.differentiation == "reverse":
        raise ConfigError(f"{name} --window 1; use --window 2 or more, or --inner.surrogate plain")
