"""Two Colors (Flennerhag et al. 2021, Section 5.1): a grid world whose rewards swap, in one life. Pure JAX."""

import dataclasses
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents.types import FIRST, MID, Array, EnvironmentSpec

SIZE = 5
STEP_REWARD = -0.04


class TwoColorsState(NamedTuple):
    key: Array  # [2] uint32
    agent: Array  # int32 cell, 5 * row + column
    objects: Array  # [2] int32 cells, never the agent's and never the same
    clock: Array  # int32, steps of the lifetime modulo 2 * switch_steps


@dataclasses.dataclass(frozen=True)
class TwoColors:
    """The non-stationary grid world behind `base.JaxEnvironment`: one endless lifetime, FIRST once, discount always 1.

    An agent moves on a 5x5 grid among two objects. Stepping on one gives +1, on the other -1, every other step -0.04.
    The object that was touched moves to a random free cell. Every `switch_steps` steps of the lifetime the two swap
    their rewards: transition n (from 0) pays +1 for object 0 where n // switch_steps is even.
    Actions 0, 1, 2, 3 move up, down, left, right. Observation: one-hot row and column of the agent, of object 0 and
    of object 1, flat [30] float32; which object pays is not observed.

    Left open by the paper's text, and here it is so: a move into a wall leaves the agent where it is, for -0.04; a
    free cell is any of the 23 that hold neither the agent nor the other object; at birth the three are on distinct,
    uniformly random cells.
    """

    switch_steps: int = 100_000

    def __post_init__(self):
        if not 1 <= self.switch_steps < 2**30:
            raise ValueError(f"environment.switch_steps: {self.switch_steps} is not in 1 to {2**30 - 1}")

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("two_colors", (6 * SIZE,), np.float32, 4, frame_stack=1, frames_per_step=1)

    def reset(self, key: Array) -> tuple[TwoColorsState, dm_env.TimeStep]:
        """key [2] uint32 -> (state, FIRST)."""
        key, agent_key, first_key, second_key = jax.random.split(key, 4)
        agent = jax.random.randint(agent_key, (), 0, SIZE**2, jnp.int32)
        # The agent's cell given twice leaves 24 cells for the first object.
        first = jax.random.randint(first_key, (), 0, SIZE**2 - 1, jnp.int32)
        first = first + (first >= agent)
        second = _free_cell(second_key, agent, first)
        state = TwoColorsState(key, agent, jnp.stack([first, second]), jnp.int32(0))
        return state, _time_step(state, FIRST, 0.0)

    def step(self, state: TwoColorsState, action: Array) -> tuple[TwoColorsState, dm_env.TimeStep]:
        row, column = state.agent // SIZE, state.agent % SIZE
        row = jnp.clip(row + (action == 1).astype(jnp.int32) - (action == 0), 0, SIZE - 1)
        column = jnp.clip(column + (action == 3).astype(jnp.int32) - (action == 2), 0, SIZE - 1)
        agent = SIZE * row + column
        touched = state.objects == agent
        sign = jnp.where(state.clock < self.switch_steps, 1.0, -1.0)
        reward = jnp.select([touched[0], touched[1]], [sign, -sign], STEP_REWARD)
        key, cell_key = jax.random.split(state.key)
        untouched = jnp.where(touched[0], state.objects[1], state.objects[0])
        objects = jnp.where(touched, _free_cell(cell_key, agent, untouched), state.objects)
        state = TwoColorsState(key, agent, objects, (state.clock + 1) % (2 * self.switch_steps))
        return state, _time_step(state, MID, reward)


def _free_cell(key: Array, agent: Array, other: Array) -> Array:
    """Uniform over the 23 cells that are neither `agent` nor `other`, two distinct cells."""
    cell = jax.random.randint(key, (), 0, SIZE**2 - 2, jnp.int32)
    cell = cell + (cell >= jnp.minimum(agent, other))
    return cell + (cell >= jnp.maximum(agent, other))


def _time_step(state: TwoColorsState, step_type: np.int8, reward: Array) -> dm_env.TimeStep:
    cells = jnp.concatenate([state.agent[None], state.objects])
    coordinates = jnp.stack([cells // SIZE, cells % SIZE], axis=-1)
    return dm_env.TimeStep(
        step_type=jnp.asarray(step_type, jnp.int8),
        reward=jnp.asarray(reward, jnp.float32),
        discount=jnp.float32(1),
        observation=jax.nn.one_hot(coordinates, SIZE, dtype=jnp.float32).reshape(-1),
    )
