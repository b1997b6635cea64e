"""The sampling correction's dials and the trace on an MDP of two states, where η is inside STAC's loss.

Two streams, two updates, and what each estimator stands for written out over every pair of episodes before each.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tree import override
from learner.mesh import NoMesh
from scripts.lives import Lives
from scripts.parts import make_learner
from tests.learner import problems
from tests.smoothing import z_scores
from tests.tiny_stac import (
    ENVIRONMENT,
    EPISODES,
    ETA,
    HORIZON,
    STAC,
    log_probability,
    probabilities,
    reward,
    sample_task,
    trajectory,
    updated,
)

UPDATES, STREAMS = 2, 2
LIVES = 100_000
BASE = override(STAC, {"streams": STREAMS, "window": UPDATES})
PAIRS = np.array(list(itertools.product(range(EPISODES), repeat=STREAMS)))
PATHS = np.array(list(itertools.product(PAIRS, repeat=UPDATES)))  # [paths, updates, streams]


class Meant(NamedTuple):
    """What an estimator is meant to estimate."""

    score: float = 1.0  # of a batch's score, with which it meets later returns
    memory: float = 1.0  # how much of dθ/dη an update passes on


FULL = {"correction": 1.0}
TRACE = {"meta_gradient.differentiation": "trace"}
FADING = TRACE | {"meta_gradient.trace_decay": 0.5}
ESTIMATORS = {
    "full": (FULL, Meant()),
    "no baseline": (FULL | {"meta_gradient.baseline": "none"}, Meant()),
    "other streams": (FULL | {"meta_gradient.baseline": "other_streams"}, Meant(score=0.0)),  # which take it all away
    # The one later return that meets a score is that of the batch behind the next update.
    "discounted": (FULL | {"correction_discount": 0.4}, Meant(score=0.4)),
    "mean of others": (
        FULL | {"meta_gradient.score_reduction": "mean", "meta_gradient.score_returns": "others"},
        Meant(score=1.0 / (STREAMS * (HORIZON + 1))),
    ),
    "trace": (FULL | TRACE, Meant()),
    "fading trace": (FULL | FADING, Meant(memory=0.5)),
    # Of every window's end together. A trace goes on from window to window; the sweep stops where its own begins.
    "trace, windows of one": (FULL | TRACE | {"window": 1}, Meant()),
    "windows of one": ({"window": 1}, Meant(score=0.0, memory=0.0)),
}
# What else each could be taken for.
NEIGHBOURS = {
    "full": "discounted",
    "other streams": "full",
    "discounted": "full",
    "mean of others": "full",
    "trace": "fading trace",
    "fading trace": "full",
}


@pytest.fixture(scope="module")
def task():
    return sample_task()


def score_of_life(raw, task, meant: Meant, probable=jax.lax.stop_gradient):
    """Whose derivative an estimator is in expectation: every path's probability is a constant, but for the scores."""
    logits, scores, earned = jnp.zeros((len(PATHS), 2, 2)), [], []
    every = np.tile(np.arange(EPISODES), (len(PATHS), 1))
    for k in range(UPDATES + 1):
        earned.append(jnp.sum(jnp.exp(log_probability(logits, every, task)) * reward(every, task), axis=1))
        if k < UPDATES:
            scores.append(log_probability(logits, PATHS[:, k], task).sum(axis=1))
            kept = meant.memory * logits + (1 - meant.memory) * jax.lax.stop_gradient(logits)
            logits = updated(kept, PATHS[:, k], [raw[name] for name in ETA], task)
    # The first batch's actions know nothing of η.
    total = sum(earned) + meant.score * jax.lax.stop_gradient(earned[2]) * scores[1]
    return jnp.sum(probable(jnp.exp(sum(scores))) * total) / (UPDATES + 1)


def derivative(function):
    """[2] by raw γ and policy weight."""
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(function))(ETA)
    return np.array([gradient[name] for name in ETA])


def closed_form(task, name):
    return derivative(lambda raw: score_of_life(raw, task, ESTIMATORS[name][1]))


def expected_through_the_learner(task, settings):
    """[2] Σ over paths of their probability times what the learner's steps of η ascend, in units of one window."""
    config = override(BASE, settings)
    learner = make_learner(config, ENVIRONMENT.spec, mesh=NoMesh())
    born, centred = problems.born(learner), config.meta_gradient.baseline == "other_streams"

    def of(first, second, last):
        state, probability, steps = born, 1.0, []
        for k, chosen in enumerate((first, second, last)):
            table = state.inner.params["policy"]["w"]
            share = probabilities(table, task)[chosen]
            probability *= jnp.prod(share) if k < UPDATES or centred else share[0]
            state, metrics = learner.step(state, trajectory(chosen, table, k, task))
            if state.meta_updates > len(steps):
                steps.append(jnp.stack([metrics[f"meta_grad/of_{name}"] for name in ETA]))
        assert len(steps) == UPDATES // config.window
        return -probability * sum(steps) * (config.window + 1) / (UPDATES + 1)

    unordered = np.array(list(itertools.combinations_with_replacement(range(EPISODES), STREAMS)))
    # The estimate is linear in the last batch's streams: the same episode twice stands for two; but not where it is
    # their difference that counts, which would be 0 on every path.
    last = PAIRS if centred else np.array([[episode] * STREAMS for episode in range(EPISODES)])
    first, second, last = (np.array(x) for x in zip(*itertools.product(unordered, unordered, last), strict=True))
    times = np.prod([1 + (x[:, 0] != x[:, 1]) for x in (first, second)], axis=0)
    every = jax.jit(lambda paths: jax.lax.map(lambda path: of(*path), paths, batch_size=len(unordered) ** 2))
    return times @ every((first, second, last))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_expectation_over_all_paths_is_the_closed_form(task, name):
    found = expected_through_the_learner(task, ESTIMATORS[name][0])
    np.testing.assert_allclose(found, closed_form(task, name), rtol=1e-9)


@functools.cache
def begun(differentiation):
    """LIVES in the environment itself, before the second batch: no estimator but the trace has had a say yet."""
    return Lives(override(BASE, {"meta_gradient.differentiation": differentiation})).start(range(LIVES))


@pytest.mark.parametrize("name, neighbour", NEIGHBOURS.items())
def test_the_mean_of_lives_is_the_closed_form(task, name, neighbour):
    config = override(BASE, ESTIMATORS[name][0])
    start = jax.tree.map(jnp.copy, begun(config.meta_gradient.differentiation))  # a run uses them up
    _, records = Lives(config).run(start, 1)
    found = -np.concatenate([records[f"meta_grad/of_{name}"] for name in ETA], axis=1, dtype=np.float64)
    assert z_scores(found, closed_form(task, name)).max() < 4  # of 8 numbers
    assert z_scores(found, closed_form(task, neighbour)).max() > 8


@pytest.mark.usefixtures("float64")
def test_the_full_correction_is_the_derivative_of_the_expected_reward_and_nothing_else_is(task):
    def expected_reward(raw):
        return score_of_life(raw, task, Meant(score=0.0), probable=lambda x: x)

    truth = derivative(expected_reward)
    for exact, name in zip(truth, ETA, strict=True):
        above, below = (expected_reward(ETA | {name: ETA[name] + step}) for step in (1e-5, -1e-5))
        np.testing.assert_allclose((above - below) / 2e-5, exact, rtol=1e-7)
    for meant, name in {meant: name for name, (_, meant) in ESTIMATORS.items()}.items():
        error = np.linalg.norm(closed_form(task, name) - truth) / np.linalg.norm(truth)
        assert error < 1e-12 if meant == Meant() else error > 0.005, name
