"""Pure JAX environments as batches: in the graph, and behind the numpy interface."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import dm_env
import jax
import numpy as np

from actors.environments.actions import checked_actions
from actors.environments.base import JaxEnvironment
from agents.types import Array


def stream_keys(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """One int in [0, 2^31) for each stream -> random keys [B, 2] uint32 (those of `jax.random.PRNGKey`)."""
    seeds = np.asarray(seeds, np.uint32)
    return np.stack([np.zeros_like(seeds), seeds], axis=-1)


def vmap_environment(
    environment: JaxEnvironment,
) -> tuple[Callable[[Array], tuple[Any, dm_env.TimeStep]], Callable[[Any, Array], tuple[Any, dm_env.TimeStep]]]:
    """The batch's (reset, step): keys [B, 2] -> (state, time_step), and (state, action [B]) -> (state, time_step)."""
    return jax.vmap(environment.reset), jax.vmap(environment.step)


@functools.partial(jax.jit, static_argnums=0)
def _reset(environment: JaxEnvironment, keys: Array) -> tuple[Any, dm_env.TimeStep]:
    return vmap_environment(environment)[0](keys)


@functools.partial(jax.jit, static_argnums=0)
def _step(environment: JaxEnvironment, state: Any, action: Array) -> tuple[Any, dm_env.TimeStep]:
    return vmap_environment(environment)[1](state, action)


class BatchedJaxEnvironment:
    """B streams of a pure JAX environment behind `base.Environment`; equal, bit for bit, to `vmap_environment`."""

    def __init__(self, environment: JaxEnvironment, seeds: Sequence[int] | np.ndarray):
        """environment: hashable (a frozen dataclass), so that equal ones compile once. seeds: one for each stream."""
        self.spec = environment.spec
        self.num_streams = len(seeds)
        self._environment = environment
        self._keys = stream_keys(seeds)
        shapes = jax.eval_shape(functools.partial(_reset, environment), self._keys)
        self._leaves, self._structure = jax.tree.flatten(shapes)
        self._state: Any = None
        self._last: dm_env.TimeStep | None = None

    def reset(self) -> dm_env.TimeStep:
        return self._keep(*_reset(self._environment, self._keys))

    def step(self, action: Array) -> dm_env.TimeStep:
        action = checked_actions(action, self.spec, self.num_streams)
        if self._state is None:  # as EnvPool and dm_env: the first step of all is a reset
            return self.reset()
        return self._keep(*_step(self._environment, self._state, action))

    def get_state(self) -> tuple[np.ndarray, ...]:
        """The leaves of every stream's state and of the latest time step; call after `reset`."""
        return tuple(np.asarray(leaf) for leaf in jax.tree.leaves((self._state, self._last)))

    def set_state(self, state: Sequence[np.ndarray]) -> dm_env.TimeStep:
        """Raises ValueError if `state` is not one of this environment with this number of streams."""
        given = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in state]
        wanted = [(leaf.shape, leaf.dtype) for leaf in self._leaves]
        if given != wanted:
            raise ValueError(f"{self.spec.name}: not a state of {self.num_streams} streams of this environment")
        return self._keep(*jax.tree.unflatten(self._structure, state))

    def close(self) -> None:
        pass

    def _keep(self, state: Any, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
        self._state = state
        self._last = jax.tree.map(np.asarray, time_step)
        return self._last
