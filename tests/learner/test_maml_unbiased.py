"""MAML's meta-gradient in expectation, through the real learner, over everything that can happen on a 2-state MDP.

Two episodes of two steps at θ⁰, one update, and any episode at θ¹. What each estimator stands for is written out from
the definitions: scores, contributions to the update and Jacobians of every episode.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.smoothing import z_scores
from tests.tiny_maml import (
    EPISODES,
    HORIZON,
    RATE,
    STREAMS,
    expected_through_the_learner,
    sampled,
    value,
    written_out,
)
from tests.tiny_mdp import LOGITS, TASK, log_probability

REINFORCE = "lsf of decay 0"  # an episode's whole return for each of its scores, as "lsf", and no products of scores
ARMS = [("plain", 1.0), (REINFORCE, 1.0)] + [
    (surrogate, 0.0) for surrogate in ("plain", "lvc", "off_policy", "loaded_dice", "dice", "off_policy_dice", "lsf")
]
ARMS += [("loaded_dice of decay 0.5", 0.0), ("lsf of decay 0.3", 0.0)]


def inner(name):
    """What of the inner loss makes an arm."""
    surrogate, _, decay = name.partition(" of decay ")
    return {"surrogate": surrogate, "surrogate_decay": float(decay or 1.0)}


def parts(start, name):
    """Of every episode under the policy `start`: its score [n, 4], what it adds to the update [n, 4], and the Jacobian
    of that [n, 4, 4] as the surrogate has it."""
    score = jax.jacfwd(lambda logits: log_probability(jax.nn.log_softmax(logits), HORIZON))(start)
    return score.reshape(EPISODES, 4), *written_out(start, **inner(name))


def after(start, name="plain"):
    """[n, n, 4] θ¹ after each pair of episodes, and [n, n] the probability of each."""
    _, added, _ = parts(start, name)
    probability = jnp.exp(log_probability(jax.nn.log_softmax(start), HORIZON))
    new = start.reshape(-1) + RATE * (added[:, None] + added[None]) / STREAMS
    return new, probability[:, None] * probability[None]


def objective(start, name="plain"):
    """J_N(θ⁰), the expected return after the sampled update: what λ = 1 is the gradient of."""
    new, probability = after(start, name)
    return jnp.sum(probability * jax.vmap(jax.vmap(lambda x: value(x.reshape(2, 2))))(new))


def expected(name, correction, start):
    """[4] E[(I + α Ĥ)ᵀ ∇J(θ¹) + λ J(θ¹) Σ scores]."""
    score, _, jacobian = parts(start, name)
    new, probability = after(start, name)
    flat = jax.vmap(jax.vmap(jax.value_and_grad(lambda x: value(x.reshape(2, 2)))))
    returns, gradient = flat(new)
    jacobian = (jacobian[:, None] + jacobian[None]) / STREAMS
    direct = gradient + RATE * jnp.einsum("mnij,mni->mnj", jacobian, gradient)
    scored = (score[:, None] + score[None]) * returns[..., None]
    return jnp.einsum("mn,mni->i", probability, direct + correction * scored)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("surrogate, correction", ARMS)
def test_the_learners_expectation_is_the_closed_form(surrogate, correction):
    closed = jax.jit(lambda x: expected(surrogate, correction, x))(LOGITS)
    np.testing.assert_allclose(expected_through_the_learner(inner(surrogate), correction), closed, rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_full_correction_is_the_gradient_of_the_sampled_objective_and_nothing_else_is():
    """λ = 1 is unbiased for J_N (No DICE; Tang's SF); DiCE takes much of MAML's bias away and keeps some.

    That is so of rewards of one sign. With (0.3, -0.7), (1.1, 0.4) DiCE has twice the bias of plain, LVC nine times.
    """
    truth = np.asarray(jax.jit(jax.grad(objective))(LOGITS)).reshape(-1)
    moved = [objective(LOGITS + e * np.array([[1.0, 0.0], [0.0, 0.0]])) for e in (1e-5, -1e-5)]
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-5, truth[0], rtol=1e-8)
    found = jax.jit(lambda x: {arm: expected(*arm, x) for arm in ARMS})(LOGITS)
    np.testing.assert_allclose(found["plain", 1.0], truth, rtol=1e-10)
    of_whole_returns = jax.jit(jax.grad(lambda x: objective(x, REINFORCE)))(LOGITS).reshape(-1)
    np.testing.assert_allclose(found[REINFORCE, 1.0], of_whole_returns, rtol=1e-10)
    bias = {name: np.linalg.norm(found[name, 0.0] - truth) / np.linalg.norm(truth) for name, c in ARMS if not c}
    np.testing.assert_allclose(bias["loaded_dice"], bias["dice"], rtol=1e-10)
    assert bias["lvc"] == bias["off_policy"]
    assert 0.01 < bias["dice"] < 0.5 * bias["plain"], bias


@pytest.mark.usefixtures("float64")
def test_lsf_and_dice_have_one_expected_hessian_but_not_one_meta_gradient():
    """Tang's R u uᵀ and DiCE's products of scores of the past: not one by one, but on average, and then both are the
    true Hessian. Where the outer gradient is a constant their meta-gradients are the same, then. Behind an update it is
    none: E[(I + α Ĥ)ᵀ ∇J(θ¹)] is of a product, and both factors are of the same episodes. These go with Ĥ one by one,
    where the two differ; and all rewards of an episode meet all of its scores in LSF's update, whose θ¹ is scattered
    more. That LSF and DiCE agree in expectation is so of the Hessian, and of more only as episodes become many."""
    probability = jnp.exp(log_probability(jax.nn.log_softmax(LOGITS), HORIZON))
    hessians = {name: parts(LOGITS, name)[2] for name in ("lsf", "dice")}
    assert np.abs(hessians["lsf"] - hessians["dice"]).max() > 0.1
    for hessian in hessians.values():
        mean = jnp.einsum("n,nij->ij", probability, hessian)
        np.testing.assert_allclose(mean, jax.hessian(value)(LOGITS).reshape(4, 4), rtol=1e-10, atol=1e-14)
    lsf, dice = (expected(name, 0.0, LOGITS) for name in ("lsf", "dice"))
    assert 1e-3 < np.linalg.norm(lsf - dice) / np.linalg.norm(dice) < 0.2  # of 2 episodes


@pytest.mark.usefixtures("float64")
def test_where_an_episode_is_one_step_lsf_and_dice_are_the_same_estimator():
    """And so are LVC and Loaded DiCE: an action has no other's score to meet. Through the learner; the closed form is
    that of a bandit in state 0, whose pulls weigh as much more as other logits make them likelier."""
    start, reward = LOGITS[0], TASK.reward[0]
    pulls = np.array(list(np.ndindex(2, 2)))

    def behind_the_update(logits):
        policy, sampler = jax.nn.softmax(logits), jax.nn.softmax(start)
        contributions = (reward * policy / sampler)[pulls][..., None] * (np.eye(2)[pulls] - policy)
        new = jax.nn.softmax(logits + RATE * contributions.mean(axis=1))
        return sampler[pulls].prod(axis=1) @ (new @ reward)

    closed = jax.jit(jax.grad(behind_the_update))(start)
    names = ("lsf", "dice", "lvc", "loaded_dice", "plain")
    found = {name: expected_through_the_learner(inner(name), 0.0, horizon=1) for name in names}
    np.testing.assert_allclose(found["lsf"], found["dice"], rtol=1e-12)
    plain = found.pop("plain")
    for expectation in found.values():
        np.testing.assert_allclose(expectation, [*closed, 0.0, 0.0], rtol=1e-10)
    assert np.linalg.norm(plain - found["dice"]) > 0.1 * np.linalg.norm(found["dice"])


@pytest.mark.slow
@pytest.mark.parametrize("surrogate, correction", ARMS)
def test_means_of_samples_agree(surrogate, correction):
    """100,000 meta-gradients in the environment itself, from the uniform policy that tables begin with."""
    whole = surrogate.partition(" of decay ")[0]
    settings = {f"inner.{name}": value for name, value in inner(surrogate).items()}
    found = sampled(settings | {"correction": correction}).gradient
    start = jnp.zeros((2, 2))
    assert z_scores(found, expected(surrogate, correction, start)).max() < 4  # of 44 numbers, of which 28 differ
    for other in {"dice"} if surrogate == "plain" else {"plain", whole} - {surrogate}:
        assert z_scores(found, expected(other, 0.0, start)).max() > 7  # and would have told them apart
