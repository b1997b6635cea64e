"""MAML's meta-gradient where half of the update's episodes are remembered ones, of another policy, on the 2-state MDP.

What the surrogates with importance ratios say of every new and of every remembered episode is written out.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts.studies.tabular import Memory
from tests.smoothing import gauss_hermite, z_scores
from tests.tiny_maml import (
    ACTIONS,
    DISCOUNTS,
    HORIZON,
    RATE,
    REWARDS,
    STATES,
    expected_through_the_learner,
    sampled,
    value,
)
from tests.tiny_mdp import GAMMA, LOGITS, log_probability

SAMPLER = np.array([[-0.2, 0.5], [0.3, -0.6]])
SPREAD = 0.5  # of remembered policies
SURROGATES = ("off_policy", "off_policy_dice")


def taken(logits):
    """[H, n] log-probability of each action of each episode."""
    return jax.nn.log_softmax(logits)[STATES[:-1], ACTIONS]


def contributions(name, start, behaviour, clips):
    """Of every episode that `behaviour` acted: what it adds to the update [n, 4], and the Jacobian of that [n, 4, 4].

    clips: whether the ratios of what follows an action are at most 1, as V-trace's are.
    """
    ratio = jnp.exp(taken(start) - taken(behaviour))
    later = jnp.minimum(ratio, 1.0) if clips else ratio
    ahead = jnp.stack([REWARDS[0] + GAMMA * later[1] * REWARDS[1], REWARDS[1]])

    def weighted(flat):
        ratio = jnp.exp(taken(flat.reshape(2, 2)) - taken(behaviour))
        if name == "off_policy":
            return DISCOUNTS @ (ahead * ratio)
        return DISCOUNTS @ (REWARDS * jnp.stack([ratio[0], ratio[0] * ratio[1]]))

    flat = start.reshape(-1)
    return jax.jacfwd(weighted)(flat), jax.jacfwd(jax.jacfwd(weighted))(flat)


def expected(name, start, remembered, clips):
    """[4] of θ¹, and [4] E[(I + α Ĥ)ᵀ ∇J(θ¹)]: one episode of `start`, one of the policy `remembered`."""
    added, jacobian = zip(*(contributions(name, start, p, clips) for p in (start, remembered)), strict=True)
    before = [jnp.exp(log_probability(jax.nn.log_softmax(p), HORIZON)) for p in (start, remembered)]
    new = start.reshape(-1) + RATE * (added[0][:, None] + added[1][None]) / 2
    gradient = jax.vmap(jax.vmap(jax.grad(lambda x: value(x.reshape(2, 2)))))(new)
    mean = (jacobian[0][:, None] + jacobian[1][None]) / 2
    estimate = gradient + RATE * jnp.einsum("mnij,mni->mnj", mean, gradient)
    return tuple(jnp.einsum("m,n,mni->i", *before, x) for x in (new, estimate))


@functools.cache
def expected_of_random_policies(name):
    """`expected` at the uniform policy, over remembered ones with normal logits, by Gauss-Hermite quadrature: it is the
    difference of a state's two logits that matters."""
    nodes, mass = gauss_hermite(20, 2)
    with jax.enable_x64(True):
        policies = np.stack([np.sqrt(2) * SPREAD * nodes, np.zeros_like(nodes)], axis=-1)
        found = jax.lax.map(lambda p: expected(name, jnp.zeros((2, 2)), p, clips=False), policies, batch_size=50)
        return tuple(mass @ np.asarray(x) for x in found)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", SURROGATES)
def test_the_learners_expectation_is_the_closed_form(name):
    start, remembered = jnp.asarray(LOGITS), jnp.asarray(SAMPLER)
    found = expected_through_the_learner({"surrogate": name}, 0.0, (LOGITS, SAMPLER))
    _, closed = jax.jit(lambda x: expected(name, x, remembered, clips=True))(start)
    np.testing.assert_allclose(found, closed, rtol=1e-9)
    _, without = jax.jit(lambda x: expected(name, x, x, clips=True))(start)
    assert np.linalg.norm(found - without) > 0.01 * np.linalg.norm(found)


@pytest.mark.usefixtures("float64")
def test_the_product_of_ratios_has_the_returns_derivatives_whoever_acted_and_single_ratios_have_not():
    true = jax.grad(value)(LOGITS).reshape(-1), jax.hessian(value)(LOGITS).reshape(4, 4)
    probability = jnp.exp(log_probability(jax.nn.log_softmax(SAMPLER), HORIZON))
    for name in SURROGATES:
        found = contributions(name, jnp.asarray(LOGITS), jnp.asarray(SAMPLER), clips=False)
        for exact, own in zip(true, found, strict=True):
            error = np.linalg.norm(jnp.tensordot(probability, own, axes=1) - exact) / np.linalg.norm(exact)
            assert error < 1e-12 if name == "off_policy_dice" else error > 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize("name, other", [SURROGATES, SURROGATES[::-1]])
def test_means_of_samples_agree(name, other):
    """100,000 updates and meta-gradients from one new episode and one of a policy drawn for it.

    Around the uniform policy remembered ones are as often on one side as on the other, so that here not even single
    ratios bias an update; the enumeration above has no such symmetry.
    """
    found = sampled({"inner.surrogate": name, "inner.alpha": 0.0, "streams": 1}, Memory(1, SPREAD))
    policy, gradient = expected_of_random_policies(name)
    if name == "off_policy_dice":
        np.testing.assert_allclose(policy.reshape(2, 2), RATE * jax.grad(value)(jnp.zeros((2, 2))), rtol=1e-5)
    assert z_scores(found.policy, policy).max() < 4
    assert z_scores(found.gradient, gradient).max() < 4
    assert z_scores(found.gradient, expected_of_random_policies(other)[1]).max() > 8
    assert z_scores(found.policy, np.zeros(4)).max() > 8
