"""Dynamic programming against every episode there is, and the surrogates' expectations against it, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import losses
from agents.config import HYPERPARAMETERS
from agents.types import NetworkOutput
from scripts.studies.tabular_exact import episode_values, expected_surrogate, occupancies, values
from tests.tiny_mdp import (
    GAMMA,
    LOGITS,
    TASK,
    discounted_return,
    episodes,
    log_probability,
    trajectory,
)

pytestmark = pytest.mark.usefixtures("float64")

HORIZON = 3
VALUES = np.array([0.2, -0.5])  # a baseline that is nobody's value, and what the end is worth
SAMPLER = np.array([[-0.2, 0.5], [0.3, -0.6]])
DICES = ("dice", "loaded_dice", "off_policy_dice", "lsf")


def enumerated_return(logits, end):
    probability = jnp.exp(log_probability(jax.nn.log_softmax(logits), HORIZON))
    return probability @ discounted_return(HORIZON, end)


def derivatives(function, at=LOGITS):
    """Gradient and Hessian, compiled once."""
    return jax.jit(lambda x: (jax.grad(function)(x), jax.hessian(function)(x)))(at)


def test_values_and_their_derivatives_are_those_of_all_episodes():
    def by_programming(logits):
        return episode_values(TASK, logits, GAMMA, HORIZON, VALUES)[0, 0]

    def by_enumeration(logits):
        return enumerated_return(logits, VALUES)

    np.testing.assert_allclose(by_programming(LOGITS), by_enumeration(LOGITS), rtol=1e-12)
    for ours, exact in zip(derivatives(by_programming), derivatives(by_enumeration), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-14)
        assert np.abs(exact).max() > 0.01


def test_without_a_horizon_they_are_the_limit_of_long_episodes_and_a_fixed_point():
    forever = values(TASK, LOGITS, GAMMA)
    np.testing.assert_allclose(forever, episode_values(TASK, LOGITS, GAMMA, 120)[0], rtol=1e-10)
    np.testing.assert_allclose(forever, episode_values(TASK, LOGITS, GAMMA, 1, forever)[0], rtol=1e-12)
    above, below = (values(TASK, LOGITS + np.array([[e, 0], [0, 0]]), GAMMA)[0] for e in (1e-6, -1e-6))
    derivative = jax.grad(lambda x: values(TASK, x, GAMMA)[0])(LOGITS)[0, 0]
    np.testing.assert_allclose(derivative, (above - below) / 2e-6, rtol=1e-8)


def test_occupancies_count_the_states_of_all_episodes():
    states, _ = episodes(HORIZON)
    probability = np.exp(log_probability(np.asarray(jax.nn.log_softmax(LOGITS)), HORIZON))
    counted = [[probability[states[t] == s].sum() * GAMMA**t for s in range(2)] for t in range(HORIZON)]
    np.testing.assert_allclose(occupancies(TASK, LOGITS, GAMMA, HORIZON), counted, rtol=1e-12)


def enumerated_surrogate(name, behaviour, baseline=VALUES):
    """The loss that agents learn by, in expectation over the behaviour's episodes."""
    states, _ = episodes(HORIZON)
    data = trajectory(HORIZON, behaviour)
    probability = np.exp(log_probability(np.asarray(jax.nn.log_softmax(behaviour)), HORIZON))
    fixed = dict.fromkeys(HYPERPARAMETERS, 0.0) | {"gamma": GAMMA, "trace_lambda": 1.0, "policy_weight": 1.0}

    def function(logits):
        output = NetworkOutput(logits[states], jnp.asarray(baseline)[states])
        loss, _ = losses.actor_critic_loss(
            fixed, output, data, rho_clip=1.0, reward_clip=0.0, surrogate=name, discount_states=True
        )
        return -HORIZON * probability @ loss

    return function


@pytest.mark.parametrize(
    "name, sampler",
    [
        ("plain", LOGITS),
        ("lvc", LOGITS),
        ("loaded_dice", LOGITS),
        ("dice", LOGITS),
        ("off_policy", SAMPLER),
        ("off_policy_dice", SAMPLER),
        ("lsf", LOGITS),
    ],
)
def test_surrogates_are_in_expectation_what_is_said_of_them(name, sampler):
    """Gradient and Hessian of the sampled losses, over all episodes, against dynamic programming."""

    def closed_form(logits):
        return expected_surrogate(
            name, TASK, logits, GAMMA, HORIZON, baseline=VALUES, end=VALUES, behaviour=jnp.asarray(sampler)
        )

    for ours, exact in zip(derivatives(enumerated_surrogate(name, sampler)), derivatives(closed_form), strict=True):
        assert np.abs(exact).max() > 0.01
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-14)


def test_what_they_are_of_the_true_derivatives():
    """On-policy every first derivative is the return's; of second ones only the DiCEs' and LSF's. From another
    policy's episodes the first-order ratio leaves the other policy's states, and so even the gradient is another."""
    gradient, hessian = derivatives(lambda x: enumerated_return(x, VALUES))

    def of(name, behaviour=None):
        return derivatives(
            lambda x: expected_surrogate(
                name, TASK, x, GAMMA, HORIZON, baseline=VALUES, end=VALUES, behaviour=behaviour
            )
        )

    found = {name: of(name) for name in ("plain", "lvc", "off_policy", *DICES)}
    for name, (first, second) in found.items():
        np.testing.assert_allclose(first, gradient, rtol=1e-10)
        error = np.linalg.norm(second - hessian) / np.linalg.norm(hessian)
        assert error < 1e-12 if name in DICES else error > 0.1, name
    np.testing.assert_allclose(found["off_policy"][1], found["lvc"][1], rtol=1e-12, atol=1e-15)
    other, _ = of("off_policy", jnp.asarray(SAMPLER))
    assert np.abs(other - gradient).max() > 0.02 * np.abs(gradient).max()
