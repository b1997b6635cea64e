"""From a game's name to its environment, its spec and its streams' seeds."""

from collections.abc import Sequence

import numpy as np

from actors.config import EnvironmentConfig
from actors.environments import atari
from actors.environments.base import Environment, JaxEnvironment
from actors.environments.names import match_name
from agents.types import EnvironmentSpec

JAX_GAMES = ("catch", "two_colors", "grid", "bandit", "tabular_mdp", "prisoners_dilemma")

MAX_STREAMS = 2**12
MAX_ACTORS = 2**10
MAX_INCARNATIONS = 2**9
_MODULUS = 2**31  # EnvPool's seeds are C ints


def normalise_game(name: str) -> str:
    """Any spelling of a game ("pong", "Pong", "atari:Pong", "MsPacman") -> "atari:pong", "catch", ...

    Raises ValueError, one line with the nearest match, for an unknown game. Starts and imports no engine.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix.strip().lower() == "atari":
        if (own := rest.strip().lower()) in JAX_GAMES:
            raise ValueError(f"unknown game {name!r}: {own} is not of Atari; write {own}")
        return f"atari:{atari.canonical_game(rest)}"
    games = f"{', '.join(JAX_GAMES)} or an Atari game that EnvPool ships"
    game = match_name(name, (*JAX_GAMES, *atari.list_games()), games)
    return game if game in JAX_GAMES else f"atari:{game}"


def environment_spec(game: str, config: EnvironmentConfig) -> EnvironmentSpec:
    """The spec of a game, in any spelling, without making its environment."""
    environment = make_jax_environment(game, config)
    if environment is not None:
        return environment.spec
    return atari.atari_spec(normalise_game(game).removeprefix("atari:"), config.protocol)


def make_environment(
    game: str, config: EnvironmentConfig, seeds: Sequence[int] | np.ndarray, threads: int, render: bool = False
) -> Environment:
    """A batch of streams, one for each seed (see `stream_seeds`).

    threads: EnvPool's, instead of `config.threads`, which the caller shares among its actors; 0 lets EnvPool choose.
    render: give Atari's environments a `render()`; no effect on the others, whose observations show everything.
    """
    environment = make_jax_environment(game, config)
    if environment is not None:
        from actors.environments.jax_adapter import BatchedJaxEnvironment

        return BatchedJaxEnvironment(environment, seeds)
    name = normalise_game(game).removeprefix("atari:")
    return atari.Atari(name, seeds, config.protocol, config.max_episode_frames, threads, render)


def make_jax_environment(game: str, config: EnvironmentConfig) -> JaxEnvironment | None:
    """One stream as pure functions, or None for a game that has no such form (Atari)."""
    # Imported here, so that validating a name (in every command, before anything starts) does not import jax.
    match normalise_game(game):
        case "catch":
            from actors.environments.catch import Catch

            return Catch(runs=config.catch_runs, switch_steps=config.catch_switch_steps)
        case "two_colors":
            from actors.environments.two_colors import TwoColors

            return TwoColors(config.switch_steps)
        case "grid":
            from actors.environments.grid import Grid

            return Grid(config.grid_size, task=config.task)
        case "bandit":
            from actors.environments.bandit import Bandit

            return Bandit(config.arms, config.noise, config.task)
        case "tabular_mdp":
            from actors.environments.tabular_mdp import TabularMDP

            return TabularMDP(
                config.mdp_states, config.mdp_actions, config.mdp_concentration, config.mdp_horizon, config.task
            )
        case "prisoners_dilemma":
            from actors.environments.prisoners_dilemma import PrisonersDilemma

            return PrisonersDilemma(config.rounds)
    return None


def stream_seeds(seed: int | Sequence[int], actor_index: int, incarnation: int, num_streams: int) -> np.ndarray:
    """The seeds of one actor's streams: [num_streams] int64, distinct, each in [0, 2^31).

    Of one run, or of many at once: [runs, num_streams], three times as fast as one call for each.

    Disjoint over all actors and incarnations of a run, by construction: (incarnation, actor, stream) is numbered with
    9 + 10 + 12 bits, and the number is mapped by an affine bijection modulo 2^31 that the run's seed chooses. From the
    513th replacement of one actor on, its seeds come round again. Raises ValueError beyond 4096 streams for each
    actor or 1024 actors.
    """
    if not 1 <= num_streams <= MAX_STREAMS:
        raise ValueError(f"streams of one actor: {num_streams} is not in 1 to {MAX_STREAMS}; use more actors")
    if not 0 <= actor_index < MAX_ACTORS:
        raise ValueError(f"actors: {actor_index + 1} is not in 1 to {MAX_ACTORS}")
    block = (incarnation % MAX_INCARNATIONS) * MAX_ACTORS + actor_index
    number = block * MAX_STREAMS + np.arange(num_streams, dtype=np.int64)
    words = [np.random.SeedSequence(int(run)).generate_state(2, np.uint32) for run in np.atleast_1d(seed)]
    factor, offset = np.array(words, np.int64).T[..., None] % _MODULUS
    # An odd factor makes the map a bijection. Both factors are below 2^31, so the product fits in 62 bits.
    return ((number * (factor | 1) + offset) % _MODULUS).reshape(*np.shape(seed), num_streams)
