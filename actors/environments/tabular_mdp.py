"""Random tabular MDPs, where values and policy gradients can be had exactly (Liu et al. 2022). Pure JAX."""

import dataclasses
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from actors.draw import draw
from agents.types import FIRST, LAST, MID, Array, EnvironmentSpec


class MDP(NamedTuple):
    """A task: S states, A actions."""

    transition: Array  # [S, A, S] float32, probabilities of the next state
    reward: Array  # [S, A] float32


class TabularState(NamedTuple):
    key: Array  # [2] uint32
    task: MDP
    cell: Array  # int32, the state of the MDP
    clock: Array  # int32, steps of this episode
    over: Array  # bool


@dataclasses.dataclass(frozen=True)
class TabularMDP:
    """A random MDP behind `base.JaxEnvironment`, as in the tabular studies of Liu et al. 2022.

    A task: each row of the transition table is drawn from a symmetric Dirichlet distribution (at 0.001 the next state
    is nearly certain in nine rows of ten), each reward uniformly from [0, 1); rewards have no noise. Episodes begin in
    state 0 and never terminate; after `horizon` steps they are truncated. Observation: the state, one-hot [S] float32.

    An unroll of `horizon` + 1 steps holds one whole episode and its reset transition, each time anew.

    `reset` takes the key of the task, too; without it the task is that of the number `task`.
    """

    states: int = 20
    actions: int = 5
    concentration: float = 0.001
    horizon: int = 20
    task: int = 0

    has_tasks = True

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("tabular_mdp", (self.states,), np.float32, self.actions, 1, 1)

    def sample_task(self, key: Array) -> MDP:
        transition_key, reward_key = jax.random.split(key)
        concentration = jnp.full(self.states, self.concentration, jnp.float32)
        transition = jax.random.dirichlet(transition_key, concentration, (self.states, self.actions))
        return MDP(transition, jax.random.uniform(reward_key, (self.states, self.actions), jnp.float32))

    def reset(self, key: Array, task_key: Array | None = None) -> tuple[TabularState, dm_env.TimeStep]:
        """key [2] uint32 -> (state, FIRST)."""
        task_key = jax.random.PRNGKey(self.task) if task_key is None else task_key
        return self.start(key, self.sample_task(task_key))

    def start(self, key: Array, task: MDP) -> tuple[TabularState, dm_env.TimeStep]:
        """`reset` with a task of one's own."""
        zero = jnp.int32(0)
        state = TabularState(key, task, zero, zero, jnp.bool_(False))
        return state, self._time_step(state, FIRST, 0.0)

    def step(self, state: TabularState, action: Array) -> tuple[TabularState, dm_env.TimeStep]:
        key, next_key = jax.random.split(state.key)
        drawn = draw(next_key, state.task.transition[state.cell, action])
        clock = jnp.where(state.over, 0, state.clock + 1)
        over = clock == self.horizon
        cell = jnp.where(state.over, 0, drawn)
        reward = jnp.where(state.over, 0.0, state.task.reward[state.cell, action])
        step_type = jnp.where(state.over, FIRST, jnp.where(over, LAST, MID))
        # The task is passed on as it is, so that a scan over steps does not copy it.
        new = TabularState(key, state.task, cell, clock, over)
        return new, self._time_step(new, step_type, reward)

    def _time_step(self, state: TabularState, step_type: Array, reward: Array) -> dm_env.TimeStep:
        return dm_env.TimeStep(
            step_type=jnp.asarray(step_type, jnp.int8),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.float32(1.0),
            observation=jax.nn.one_hot(state.cell, self.states, dtype=jnp.float32),
        )
