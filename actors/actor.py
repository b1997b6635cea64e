"""An actor: a recorder with its random keys, its count of unrolls and its state."""

import functools
import threading
import zlib
from collections.abc import Callable
from typing import Any

import jax

from actors.config import EnvironmentConfig
from actors.environments.make import environment_spec, make_environment, make_jax_environment, stream_seeds
from actors.unroll import HostRecorder, ScanRecorder
from agents.types import Agent, Array, EnvironmentSpec, Provenance, Unroll, VersionedParams

_ROLE = zlib.crc32(b"actor")  # sets the actors' random keys apart from those that others derive from the same seed


def actor_key(seed: int, actor_index: int, incarnation: int) -> Array:
    """The key of one actor's unrolls, which each of them folds with its index."""
    key = jax.random.PRNGKey(seed)
    for number in (_ROLE, actor_index, incarnation):
        key = jax.random.fold_in(key, number)
    return key


class Actor:
    """Turns parameters into unrolls. Not for use by two threads at once."""

    def __init__(self, recorder: HostRecorder | ScanRecorder, seed: int, actor_index: int, incarnation: int):
        self._recorder = recorder
        self._key = actor_key(seed, actor_index, incarnation)
        self._actor_index = actor_index
        self._incarnation = incarnation
        self._unroll_index = 0

    def unroll(self, params: VersionedParams) -> Unroll:
        """The next T transitions of this actor's streams, acted by `params`. No random key is used twice."""
        trajectory = self._recorder.record(params, jax.random.fold_in(self._key, self._unroll_index))
        provenance = Provenance(self._actor_index, self._incarnation, self._unroll_index, params.version)
        self._unroll_index += 1
        return Unroll(trajectory, provenance)

    def get_state(self) -> dict[str, Any] | None:
        """Everything to go on from here bit for bit, or None where the environment cannot be saved (Atari).

        Such an actor is resumed as a new incarnation, which re-enters its environment with new seeds.
        """
        recorder = self._recorder.get_state()
        return None if recorder is None else {"unroll_index": self._unroll_index, "recorder": recorder}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state that an actor of the same settings, index and incarnation returned."""
        self._unroll_index = int(state["unroll_index"])
        self._recorder.set_state(state["recorder"])

    def close(self) -> None:
        self._recorder.close()


@functools.lru_cache(maxsize=4)
def _agent(make_agent: Callable[[EnvironmentSpec], Agent], spec: EnvironmentSpec) -> Agent:
    """One agent for all actors of a process: its functions are the key under which jax keeps what it compiled.

    Call it with `_one_agent` held: a cache alone lets threads that start together make one each.
    """
    return make_agent(spec)


_one_agent = threading.Lock()


def make_actor(
    actor_index: int,
    incarnation: int,
    *,
    game: str,
    config: EnvironmentConfig,
    make_agent: Callable[[EnvironmentSpec], Agent],
    seed: int,
    num_streams: int,
    unroll_length: int,
    threads: int,
) -> Actor:
    """An actor with `num_streams` streams of its own. A `functools.partial` of it can be sent to another process.

    Args:
      actor_index: 0, 1, ...: with `incarnation` and `seed`, decides the streams' seeds and the random keys.
      incarnation: 0, then +1 for each replacement.
      game: any spelling that `normalise_game` takes.
      config: of the environment; `threads` overrides its threads.
      make_agent: (spec) -> agent; hashable and picklable, such as a partial of a module's function.
      seed: the run's.
      num_streams: this actor's share of the batch.
      unroll_length: T.
      threads: EnvPool's threads in this actor, at least 1; no effect on pure JAX environments.
    """
    seeds = stream_seeds(seed, actor_index, incarnation, num_streams)
    with _one_agent:
        agent = _agent(make_agent, environment_spec(game, config))
    jax_environment = make_jax_environment(game, config)
    if jax_environment is not None:
        recorder = ScanRecorder(agent, jax_environment, seeds, unroll_length)
    else:
        recorder = HostRecorder(agent, make_environment(game, config, seeds, threads), unroll_length)
    return Actor(recorder, seed, actor_index, incarnation)
