"""LIRPG's meta-gradient on an MDP of two states: η is the reward of each action in each state that θ learns from.

One stream, two updates and the batch behind them; what is earned along every sequence of episodes is written out.
"""

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
from tests.smoothing import z_scores
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
LIVES = 100_000
RAW = np.array([[0.3, -0.2], [-0.4, 0.5]])
FIXED = {f"inner.{name}": float(1 / (1 + np.exp(-raw))) for name, raw in ETA.items()}  # what STAC tunes
LIRPG = override(
    STAC,
    FIXED
    | {
        "agent": "lirpg",
        "window": UPDATES,
        "self_tuned.parameters": (),
        "intrinsic.weight": 1.0,
        "inner.value_weight": 1e-15,  # critics stay at 0; that they learn nothing is refused
        "outer.separate_critic": True,
        "meta_optimizer.name": "sgd",
        "meta_optimizer.learning_rate": 1.0,  # so that a step of η is its meta-gradient
    },
)
PATHS = np.array(list(itertools.product(range(EPISODES), repeat=UPDATES)))[..., None]  # of one stream
CORRECTIONS = {0.0: jax.lax.stop_gradient, 1.0: lambda x: x}  # λ -> what is differentiated of a path's probability


@pytest.fixture(scope="module")
def task():
    return sample_task()


def closed_form(task, correction):
    """[4] dJ/dη; with λ = 0 as if η moved what θ becomes after given episodes, and not which episodes are lived."""

    def earned(eta):
        learned, logits, log_likely = (
            task._replace(reward=task.reward + jnp.tanh(eta)),
            jnp.zeros((len(PATHS), 2, 2)),
            0.0,
        )
        every, total = np.tile(np.arange(EPISODES), (len(PATHS), 1)), 0.0
        for k in range(UPDATES + 1):
            total += jnp.sum(jnp.exp(log_probability(logits, every, task)) * reward(every, task), axis=1)
            if k < UPDATES:
                log_likely += log_probability(logits, PATHS[:, k], task)[:, 0]
                logits = updated(logits, PATHS[:, k], list(ETA.values()), learned)
        return jnp.sum(CORRECTIONS[correction](jnp.exp(log_likely)) * total) / (UPDATES + 1)

    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(earned))(RAW)).reshape(-1)


def flat(meta_params):
    """[..., 4] of η's table."""
    (table,) = jax.tree.leaves(meta_params)
    return table.reshape(*table.shape[:-2], 4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_learners_expectation_is_the_closed_form(task, correction):
    learner = make_learner(override(LIRPG, {"correction": correction}), ENVIRONMENT.spec, mesh=NoMesh())
    born = problems.born(learner)
    born = born._replace(meta=born.meta._replace(params=jax.tree.map(lambda x: jnp.asarray(RAW), born.meta.params)))

    def of(path):
        state, probability = born, 1.0
        for k, chosen in enumerate(path):
            table = state.inner.params["policy"]["w"]
            probability *= probabilities(table, task)[chosen]
            state, _ = learner.step(state, trajectory(chosen[None], table, k, task))
        return probability * (flat(state.meta.params) - RAW.reshape(-1))

    paths = np.array(list(itertools.product(range(EPISODES), repeat=UPDATES + 1)))
    found = jax.jit(jax.vmap(of))(paths).sum(axis=0)
    np.testing.assert_allclose(found, closed_form(task, correction), rtol=1e-9)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_mean_of_lives_is_the_closed_form(task, correction):
    lives = Lives(override(LIRPG, {"correction": correction}))
    table = np.broadcast_to(np.float32(RAW), (LIVES, 2, 2))
    ended, _ = lives.run(lives.start(range(LIVES), jax.tree.map(lambda x: table, lives.eta())), 1)
    found = np.asarray(flat(ended.learner.meta.params), np.float64) - np.float32(RAW).reshape(-1)
    assert z_scores(found, closed_form(task, correction)).max() < 4  # of 8 numbers
    assert z_scores(found, closed_form(task, 1.0 - correction)).max() > 8
