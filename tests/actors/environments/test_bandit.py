"""The bandit: what arms pay, and that tasks stay."""

import jax
import jax.numpy as jnp
import numpy as np

from actors.environments.bandit import Bandit
from agents.types import FIRST, MID


def test_means_are_the_papers_and_stay_for_a_life():
    keys = jax.random.split(jax.random.PRNGKey(0), 4_000)
    states, time_steps = jax.vmap(lambda key: Bandit().reset(key, key))(keys)
    assert np.all(time_steps.step_type == FIRST) and states.means.shape == (4_000, 30)
    means = np.asarray(states.means)
    assert means.max() <= np.float32(np.e) and abs((means > np.exp(-1.0)).mean() - 2 / 101) < 0.002
    assert abs((means > 1).sum(axis=1).mean() - 30 / 101) < 0.03  # about 0.3 of 30 arms
    state, _ = Bandit().step(jax.tree.map(lambda x: x[0], states), jnp.int32(3))
    np.testing.assert_array_equal(state.means, states.means[0])


def test_pulls_are_independent_and_normal():
    world = Bandit(arms=3, noise=0.5, task=4)
    state, _ = world.reset(jax.random.PRNGKey(1))
    state = state._replace(means=jnp.array([0.0, 2.0, -1.0]))

    def pull(state, action):
        state, time_step = world.step(state, action)
        return state, time_step

    actions = jnp.arange(6_000, dtype=jnp.int32) % 3
    _, time_steps = jax.lax.scan(pull, state, actions)
    assert np.all(time_steps.step_type == MID) and np.all(time_steps.discount == 0)
    reward = np.asarray(time_steps.reward).reshape(-1, 3)
    np.testing.assert_allclose(reward.mean(axis=0), [0.0, 2.0, -1.0], atol=5 * 0.5 / np.sqrt(2_000))
    np.testing.assert_allclose(reward.std(axis=0), 0.5, rtol=0.08)
    assert abs(np.corrcoef(reward[:, 0], reward[:, 1])[0, 1]) < 0.1
    assert not np.array_equal(
        world.reset(jax.random.PRNGKey(1))[0].means, Bandit(3, task=5).reset(jax.random.PRNGKey(1))[0].means
    )
