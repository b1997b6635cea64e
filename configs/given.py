"""What a user gives on the command line and nothing reads: said, not ignored.

A preset may hold such settings, for the agent that it is made for, and so may what a study starts from; what is looked
at is what was given beside it. What no settings may hold, wherever they come from, is told by `configs.validate`.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from actors.environments.make import JAX_GAMES
from agents.config import HYPERPARAMETERS
from configs.tree import ConfigError, flag
from configs.validate import AGENTS, self_tuned


class Row(NamedTuple):
    """Settings that something reads in some experiments only."""

    settings: str  # paths, and groups of them ("ray."), with spaces in between
    read: Callable[[Any], bool]  # (config) -> whether it is such an experiment
    beside: str  # what they have no effect with otherwise; {0} is the config
    instead: str  # what to do then

    def has(self, path: str) -> bool:
        """Whether the row is about the setting at `path`."""
        return any(path.startswith(name) if name.endswith(".") else path == name for name in self.settings.split())


def _only(settings: str, path: str, *values: str) -> Row:
    """Read where the setting at `path` is one of `values`."""
    key, get = flag(path), operator.attrgetter(path)
    instead = f"use {key} {' or '.join(values)}"
    return Row(settings, lambda config: get(config) in values, f"{key} {{0.{path}}}", instead)


def _ours(*rows: Row) -> list[Row]:
    """Of agents that are not ours nobody knows what they read."""
    return [row._replace(read=lambda config, read=row.read: config.agent not in AGENTS or read(config)) for row in rows]


def _named(group: str, names: Iterable[str]) -> str:
    return " ".join(f"{group}.{name}" for name in names)


_OF_THE_PLAIN_GRADIENT = ("lvc", "loaded_dice")  # surrogates that differ from plain in their second derivatives alone


def _surrogate_matters(config: Any) -> bool:
    # A trace goes on through all updates; in a sweep nothing is pulled back through a window's first one.
    return config.inner.surrogate not in _OF_THE_PLAIN_GRADIENT or (
        config.window > 1 or config.meta_gradient.differentiation != "reverse"
    )


_WEIGHTS = [name for name in HYPERPARAMETERS if name.endswith("_weight")]
_HOW_TUNED = "meta_init. self_tuned.hidden self_tuned.history self_tuned.entropy_bound"
# The outer loss, and what is there for second derivatives, matter to what tunes alone.
_OF_WINDOWS = (
    f"window meta_gradient. meta_optimizer. bootstrap. {_HOW_TUNED} {_named('outer', (*_WEIGHTS, 'kl_weight'))}"
    " inner.surrogate_decay optimizer.differentiate_second_moment"
)
_OF_BATCHES = "inner.rho_clip inner.reward_clip inner.reduction inner.discount_states"
_OF_ACTOR_CRITICS = _named("inner", (name for name in HYPERPARAMETERS if name != "value_weight"))


def _where_tuned(name: str) -> list[Row]:
    """A hyperparameter's fixed value and its raw start: one of them is read."""
    # A second critic learns beside the inner loss, by the weight that is fixed.
    fixed = Row(
        f"inner.{name}",
        lambda config: name not in self_tuned(config) or (name == "value_weight" and config.outer.separate_critic),
        "--agent {0.agent}, which tunes it",
        f"it starts from {flag(f'meta_init.{name}')}, a raw value (docs/agents.md)",
    )
    start = Row(
        f"meta_init.{name}" + " self_tuned.entropy_bound" * (name == "entropy_weight"),
        lambda config: name in self_tuned(config),
        f"a fixed {name} ({flag(f'inner.{name}')} {{0.inner.{name}:g}})",
        f"name {name} in --self-tuned.parameters",
    )
    return [fixed, *_ours(start)]


# Of the rows that fit, the first is told.
ROWS = [
    Row(_OF_WINDOWS, lambda config: config.agent != "impala", "--agent impala, which tunes nothing", "leave it out"),
    Row(
        f"{_OF_WINDOWS} inner.discount_states lpg.prediction_entropy lpg.direction_penalty lpg.target_penalty",
        lambda config: not config.lpg.rule,
        "--rule, which freezes the rule: nothing is tuned",
        "leave it out",
    ),
    Row(
        "lpg.predictions lpg.hidden lpg.embedding",
        lambda config: not config.lpg.rule,
        "--rule, whose file says how large it is",
        "leave it out",
    ),
    Row(
        "outer.gamma outer.trace_lambda",
        lambda config: config.agent != "impala" or config.outer.separate_critic,
        "--agent impala, which tunes nothing",
        "leave it out, or use --outer.separate-critic True",
    ),
    Row(
        _HOW_TUNED,
        lambda config: config.agent not in ("lpg", "bandit"),
        "--agent {0.agent}, which tunes no hyperparameters",
        "leave it out",
    ),
    Row(
        f"{_OF_ACTOR_CRITICS} inner.surrogate inner.surrogate_decay",
        lambda config: config.agent != "lpg",
        "--agent lpg, whose rule takes its place",
        "leave it out",
    ),
    Row(
        "outer.separate_critic",
        lambda config: config.agent != "lpg",
        "--agent lpg, whose critic is the outer loss's anyway",
        "leave it out",
    ),
    Row(
        f"{_OF_ACTOR_CRITICS} {_OF_BATCHES} inner.value_weight outer. network.hidden network.lstm",
        lambda config: config.agent != "bandit",
        "--agent bandit, which has no network, no critic and no dials of its losses",
        "leave it out",
    ),
    Row(
        "inner.surrogate",
        lambda config: config.agent != "impala" or config.inner.surrogate not in _OF_THE_PLAIN_GRADIENT,
        "--agent impala, which tunes nothing",
        "leave it out",
    ),
    *(row for name in HYPERPARAMETERS for row in _where_tuned(name)),
    *_ours(
        Row("inner.surrogate", _surrogate_matters, "--window 1", "use --window 2 or more, or --inner.surrogate plain"),
        _only("bandit.", "agent", "bandit"),
        _only("intrinsic.", "agent", "lirpg"),
        _only("lpg.", "agent", "lpg"),
        _only("network.hidden", "network.torso", "mlp"),
        _only("self_tuned.history", "self_tuned.form", "history"),
        _only("self_tuned.hidden", "self_tuned.form", "state", "history"),
    ),
    _only("optimizer.b1 optimizer.b2", "optimizer.name", "adam"),
    _only("optimizer.decay", "optimizer.name", "rmsprop"),
    _only("optimizer.eps optimizer.differentiate_second_moment", "optimizer.name", "rmsprop", "adam"),
    _only("meta_optimizer.b1 meta_optimizer.b2", "meta_optimizer.name", "adam"),
    _only("meta_optimizer.decay", "meta_optimizer.name", "rmsprop"),
    _only("meta_optimizer.eps", "meta_optimizer.name", "rmsprop", "adam"),
    Row(
        _named("meta_gradient", ("score_returns", "score_reduction", "baseline", "baseline_decay")),
        lambda config: config.correction > 0,
        "--correction 0",
        "give a correction",
    ),
    _only("meta_gradient.baseline_decay", "meta_gradient.baseline", "running_mean"),
    Row(
        "meta_gradient.diagnostics",
        lambda config: config.correction > 0 or config.meta_gradient.differentiation == "trace",
        "--correction 0 and --meta-gradient.differentiation {0.meta_gradient.differentiation}",
        "give a correction, or use trace",
    ),
    _only("meta_gradient.linearization", "meta_gradient.differentiation", "reverse"),
    Row(
        "environment.protocol environment.max_episode_frames environment.threads",
        lambda config: config.game not in JAX_GAMES,
        "--game {0.game}",
        "use a game of Atari",
    ),
    _only("environment.catch_runs environment.catch_switch_steps", "game", "catch"),
    _only("environment.switch_steps", "game", "two_colors"),
    _only("environment.grid_size", "game", "grid"),
    _only("environment.arms environment.noise", "game", "bandit"),
    _only(
        _named("environment", ("mdp_states", "mdp_actions", "mdp_concentration", "mdp_horizon")), "game", "tabular_mdp"
    ),
    _only("environment.rounds", "game", "prisoners_dilemma"),
    _only("environment.task", "game", "grid", "bandit", "tabular_mdp"),
    _only("pool.max_lag", "lag", "free"),
    _only("ray.", "runtime", "ray"),
]


def check_given(config: Any, given: Iterable[str]) -> None:
    """Raises ConfigError where nothing reads a setting that the user has `given` another value, by path."""
    for path in given:
        for row in ROWS:
            if row.has(path) and not row.read(config):
                value = _typed(operator.attrgetter(path)(config))
                told = f"{value} has no effect with {row.beside.format(config)}; {row.instead}"
                raise ConfigError(f"{flag(path)}: {told}")


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "()"
    return f"{value:g}" if isinstance(value, float) else str(value)
