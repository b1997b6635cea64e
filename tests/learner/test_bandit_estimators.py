"""No DICE's bandit learner with every estimator of the sweep and of the trace, in expectation and in the mean of lives.

Two arms that pay without noise, two streams, three updates, of which the first has one learning rate and the others
another. What each estimator stands for is written out: the policies of every sequence of pulls, how the update's own
derivative remembers θ, and which batches score which returns.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tree import override
from learner.mesh import NoMesh
from scripts.lives import Lives
from scripts.parts import make_learner
from tests import tiny_bandit
from tests.smoothing import z_scores
from tests.tiny_bandit import BANDIT, ENVIRONMENT, ETA, RAW, every_path, followed, lived

UPDATES, STREAMS = 3, 2
LIVES = 100_000
TINY = override(BANDIT, {"streams": STREAMS, "window": UPDATES, "meta_gradient.baseline": "running_mean"})
PATHS = every_path(UPDATES + 1, STREAMS)


class Meant(NamedTuple):
    """What an estimator is meant to estimate."""

    surrogate: str = "plain"
    score: float = 0.0  # of a batch's score, with which it meets later returns
    discount: float = 1.0  # of that, by update in between
    memory: float = 1.0  # how much of dθ/dη an update passes on


FULL = {"correction": 1.0}
TRACE = FULL | {"meta_gradient.differentiation": "trace"}
FADING = TRACE | {"meta_gradient.trace_decay": 0.5}
HALVED = {"correction_discount": 0.5}
PLAIN = {
    "none": ({}, Meant()),
    "half": ({"correction": 0.5}, Meant(score=0.5)),
    "full": (FULL, Meant(score=1.0)),
    "discounted": (FULL | HALVED, Meant(score=1.0, discount=0.5)),
    "mean": (FULL | {"meta_gradient.score_reduction": "mean"}, Meant(score=1.0 / STREAMS)),
    "others": (FULL | {"meta_gradient.score_returns": "others"}, Meant(score=1.0)),
    "other streams": (FULL | {"meta_gradient.baseline": "other_streams"}, Meant()),  # which take all of it away
    "trace": (TRACE, Meant(score=1.0)),
    "fading": (FADING, Meant(score=1.0, memory=0.5)),
    "one step": (TRACE | {"meta_gradient.trace_decay": 0.0}, Meant(score=1.0, memory=0.0)),
    "fading, discounted": (FADING | HALVED, Meant(score=1.0, discount=0.5, memory=0.5)),
}
DICE = {
    f"DiCE, {name}": (settings | {"inner.surrogate": "dice"}, meant._replace(surrogate="dice"))
    for name, (settings, meant) in PLAIN.items()
}
ESTIMATORS = PLAIN | DICE
# What else each could be taken for.
NEIGHBOURS = {
    "none": "half",
    "half": "full",
    "full": "half",
    "discounted": "full",
    "mean": "full",
    "others": "half",
    "other streams": "half",
    "trace": "fading",
    "fading": "trace",
    "one step": "fading",
    "fading, discounted": "fading",
}
NEIGHBOURS |= {f"DiCE, {name}": name for name in PLAIN}
NEIGHBOURS["DiCE, one step"] = "DiCE, fading"  # of no update's derivative there is nothing that DiCE could add to


@pytest.fixture(scope="module")
def arms():
    return tiny_bandit.arms()


def path_by_path(raw, arms, surrogate="plain", memory=1.0):
    return followed(PATHS, jnp.broadcast_to(raw, (UPDATES, 2)), arms, surrogate, memory)


def score_of_life(raw, arms, meant: Meant):
    """Whose derivative an estimator is in expectation: every path's probability is a constant, but for the scores."""
    batches, total = path_by_path(raw, arms, meant.surrogate, meant.memory), 0.0
    probability = jnp.exp(sum(batch.log_probability for batch in batches))
    for k, batch in enumerate(batches):
        scores = sum(meant.discount ** (k - j) * batches[j].log_probability for j in range(k))
        total += batch.expected + meant.score * batch.reward * scores
    return jnp.sum(jax.lax.stop_gradient(probability) * total) / (UPDATES + 1)


def expected_reward(raw, arms):
    """J(η), with everything that depends on it."""
    batches = path_by_path(raw, arms)
    probability = jnp.exp(sum(batch.log_probability for batch in batches))
    return jnp.sum(probability * sum(batch.reward for batch in batches)) / (UPDATES + 1)


def derivative(function):
    """[2] by raw early and late rate."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(function))(RAW))


def closed_form(arms, name):
    return derivative(lambda raw: score_of_life(raw, arms, ESTIMATORS[name][1]))


def through_the_learner(arms, settings):
    """[paths, 2] what the learner's step of η ascends at the end of each path, and [paths] the paths' probabilities."""
    learner = make_learner(override(TINY, settings), ENVIRONMENT.spec, mesh=NoMesh())

    def of(path):
        probability, metrics = lived(learner, path, arms)
        return -jnp.stack([metrics[f"meta_grad/of_{name}"] for name in ETA]), probability

    return jax.jit(jax.vmap(of))(PATHS.astype(np.int32))


@functools.cache
def begun(differentiation):
    """LIVES in the environment itself, before the second batch: no estimator but the trace has had a say yet."""
    return Lives(override(TINY, {"meta_gradient.differentiation": differentiation})).start(range(LIVES))


def estimates(settings):
    """[LIVES, 2]"""
    config = override(TINY, settings)
    start = jax.tree.map(jnp.copy, begun(config.meta_gradient.differentiation))  # a run uses them up
    _, records = Lives(config).run(start, 1)
    return -np.concatenate([records[f"meta_grad/of_{name}"] for name in ETA], axis=1, dtype=np.float64)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_expectation_over_all_paths_is_the_closed_form(arms, name):
    found, probability = through_the_learner(arms, ESTIMATORS[name][0])
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(probability @ found, closed_form(arms, name), rtol=1e-10)


@pytest.mark.parametrize("name, neighbour", NEIGHBOURS.items())
def test_the_mean_of_lives_is_the_closed_form(arms, name, neighbour):
    found = estimates(ESTIMATORS[name][0])
    assert z_scores(found, closed_form(arms, name)).max() < 4  # of 44 numbers
    assert z_scores(found, closed_form(arms, neighbour)).max() > 8


@pytest.mark.usefixtures("float64")
def test_the_full_correction_of_plain_updates_is_the_derivative_of_the_expected_reward_and_nothing_else_is(arms):
    truth = derivative(lambda raw: expected_reward(raw, arms))
    for exact, step in zip(truth, 1e-5 * np.eye(2), strict=True):
        above, below = (expected_reward(RAW + sign * step, arms) for sign in (1, -1))
        np.testing.assert_allclose((above - below) / 2e-5, exact, rtol=1e-8)
    for name, (_, meant) in ESTIMATORS.items():
        error = np.linalg.norm(closed_form(arms, name) - truth) / np.linalg.norm(truth)
        assert error < 1e-12 if meant == Meant(score=1.0) else error > 0.005, name
