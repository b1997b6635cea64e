"""Surrogates by full enumeration: what their gradients and Hessians are in expectation, over every trajectory there is.

Two states, two actions, three steps, so eight action sequences: one stream each, weighted by its probability.
"""

import itertools
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import losses
from agents.config import InnerLossConfig
from agents.types import FIRST, LAST, MID, NetworkOutput, Trajectory

pytestmark = pytest.mark.usefixtures("float64")

STEPS = 3
NEXT = np.array([[0, 1], [1, 0]])  # state, action -> state
REWARD = np.array([[0.3, -0.7], [1.1, 0.4]])
VALUES = np.array([0.2, -0.5])  # a baseline that is nobody's value
LOGITS = np.array([[0.4, -0.3], [0.1, 0.6]])
SAMPLER = np.array([[-0.2, 0.5], [0.3, -0.6]])
SURROGATES = get_args(get_type_hints(InnerLossConfig)["surrogate"])
SEQUENCES = np.array(list(itertools.product((0, 1), repeat=STEPS))).T  # [T, 8]


def states_of(actions):
    states = [np.zeros(actions.shape[1], int)]
    for action in actions:
        states.append(NEXT[states[-1], action])
    return np.stack(states)


STATES = states_of(SEQUENCES)


def log_probs(logits):
    """[T, 8]"""
    return jax.nn.log_softmax(logits)[STATES[:-1], SEQUENCES]


def true_return(logits, gamma):
    rewards = REWARD[STATES[:-1], SEQUENCES]
    return jnp.sum(jnp.exp(log_probs(logits).sum(axis=0)) * (gamma ** np.arange(STEPS) @ rewards))


def trajectory(behaviour=LOGITS):
    step_type = np.full(STATES.shape, MID)
    step_type[0], step_type[-1] = FIRST, LAST
    discount = np.ones((STEPS, 8))
    discount[-1] = 0.0
    return Trajectory(
        observation=None,
        step_type=step_type,
        action=SEQUENCES.astype(np.int32),
        behaviour_logits=behaviour[STATES[:-1]],
        reward=REWARD[STATES[:-1], SEQUENCES],
        discount=discount,
        core_state=(),
        params_version=np.zeros(8, np.int32),
    )


def objective(surrogate, gamma=1.0, decay=1.0, behaviour=LOGITS, weights=None, **hyperparameters):
    """The expected surrogate, as a function of the logits; the weights of the trajectories are constants."""
    probability = np.exp(np.asarray(log_probs(behaviour)).sum(axis=0)) if weights is None else weights
    fixed = {"gamma": gamma, "trace_lambda": 1.0, "alpha": 1.0, "policy_weight": 1.0}
    fixed |= {"value_weight": 0.0, "entropy_weight": 0.0} | hyperparameters

    def function(logits):
        output = NetworkOutput(logits[STATES], jnp.asarray(VALUES)[STATES])
        loss, _ = losses.actor_critic_loss(
            fixed,
            output,
            trajectory(behaviour),
            rho_clip=1.0,
            reward_clip=0.0,
            surrogate=surrogate,
            surrogate_decay=decay,
        )
        return -STEPS * jnp.sum(probability * loss)

    return function


def hessian(function):
    return jax.jit(jax.hessian(function))(LOGITS).reshape(4, 4)


@pytest.mark.parametrize("name", SURROGATES)
def test_first_order_all_are_the_policy_gradient(name):
    exact = jax.grad(lambda x: true_return(x, 1.0))(LOGITS)
    np.testing.assert_allclose(jax.jit(jax.grad(objective(name)))(LOGITS), exact, rtol=1e-12)


@pytest.mark.parametrize("name, sampler", [("dice", LOGITS), ("off_policy_dice", SAMPLER), ("lsf", LOGITS)])
def test_dice_and_lsf_have_every_derivative_of_the_discounted_return(name, sampler):
    for derivative in (jax.grad, jax.hessian, lambda f: jax.jacfwd(jax.hessian(f))):
        exact = jax.jit(derivative(lambda x: true_return(x, 0.7)))(LOGITS)
        assert np.abs(exact).max() > 1e-2
        np.testing.assert_allclose(
            jax.jit(derivative(objective(name, gamma=0.7, behaviour=sampler)))(LOGITS), exact, rtol=1e-9, atol=1e-12
        )


def test_second_order_only_the_dices_and_lsf_are_right():
    exact = hessian(lambda x: true_return(x, 1.0))
    for name in ("dice", "loaded_dice", "off_policy_dice", "lsf"):
        np.testing.assert_allclose(hessian(objective(name)), exact, rtol=1e-10, atol=1e-12)
    for name in ("plain", "lvc"):
        assert np.abs(hessian(objective(name)) - exact).max() > 0.05 * np.abs(exact).max()


def test_lvc_adds_the_outer_products_of_the_own_scores():
    """LVC - plain = E Σ_t A_t ∇log π_t ∇log π_tᵀ, from the definition."""
    scores = jax.jacfwd(log_probs)(LOGITS).reshape(STEPS, 8, 4)
    rewards = REWARD[STATES[:-1], SEQUENCES]
    advantage = np.cumsum(rewards[::-1], axis=0)[::-1] - VALUES[STATES[:-1]]
    probability = np.exp(np.asarray(log_probs(LOGITS)).sum(axis=0))
    products = jnp.einsum("b,tb,tbi,tbj->ij", probability, advantage, scores, scores)
    np.testing.assert_allclose(hessian(objective("lvc")) - hessian(objective("plain")), products, rtol=1e-9, atol=1e-12)


def test_loaded_dice_has_the_products_with_earlier_scores_decayed():
    """Its Hessian is LVC's and E Σ_t A_t Σ_(u<t) κ^(t-u) (∇log π_t ∇log π_uᵀ + ∇log π_u ∇log π_tᵀ), from the
    definition; at κ = 1 that is the true one."""
    scores = jax.jacfwd(log_probs)(LOGITS).reshape(STEPS, 8, 4)
    rewards = REWARD[STATES[:-1], SEQUENCES]
    advantage = np.cumsum(rewards[::-1], axis=0)[::-1] - VALUES[STATES[:-1]]
    probability = np.exp(np.asarray(log_probs(LOGITS)).sum(axis=0))
    pairs = [(t, u) for t in range(STEPS) for u in range(t)]
    at = {decay: hessian(objective("loaded_dice", decay=decay)) for decay in (0.0, 0.5, 1.0)}
    for decay, found in at.items():
        products = sum(
            decay ** (t - u) * np.einsum("b,bi,bj->ij", probability * advantage[t], scores[t], scores[u])
            for t, u in pairs
        )
        closed = hessian(objective("lvc")) + products + products.T
        np.testing.assert_allclose(found, closed, rtol=1e-10, atol=1e-12)
    exact = hessian(lambda x: true_return(x, 1.0))
    errors = [np.linalg.norm(found - exact) for found in at.values()]
    assert errors[0] > errors[1] > 100 * errors[2]


def test_lsf_without_the_products_of_scores_is_reinforce_with_whole_returns():
    """Its Hessian is E Σ_t (R - V_t) ∇² log π_t, from the definition; in between it is in between."""
    curvature = jax.hessian(
        lambda x: jnp.einsum(
            "b,tb,tb->",
            np.exp(np.asarray(log_probs(LOGITS)).sum(axis=0)),
            REWARD[STATES[:-1], SEQUENCES].sum(axis=0) - VALUES[STATES[:-1]],
            log_probs(x),
        )
    )(LOGITS).reshape(4, 4)
    at = {decay: hessian(objective("lsf", decay=decay)) for decay in (0.0, 0.5, 1.0)}
    np.testing.assert_allclose(at[0.0], curvature, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(at[0.5], (at[0.0] + at[1.0]) / 2, rtol=1e-10, atol=1e-12)
    assert np.abs(at[0.0] - at[1.0]).max() > 0.1


def test_off_policy_is_lvc_where_the_sampler_is_the_policy_and_unbiased_in_a_bandit_where_it_is_not():
    np.testing.assert_allclose(hessian(objective("off_policy")), hessian(objective("lvc")), rtol=1e-12, atol=1e-14)

    def bandit(logits):
        return jnp.sum(jax.nn.softmax(logits[0]) * REWARD[0])

    probability = np.exp(np.asarray(log_probs(SAMPLER)).sum(axis=0))

    def of_first_step(logits):
        data = trajectory(SAMPLER)
        output = NetworkOutput(logits[STATES], jnp.asarray(VALUES)[STATES])
        cut = data._replace(
            step_type=np.stack([data.step_type[0], np.full(8, LAST)]),
            action=data.action[:1],
            behaviour_logits=data.behaviour_logits[:1],
            reward=data.reward[:1],
            discount=np.zeros((1, 8)),
        )
        fixed = dict.fromkeys(losses.HYPERPARAMETERS, 0.0) | {"policy_weight": 1.0}  # α = 0: ratios are not clipped
        loss, _ = losses.actor_critic_loss(
            fixed,
            NetworkOutput(output.logits[:2], output.value[:2]),
            cut,
            rho_clip=1.0,
            reward_clip=0.0,
            surrogate="off_policy",
        )
        return -jnp.sum(probability * loss)

    for derivative in (jax.grad, jax.hessian):
        np.testing.assert_allclose(
            jax.jit(derivative(of_first_step))(LOGITS), jax.jit(derivative(bandit))(LOGITS), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("name", SURROGATES)
def test_two_episodes_in_one_segment_are_two_segments(name):
    """A segment with a reset inside: gradient and Hessian are the sums of the two episodes'."""
    rng = np.random.default_rng(0)
    data = trajectory()
    pair = [0, 5]  # two of the streams, one after the other

    def one(x):
        return x[:, pair]

    def after_each_other(x, between):
        return np.concatenate([x[:, :1], between, x[:, 1:]])

    single = Trajectory(*(one(x) if isinstance(x, np.ndarray) and x.ndim > 1 else x for x in data))
    step_type = np.concatenate([single.step_type[:, :1], single.step_type[:, 1:]])  # LAST, FIRST: the reset between
    joined = single._replace(
        step_type=step_type,
        action=after_each_other(single.action, np.ones((1, 1), np.int32)),
        behaviour_logits=after_each_other(single.behaviour_logits, rng.normal(size=(1, 1, 2))),
        reward=after_each_other(single.reward, np.full((1, 1), 3.0)),
        discount=after_each_other(single.discount, np.ones((1, 1))),
    )
    states = STATES[:, pair]
    joined_states = np.concatenate([states[:, :1], states[:, 1:]])
    fixed = {"gamma": 0.8, "trace_lambda": 1.0, "alpha": 1.0, "policy_weight": 1.0}
    fixed |= {"value_weight": 0.0, "entropy_weight": 0.0}

    def total(logits, states, data):
        output = NetworkOutput(logits[states], jnp.asarray(VALUES)[states])
        loss, _ = losses.actor_critic_loss(
            fixed, output, data, rho_clip=1.0, reward_clip=0.0, surrogate=name, surrogate_decay=0.9
        )
        return len(data.reward) * jnp.sum(loss)

    for derivative in (jax.grad, jax.hessian):
        apart, together = (
            jax.jit(derivative(lambda x, s=s, d=d: total(x, s, d)))(LOGITS)
            for s, d in ((states, single), (joined_states, joined))
        )
        np.testing.assert_allclose(together, apart, rtol=1e-10, atol=1e-12)
