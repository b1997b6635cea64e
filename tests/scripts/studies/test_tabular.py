"""Exact meta-gradients on tabular MDPs: the learner's update and sweep against autodiff through values alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.environments.tabular_mdp import TabularMDP
from configs.tree import override
from scripts.studies.tabular import EXACT, Exact, Memory, Tabular, tabular
from scripts.studies.tabular_exact import values

SMALL = {
    "streams": 2,
    "unroll": 9,
    "window": 2,
    "environment.mdp_states": 3,
    "environment.mdp_actions": 2,
    "environment.mdp_concentration": 1.0,
    "environment.mdp_horizon": 8,
}
SHORT = {"streams": 1, "unroll": 2, "window": 1, "environment.mdp_horizon": 1}  # a single step, from state 0
RATE, GAMMA = 5.0, 0.8


@functools.cache
def compiled(agent, surrogate, **options):
    return Tabular(override(tabular(agent), SMALL | {"inner.surrogate": surrogate}), **options)


def estimate(agent, exact, surrogate="plain", **options):
    estimator = compiled(agent, surrogate, **options)
    return estimator.many(estimator.tasks(1), jax.random.split(jax.random.key(1), 2), exact, RATE)


@pytest.mark.parametrize("agent", ["maml", "lirpg"])
def test_all_exact_is_autodiff_through_exact_updates(agent):
    mdp = TabularMDP(3, 2, 1.0, 8).sample_task(jax.random.PRNGKey(0))

    def behind_two_updates(eta):
        table, own = (eta, mdp) if agent == "maml" else (jnp.zeros((3, 2)), mdp._replace(reward=mdp.reward + eta))
        for _ in range(2):
            table += RATE * jax.grad(lambda x, own=own: values(own, x, GAMMA)[0])(table)
        return values(mdp, table, GAMMA)[0], table

    truth, table = jax.jit(jax.grad(behind_two_updates, has_aux=True))(jnp.zeros((3, 2)))
    found = estimate(agent, EXACT)
    size = np.abs(truth).max()
    assert size > 0.01
    for sample in range(2):
        np.testing.assert_allclose(found.gradient[0, sample], truth.reshape(-1), atol=1e-4 * size)
        np.testing.assert_allclose(found.policy[0, sample], table, atol=2e-5)


def test_loaded_dices_jacobian_is_exact_in_expectation():
    """With no horizon's end in the way: a critic of zeros, and values of the same episodes."""
    options = {"critic_noise": None, "endless": False, "expected": True}
    found = estimate("lirpg", Exact.named("ele"), "loaded_dice", **options).gradient
    exact = estimate("lirpg", EXACT, "loaded_dice", **options).gradient
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


def test_what_is_expected_needs_no_samples():
    options = {"critic_noise": None, "endless": False, "expected": True}
    drawn, none = (
        estimate("lirpg", Exact.named("ele"), "loaded_dice", **options, **more).gradient
        for more in ({}, {"draws": False})
    )
    np.testing.assert_allclose(none, drawn, atol=1e-6 * np.abs(drawn).max())
    assert np.abs(drawn).max() > 1e-3


def test_what_is_sampled_varies_and_what_is_exact_does_not():
    found = {letters: estimate("maml", Exact.named(letters)) for letters in ("lee", "ele", "eel")}
    assert np.ptp(found["lee"].policy, axis=1).max() > 0.01
    for letters in ("ele", "eel"):
        np.testing.assert_array_equal(*found[letters].policy[0])
    assert all(np.ptp(f.gradient, axis=1).max() > 0.01 for f in found.values())


def test_an_error_of_the_hessian_is_in_the_jacobian_and_nowhere_else():
    """One update: h enters dV/dθ⁰ as -2 a h / n times the gradient behind the update, whatever ξ is."""
    estimator = Tabular(override(tabular("maml"), SMALL | {"window": 1}))
    mdps, keys = estimator.tasks(1), jax.random.split(jax.random.key(1), 2)
    one, three = (estimator.many(mdps, keys, EXACT, RATE, jnp.float32(h)) for h in (1.0, 3.0))
    np.testing.assert_array_equal(one.policy, three.policy)
    mdp = jax.tree.map(lambda x: x[0], mdps)
    behind = jax.grad(lambda x: values(mdp, x, GAMMA)[0])(one.policy[0, 0]).reshape(-1)
    expected = -2 * RATE * (3.0 - 1.0) / behind.size * behind
    for sample in range(2):
        found = three.gradient[0, sample] - one.gradient[0, sample]
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert np.ptp(one.gradient, axis=1).max() > 1e-3 * np.abs(expected).max()


def test_episodes_behind_the_update_add_variance_as_one_over_their_number_and_no_bias():
    """M of them: with exact outer gradients an estimate is the mean of those with the same update, and what M adds to
    its variance goes as 1/M."""
    keys, added = jax.random.split(jax.random.key(2), 4_000), {}
    for behind in (1, 4):
        estimator = Tabular(
            override(tabular("maml"), SMALL | {"window": 1}), critic_noise=None, endless=False, behind=behind
        )
        exact, found = (
            estimator.many(estimator.tasks(1), keys, Exact(True, True, outer), RATE) for outer in (True, False)
        )
        np.testing.assert_array_equal(found.policy, exact.policy)
        off = np.asarray(found.gradient - exact.gradient, np.float64)[0]
        z = off.mean(axis=0) / (off.std(axis=0, ddof=1) / np.sqrt(len(keys)))
        assert np.abs(z).max() < 4
        added[behind] = np.square(off).sum(axis=-1).mean()
    assert 3.6 < added[1] / added[4] < 4.4


@pytest.mark.parametrize("independent", [False, True])
def test_an_update_and_its_jacobian_see_different_episodes_unless_they_are_to_share_them(independent):
    """What an update has not seen, it has not moved; so there its own Jacobian is the identity, another's is not."""
    settings = SMALL | SHORT | {"unroll": 3, "environment.mdp_horizon": 2}
    estimator = Tabular(override(tabular("maml"), settings), independent=independent)
    mdps, keys = estimator.tasks(1), jax.random.split(jax.random.key(1), 16)
    found = estimator.many(mdps, keys, Exact.named("lle"), RATE)
    mdp = jax.tree.map(lambda x: x[0], mdps)
    behind = jax.vmap(jax.grad(lambda x: values(mdp, x, GAMMA)[0]))(found.policy[0])  # [keys, S, A]
    through = np.abs(found.gradient[0].reshape(behind.shape) - behind) > 1e-4 * np.abs(behind).max()
    unmoved = np.all(found.policy[0] == 0, axis=-1)
    assert unmoved[:, 1:].any() and through[~unmoved].any()
    assert through[unmoved].any() == independent


def test_a_critics_noise_is_a_share_of_the_values_norm():
    """Without a discount the one step's advantage is r(0, a) - V(0), and the update tells it and a."""
    settings = SMALL | SHORT | {"environment.mdp_actions": 3, "inner.gamma": 0.0}
    estimator = Tabular(override(tabular("maml"), settings), critic_noise=2.0)
    mdps, keys = estimator.tasks(1), jax.random.split(jax.random.key(1), 2_000)
    moved = np.asarray(estimator.many(mdps, keys, Exact.named("lee"), RATE).policy[0, :, 0])  # [keys, A]
    action = np.abs(moved).argmax(axis=1)
    advantage = moved[np.arange(len(moved)), action] / (RATE * 2 / 3)
    reward = np.asarray(mdps.reward[0])
    true = reward.mean(axis=1)
    deviation = (reward[0, action] - advantage - true[0]) / (2.0 * np.linalg.norm(true) / len(true))
    assert abs(deviation.mean()) < 3 / np.sqrt(2_000)
    np.testing.assert_allclose(deviation.std(), 1.0, atol=3 / np.sqrt(2 * 2_000))


def test_the_corrections_baseline_is_the_value_that_eta_begins_with():
    """Where no update moves it, every return is that, and the correction is 0 whatever was sampled."""
    running_mean = {"correction": 1.0, "meta_gradient.baseline": "running_mean"}
    estimator = Tabular(override(tabular("maml"), SMALL | SHORT | running_mean))
    mdps, keys = estimator.tasks(1), jax.random.split(jax.random.key(1), 4)
    at_rest, moved = (np.asarray(estimator.many(mdps, keys, EXACT, rate).gradient[0]) for rate in (0.0, RATE))
    mdp = jax.tree.map(lambda x: x[0], mdps)
    truth = jax.grad(lambda x: values(mdp, x, GAMMA)[0])(jnp.zeros((3, 2))).reshape(-1)
    np.testing.assert_allclose(at_rest, np.broadcast_to(truth, at_rest.shape), atol=1e-5)
    assert np.ptp(moved, axis=0).max() > 0.01


def test_remembered_episodes_are_of_policies_of_their_own():
    estimator = Tabular(override(tabular("maml"), SMALL | SHORT), memory=Memory(1_000, 0.7))
    mdp = jax.tree.map(lambda x: x[0], estimator.tasks(1))
    params = estimator._agent.init_meta(jax.random.key(0))["params"]
    logits = np.asarray(estimator._gather(params, mdp, jax.random.key(1), 0).behaviour_logits[0])  # [episodes, A]
    assert logits.shape == (1_001, 2) and not logits[0].any()
    np.testing.assert_allclose(logits[1:].std(), 0.7, rtol=3 / np.sqrt(2 * 2_000))
