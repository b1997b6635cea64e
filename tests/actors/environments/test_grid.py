"""The grid worlds: tasks, objects, walls, ends of episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.environments.grid import Grid, GridTask
from agents.types import FIRST, LAST, MID

WORLD = Grid(size=4, objects=3, max_steps=6)
step = jax.jit(WORLD.step)


def start(cell=5, objects=(0, 10, 15), rewards=(1.0, -0.5, 0.25)):
    state, _ = WORLD.reset(jax.random.PRNGKey(0))
    task = GridTask(jnp.array(objects, jnp.int32), jnp.array(rewards, jnp.float32))
    return state._replace(task=task, cell=jnp.int32(cell))


def test_moves_and_walls():
    state = start()
    for action, cell in ((0, 1), (2, 0)):
        state, time_step = step(state, jnp.int32(action))
        assert state.cell == cell and time_step.observation[cell] == 1 and time_step.observation.sum() == 1
    state = start(cell=3)
    for action, cell in ((0, 3), (3, 3), (1, 7), (2, 6)):
        state, time_step = step(state, jnp.int32(action))
        assert state.cell == cell and time_step.reward == 0 and time_step.step_type == MID


@pytest.mark.parametrize("cell, action, reward", [(4, 0, 1.0), (6, 1, -0.5), (14, 3, 0.25)])
def test_an_object_pays_and_terminates_and_the_task_stays(cell, action, reward):
    state, time_step = step(start(cell), jnp.int32(action))
    assert (time_step.step_type, time_step.discount, time_step.reward) == (LAST, 0.0, reward)
    again, time_step = step(state, jnp.int32(3))
    assert (time_step.step_type, time_step.discount, time_step.reward) == (FIRST, 1.0, 0.0)
    assert int(again.cell) not in (0, 10, 15) and again.clock == 0
    np.testing.assert_array_equal(again.task.objects, state.task.objects)


def test_long_episodes_are_truncated():
    state = start(cell=7)
    for t in range(6):
        state, time_step = step(state, jnp.int32(3))
        assert time_step.discount == 1 and time_step.step_type == (LAST if t == 5 else MID)
    assert step(state, jnp.int32(3))[1].step_type == FIRST


def test_tasks_differ_and_starts_are_uniform_over_free_cells():
    keys = jax.random.split(jax.random.PRNGKey(1), 2_000)
    task_key = jax.random.PRNGKey(7)
    states, _ = jax.vmap(lambda key: WORLD.reset(key, task_key))(keys)
    task = WORLD.sample_task(task_key)
    assert np.all(states.task.objects == task.objects)
    counts = np.bincount(np.asarray(states.cell), minlength=16)
    free = np.delete(np.arange(16), np.asarray(task.objects))
    assert counts[task.objects].sum() == 0 and np.all(abs(counts[free] - 2_000 / 13) < 5 * np.sqrt(2_000 / 13))
    tasks = jax.vmap(WORLD.sample_task)(keys)
    assert len({tuple(objects) for objects in np.asarray(tasks.objects).tolist()}) > 1_000
    assert np.all(tasks.rewards[:, 0] == 1) and np.all((tasks.rewards[:, 1:] >= -1) & (tasks.rewards[:, 1:] <= 0.5))
    assert np.all(np.sort(tasks.objects, axis=1)[:, 1:] > np.sort(tasks.objects, axis=1)[:, :-1])
    np.testing.assert_array_equal(
        WORLD.reset(keys[0])[0].task.objects, Grid(4, 3, 6, task=0).reset(keys[1])[0].task.objects
    )
    assert not np.array_equal(
        WORLD.reset(keys[0])[0].task.objects, Grid(4, 3, 6, task=1).reset(keys[0])[0].task.objects
    )
