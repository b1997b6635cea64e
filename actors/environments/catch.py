"""Catch (Osband et al. 2020, bsuite): move a paddle under a falling ball. Pure JAX."""

import dataclasses
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents.types import FIRST, LAST, MID, Array, EnvironmentSpec

_MOVES = np.array([-1, 0, 1], np.int32)


class CatchState(NamedTuple):
    key: Array  # [2] uint32
    ball_row: Array  # int32; rows - 1 once the episode is over
    ball_column: Array  # int32
    paddle_column: Array  # int32
    run: Array  # int32, balls of this episode before this one
    pending: Array  # float32, rewards of the episode that are still to come
    moves: Array  # [3] int32, what each action adds to the paddle's column: the task
    clock: Array  # int32, steps of the lifetime (resets too), modulo 2 * switch_steps where there is switching


@dataclasses.dataclass(frozen=True)
class Catch:
    """bsuite's Catch behind `base.JaxEnvironment`.

    A ball starts in a random column of the top row and falls one row a step; the paddle starts in the middle of the
    bottom row (row 9). Actions 0, 1, 2 move it left, not, right, and the walls stop it. When the ball reaches the
    bottom row, after 9 steps, the reward is +1 if the paddle is there and -1 if not, and the episode terminates.
    Observation: the board [10, 5] float32, 1 at the ball and at the paddle.

    With more than one run an episode is so many balls, and the rewards of all of them come with the last one: Catch
    with delayed rewards (Raposo et al. 2021). After a ball the next one appears at the top; the paddle moves on.

    With `switch_steps` the lifetime is not stationary: after each so many steps of the stream, resets included, actions
    0 and 2 swap what they do. What perfect and random play earn stays the same. 0: never.

    A family of tasks, too, where `reset` is given the key of one: which action does which of the three moves.
    """

    rows: int = 10
    columns: int = 5
    runs: int = 1
    switch_steps: int = 0

    has_tasks = True

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("catch", (self.rows, self.columns), np.float32, 3, frame_stack=1, frames_per_step=1)

    def sample_task(self, key: Array) -> Array:
        """key [2] uint32 -> [3] int32, what each action does."""
        return jax.random.permutation(key, _MOVES)

    def reset(self, key: Array, task_key: Array | None = None) -> tuple[CatchState, dm_env.TimeStep]:
        """key [2] uint32 -> (state, FIRST)."""
        moves = jnp.asarray(_MOVES) if task_key is None else self.sample_task(task_key)
        return self._new_episode(key, moves, jnp.int32(0))

    def _new_episode(self, key: Array, moves: Array, clock: Array) -> tuple[CatchState, dm_env.TimeStep]:
        zero, middle = jnp.int32(0), jnp.int32(self.columns // 2)
        state = self._new_ball(CatchState(key, zero, zero, middle, zero, jnp.float32(0), moves, clock))
        return state, self._time_step(state, FIRST, 0.0)

    def _new_ball(self, state: CatchState) -> CatchState:
        key, column_key = jax.random.split(state.key)
        column = jax.random.randint(column_key, (), 0, self.columns, jnp.int32)
        return state._replace(key=key, ball_row=jnp.int32(0), ball_column=column)

    def step(self, state: CatchState, action: Array) -> tuple[CatchState, dm_env.TimeStep]:
        move, clock = state.moves[action], state.clock
        if self.switch_steps:
            move = jnp.where(clock < self.switch_steps, move, -move)
            clock = (clock + 1) % (2 * self.switch_steps)
        paddle_column = jnp.clip(state.paddle_column + move, 0, self.columns - 1)
        was_down = state.ball_row == self.rows - 1
        state = state._replace(paddle_column=paddle_column, clock=clock)
        moved = _where(
            was_down,
            self._new_ball(state)._replace(run=state.run + 1),
            state._replace(ball_row=state.ball_row + 1),
        )
        down = moved.ball_row == self.rows - 1
        caught = moved.ball_column == moved.paddle_column
        pending = moved.pending + jnp.where(down, jnp.where(caught, 1.0, -1.0), 0.0)
        over = down & (moved.run == self.runs - 1)
        moved = moved._replace(pending=pending)
        going_on = moved, self._time_step(moved, jnp.where(over, LAST, MID), jnp.where(over, pending, 0.0))
        was_over = was_down & (state.run == self.runs - 1)
        return _where(was_over, self._new_episode(state.key, state.moves, clock), going_on)

    def _time_step(self, state: CatchState, step_type: Array, reward: Array) -> dm_env.TimeStep:
        board = jnp.zeros((self.rows, self.columns), jnp.float32)
        board = board.at[state.ball_row, state.ball_column].set(1.0)
        board = board.at[self.rows - 1, state.paddle_column].set(1.0)
        return dm_env.TimeStep(
            step_type=jnp.asarray(step_type, jnp.int8),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.asarray(step_type != LAST, jnp.float32),
            observation=board,
        )


def _where(flag: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old)
