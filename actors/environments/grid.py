"""Small grid worlds with terminal objects, a task drawn for each life: where LPG's rules are learned. Pure JAX."""

import dataclasses
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents.types import FIRST, LAST, MID, Array, EnvironmentSpec


class GridTask(NamedTuple):
    objects: Array  # [n] int32 cells, distinct
    rewards: Array  # [n] float32


class GridState(NamedTuple):
    key: Array  # [2] uint32
    task: GridTask
    cell: Array  # int32, of the agent
    clock: Array  # int32, steps of this episode
    over: Array  # bool


@dataclasses.dataclass(frozen=True)
class Grid:
    """A tabular grid world behind `base.JaxEnvironment`, in the manner of Oh et al. 2020's, made smaller.

    Objects lie on distinct random cells. Stepping on one pays its reward and terminates the episode: the first pays
    +1, each other one a reward drawn uniformly from [-1, 0.5]. Other steps pay 0. After `max_steps` steps the episode
    is truncated. It starts on a random cell without an object. Actions 0, 1, 2, 3 move up, down, left, right; walls
    stop. Observation: the agent's cell, one-hot [size²] float32. The task (which cells, which rewards) stays the same
    for a whole life and has to be learned.

    `reset` takes the key of the task, too; without it the task is that of the number `task`.
    """

    size: int = 5
    objects: int = 3
    max_steps: int = 20
    task: int = 0

    has_tasks = True

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("grid", (self.size**2,), np.float32, 4, frame_stack=1, frames_per_step=1)

    def sample_task(self, key: Array) -> GridTask:
        cell_key, reward_key = jax.random.split(key)
        cells = jax.random.permutation(cell_key, self.size**2)[: self.objects].astype(jnp.int32)
        others = jax.random.uniform(reward_key, (self.objects - 1,), jnp.float32, -1.0, 0.5)
        return GridTask(cells, jnp.concatenate([jnp.ones(1, jnp.float32), others]))

    def reset(self, key: Array, task_key: Array | None = None) -> tuple[GridState, dm_env.TimeStep]:
        """key [2] uint32 -> (state, FIRST)."""
        task_key = jax.random.PRNGKey(self.task) if task_key is None else task_key
        return self._start(key, self.sample_task(task_key))

    def _start(self, key: Array, task: GridTask) -> tuple[GridState, dm_env.TimeStep]:
        key, cell_key = jax.random.split(key)
        taken = jnp.zeros(self.size**2, bool).at[task.objects].set(True)
        cell = jax.random.categorical(cell_key, jnp.where(taken, -jnp.inf, 0.0)).astype(jnp.int32)
        state = GridState(key, task, cell, jnp.int32(0), jnp.bool_(False))
        return state, self._time_step(state, FIRST, 0.0, 1.0)

    def step(self, state: GridState, action: Array) -> tuple[GridState, dm_env.TimeStep]:
        row, column = state.cell // self.size, state.cell % self.size
        row = jnp.clip(row + (action == 1).astype(jnp.int32) - (action == 0), 0, self.size - 1)
        column = jnp.clip(column + (action == 3).astype(jnp.int32) - (action == 2), 0, self.size - 1)
        cell = self.size * row + column
        touched = state.task.objects == cell
        terminated = jnp.any(touched)
        over = terminated | (state.clock + 1 == self.max_steps)
        moved = GridState(state.key, state.task, cell, state.clock + 1, over)
        step_type = jnp.where(over, LAST, MID)
        going_on = moved, self._time_step(moved, step_type, jnp.sum(touched * state.task.rewards), ~terminated)
        again = self._start(state.key, state.task)
        return jax.tree.map(lambda new, old: jnp.where(state.over, new, old), again, going_on)

    def _time_step(self, state: GridState, step_type: Array, reward: Any, discount: Any) -> dm_env.TimeStep:
        return dm_env.TimeStep(
            step_type=jnp.asarray(step_type, jnp.int8),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.asarray(discount, jnp.float32),
            observation=jax.nn.one_hot(state.cell, self.size**2, dtype=jnp.float32),
        )
