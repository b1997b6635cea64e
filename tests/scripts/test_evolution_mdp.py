"""Meta-gradients from perturbed copies on an MDP of two states, against the enumeration of everything that can happen.

STAC's policy weight and discount, a table of logits, episodes of two steps, and windows of one update.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tree import override
from learner.mesh import NoMesh
from scripts.lives import Lives
from scripts.parts import make_learner
from tests.learner import problems
from tests.smoothing import POINTS, derivative, expected_estimates, z_scores
from tests.tiny_stac import (
    ENVIRONMENT,
    EPISODES,
    ETA,
    STAC,
    log_probability,
    probabilities,
    reward,
    sample_task,
    trajectory,
    updated,
)

UPDATES = 2
SIGMA = 1.0  # large, so that truncation shows
RAW = np.array(list(ETA.values()))
LIVES, CHUNK = 100_000, 20_000
NARROW, FEW = 0.2, 5  # the deviation where few points of the quadrature are enough
QUADRATURE = 1e-6  # its error there is below 1e-7


@pytest.fixture(scope="module")
def task():
    return sample_task()


def reward_by_batch(raw, task):
    """[UPDATES + 1] E[R_k] where update k has raw[k] = (γ, policy weight): every sequence of episodes, in the open."""
    paths = np.array(list(itertools.product(range(EPISODES), repeat=UPDATES + 1)))[..., None]  # of one stream
    logits, total, expected = jnp.zeros((len(paths), 2, 2)), 0.0, []
    for k in range(UPDATES + 1):
        total += log_probability(logits, paths[:, k], task)
        alike = EPISODES ** (UPDATES - k)  # paths that differ later only
        expected.append(jnp.sum(jnp.exp(total) * reward(paths[:, k], task)) / alike)
        if k < UPDATES:
            logits = updated(logits, paths[:, k], raw[k], task)
    return jnp.stack(expected)


def score_of_life(task, batches=slice(1, None)):
    """The life's score as windows of one update weigh it."""
    return lambda etas: jnp.sum(reward_by_batch(etas, task)[batches]) / 2


def by_window(task, sigma, points=POINTS):
    """Each window's own smoothed derivative, what came before taken as it was."""
    scores = [score_of_life(task, slice(k + 1, k + 2)) for k in range(UPDATES)]
    return sum(derivative(score, UPDATES, sigma, RAW, k, points) for k, score in enumerate(scores))


def central_differences(task, sigma):
    """With each coordinate and each window moved in turn, what came before taken as it was."""
    exact = np.zeros(len(RAW))
    with jax.enable_x64(True):
        for k, i in itertools.product(range(UPDATES), range(len(RAW))):
            step = np.zeros((UPDATES, len(RAW)))
            step[k, i] = sigma
            score = score_of_life(task, slice(k + 1, k + 2))
            exact[i] += (score(jnp.asarray(RAW + step)) - score(jnp.asarray(RAW - step))) / (2 * sigma)
    return exact


@functools.cache
def estimates(kind):
    """[lives, 2] the sum of each life's two meta-gradients of its score, η held still."""
    settings = {"differentiation": kind, "standard_deviation": SIGMA}
    world = Lives(override(STAC, {f"meta_gradient.{name}": value for name, value in settings.items()}))
    parts = []
    for first in range(0, LIVES, CHUNK):
        _, records = world.run(world.start(range(first, first + CHUNK)), UPDATES)
        parts.append(np.stack([-np.asarray(records[f"meta_grad/of_{name}"]).sum(axis=1) for name in ETA], axis=-1))
    return np.concatenate(parts).astype(np.float64)


def expected_through_the_learner(kind, task):
    """[2] the sum of a life's two meta-gradients over all episodes and perturbations, the updates the learner's own."""
    own = {"meta_gradient.differentiation": kind, "meta_gradient.standard_deviation": NARROW}
    config = override(STAC, own)
    learner = make_learner(config, ENVIRONMENT.spec, mesh=NoMesh())
    every, born = np.arange(EPISODES), {name: jnp.asarray(value) for name, value in ETA.items()}
    earned = reward(every[:, None], task)[:, 0]

    def returns(etas):
        """[UPDATES + 1] expected, of a copy with raw η `etas`, {name: [UPDATES]}; of the first batch, without η, 0."""

        def after(state, chosen, k):
            table = state.inner.params["policy"]["w"]
            meta = state.meta._replace(params=jax.tree.map(lambda x: x[k], etas))
            state, _ = learner.step(state._replace(tape=(), meta=meta), trajectory(jnp.stack([chosen]), table, k, task))
            return state, probabilities(state.inner.params["policy"]["w"], task)

        def of(first):
            begun, second = after(problems.born(learner), first, 0)
            third = jax.vmap(lambda chosen: after(begun, chosen, 1)[1])(every)
            return jnp.stack([0.0, second @ earned, second @ (third @ earned)])

        return probabilities(jnp.zeros((2, 2)), task) @ jax.vmap(of)(every)

    return expected_estimates(config.meta_gradient, born, returns, UPDATES, FEW)


def test_the_enumeration_is_what_lives_earn(task):
    """The reference itself: its mean rewards against those of lives, and its probabilities sum to one."""
    world = Lives(STAC)
    earned = np.asarray(world.run(world.start(range(CHUNK)), UPDATES)[1]["reward"], np.float64)[:, :, 0] * 2 / 3
    with jax.enable_x64(True):
        exact = np.asarray(reward_by_batch(jnp.asarray(np.tile(RAW, (UPDATES, 1))), task))
        ones = task._replace(reward=np.ones_like(task.reward))
        np.testing.assert_allclose(reward_by_batch(jnp.asarray(np.tile(RAW, (UPDATES, 1))), ones), 2 / 3)
    assert z_scores(earned, exact[1:]).max() < 4
    assert z_scores(earned, exact[:1]).max() > 7  # it learns


def test_pes_is_unbiased_for_the_whole_life_and_es_for_each_window(task):
    whole = derivative(score_of_life(task), UPDATES, SIGMA, RAW)
    pes, es = estimates("pes"), estimates("es")
    assert z_scores(pes, whole).max() < 4
    assert np.any(np.abs(whole) > 7 * pes.std(axis=0, ddof=1) / np.sqrt(LIVES))  # another scale would not pass
    assert z_scores(es, whole).max() > 7
    assert z_scores(es, by_window(task, SIGMA)).max() < 4


def test_finite_differences_are_each_windows_own(task):
    exact, found = central_differences(task, SIGMA), estimates("finite_differences")
    assert z_scores(found, exact).max() < 4
    assert np.all(np.abs(exact) > 7 * found.std(axis=0, ddof=1) / np.sqrt(LIVES))


@pytest.mark.usefixtures("float64")
def test_over_all_episodes_and_perturbations_they_are_these_derivatives(task):
    whole = derivative(score_of_life(task), UPDATES, NARROW, RAW, points=FEW)
    own = by_window(task, NARROW, FEW)
    exact = {"pes": (whole, QUADRATURE), "es": (own, QUADRATURE)}
    exact["finite_differences"] = central_differences(task, NARROW), 1e-12
    for kind, (closed, tolerance) in exact.items():
        np.testing.assert_allclose(expected_through_the_learner(kind, task), closed, rtol=tolerance, err_msg=kind)
    assert np.linalg.norm(whole - own) > 0.02 * np.linalg.norm(whole)
