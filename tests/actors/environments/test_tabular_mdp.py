"""The random MDPs: what tasks look like, and that steps follow the tables."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from actors.environments.tabular_mdp import MDP, TabularMDP
from agents.types import FIRST, LAST, MID


def test_tasks_are_the_papers():
    world = TabularMDP()
    keys = jax.random.split(jax.random.PRNGKey(0), 50)
    tasks = jax.jit(jax.vmap(world.sample_task))(keys)
    assert tasks.transition.shape == (50, 20, 5, 20) and tasks.reward.shape == (50, 20, 5)
    np.testing.assert_allclose(tasks.transition.sum(axis=-1), 1.0, rtol=1e-5)
    largest = np.asarray(tasks.transition).max(axis=-1)
    # Two of a row cannot both be above 0.99, and each alone is of a beta distribution.
    certain = 20 * stats.beta.sf(0.99, 0.001, 19 * 0.001)
    assert 0.9 < certain < 0.92 and abs((largest > 0.99).mean() - certain) < 5 * np.sqrt(
        certain * (1 - certain) / 5_000
    )
    likeliest = np.asarray(tasks.transition).argmax(axis=-1)
    counts = np.bincount(likeliest.reshape(-1), minlength=20)
    assert np.all(abs(counts - 250) < 5 * np.sqrt(250))
    rewards = np.asarray(tasks.reward)
    assert rewards.min() >= 0 and rewards.max() < 1 and abs(rewards.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 5_000)
    own = [world.reset(keys[i], keys[i])[0].task.reward for i in range(2)]
    assert not np.array_equal(*own)
    named = [TabularMDP(task=task).reset(keys[task])[0].task.reward for task in (3, 3, 4)]
    assert np.array_equal(named[0], named[1]) and not np.array_equal(named[0], named[2])


def test_flat_rows_at_a_large_concentration():
    task = TabularMDP(states=4, actions=2, concentration=1e4).sample_task(jax.random.PRNGKey(0))
    np.testing.assert_allclose(task.transition, 0.25, atol=0.03)


def test_steps_follow_the_tables_and_episodes_are_cut_off():
    world = TabularMDP(states=2, actions=2, horizon=3)
    state, time_step = world.reset(jax.random.PRNGKey(0))
    assert time_step.step_type == FIRST and time_step.observation.tolist() == [1.0, 0.0]
    task = MDP(jnp.array([[[0.7, 0.3], [0.0, 1.0]], [[0.2, 0.8], [1.0, 0.0]]]), jnp.array([[0.1, 0.2], [0.3, 0.4]]))
    actions = jnp.asarray(np.random.default_rng(0).integers(2, size=20_000), jnp.int32)

    def step(state, action):
        before = state
        state, time_step = world.step(state, action)
        return state, (before.cell, time_step)

    _, (before, time_steps) = jax.lax.scan(step, state._replace(task=task), actions)
    before, actions = np.asarray(before), np.asarray(actions)
    np.testing.assert_array_equal(time_steps.step_type, np.resize([MID, MID, LAST, FIRST], len(actions)))
    assert np.all(time_steps.discount == 1)
    real = np.asarray(time_steps.step_type) != FIRST
    np.testing.assert_array_equal(time_steps.reward, np.where(real, task.reward[before, actions], 0.0))
    after = np.asarray(time_steps.observation).argmax(axis=1)
    assert np.all(after[~real] == 0)
    for s in range(2):
        for a in range(2):
            own = after[real & (before == s) & (actions == a)]
            p = float(task.transition[s, a, 1])
            assert abs(own.mean() - p) <= 5 * np.sqrt(p * (1 - p) / len(own))
