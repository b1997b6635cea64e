"""Meta-gradients from perturbed copies on an MDP of two states, against the enumeration of everything that can happen.

STAC's policy weight and discount, a table of logits, episodes of two steps, and windows of one update.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.presets import preset
from configs.tree import override
from scripts.lives import Lives
from tests.smoothing import derivative, z_scores

UPDATES, HORIZON = 2, 2
RATE = 12.0  # of θ: what is done after an update is another thing than before
SIGMA = 1.0  # large, so that truncation shows
ETA = np.array([-1.0, 0.5])  # raw, as η's vector has them: γ, the policy's weight
NAMES = ("gamma", "policy_weight")
LIVES, CHUNK = 100_000, 20_000

MDP = override(
    preset("smoke"),
    {
        "game": "tabular_mdp",
        "environment.mdp_states": 2,
        "environment.mdp_actions": 2,
        "environment.mdp_horizon": HORIZON,
        "environment.mdp_concentration": 1.0,
        "environment.task": 3,
        "streams": 1,
        "unroll": HORIZON + 1,  # one episode and its reset
        "lag": "0",
        "window": 1,
        "correction": 0.0,
        "network.torso": "table",
        "self_tuned.parameters": NAMES,
        "meta_init.gamma": ETA[0],
        "meta_init.policy_weight": ETA[1],
        "inner.value_weight": 0.0,
        "inner.entropy_weight": 0.0,
        "inner.reward_clip": 0.0,
        "inner.reduction": "mean",
        "outer.value_weight": 0.0,
        "outer.entropy_weight": 0.0,
        "outer.kl_weight": 0.0,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": RATE,
        "optimizer.anneal": False,
        "optimizer.max_grad_norm": 0.0,
        "meta_optimizer.learning_rate": 0.0,
        "meta_gradient.objective": "all",
    },
)

# Every episode: the first action, where it leads, the second action. Where that one leads changes nothing.
FIRST_ACTION, STATE, SECOND_ACTION = np.array(list(itertools.product(range(2), repeat=3))).T


@pytest.fixture(scope="module")
def task():
    actor = Lives(MDP).start([0]).actor[0]
    return jax.tree.map(lambda x: np.asarray(x[0, 0], np.float64), actor.task)


def reward_by_batch(raw, task):
    """[UPDATES + 1] E[R_k] where update k has raw[k] = (γ, policy weight): every sequence of episodes, in the open."""
    rewards = np.stack([task.reward[0, FIRST_ACTION], task.reward[STATE, SECOND_ACTION]])  # [2, episodes]
    moves = np.log(task.transition[0, FIRST_ACTION, STATE])
    paths = np.array(list(itertools.product(range(len(STATE)), repeat=UPDATES + 1)))
    logits, log_probability, expected = jnp.zeros((len(paths), 2, 2)), 0.0, []
    for k in range(UPDATES + 1):
        episode = paths[:, k]
        visited = np.stack([np.zeros_like(episode), STATE[episode]])
        taken = np.stack([FIRST_ACTION[episode], SECOND_ACTION[episode]])
        log_policy = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
        every = np.arange(len(paths))
        log_probability += moves[episode] + sum(log_policy[every, s, a] for s, a in zip(visited, taken, strict=True))
        earned = rewards[:, episode].sum(axis=0) / (HORIZON + 1)  # a mean over transitions, the reset's is 0
        alike = len(STATE) ** (UPDATES - k)  # paths that differ later only
        expected.append(jnp.sum(jnp.exp(log_probability) * earned) / alike)
        if k < UPDATES:
            discount, weight = 1 / (1 + jnp.exp(-raw[k]))
            to_go = rewards[0, episode] + discount * rewards[1, episode], rewards[1, episode]
            for s, a, gain in zip(visited, taken, to_go, strict=True):
                score = np.eye(2)[a] - jnp.exp(log_policy[every, s])
                step = RATE * weight / (HORIZON + 1) * jnp.asarray(gain)[:, None] * score
                logits += np.eye(2)[s][:, :, None] * step[:, None]
    return jnp.stack(expected)


def score_of_life(task, batches=slice(1, None)):
    """The life's score as windows of one update weigh it."""
    return lambda etas: jnp.sum(reward_by_batch(etas, task)[batches]) / 2


@functools.cache
def estimates(kind):
    """[lives, 2] the sum of each life's two meta-gradients of its score, η held still."""
    settings = {"differentiation": kind, "standard_deviation": SIGMA}
    world = Lives(override(MDP, {f"meta_gradient.{name}": value for name, value in settings.items()}))
    parts = []
    for first in range(0, LIVES, CHUNK):
        _, records = world.run(world.start(range(first, first + CHUNK)), UPDATES)
        parts.append(np.stack([-np.asarray(records[f"meta_grad/of_{name}"]).sum(axis=1) for name in NAMES], axis=-1))
    return np.concatenate(parts).astype(np.float64)


def test_the_enumeration_is_what_lives_earn(task):
    """The reference itself: its mean rewards against those of lives, and its probabilities sum to one."""
    world = Lives(MDP)
    earned = np.asarray(world.run(world.start(range(CHUNK)), UPDATES)[1]["reward"], np.float64)[:, :, 0] * 2 / 3
    with jax.enable_x64(True):
        exact = np.asarray(reward_by_batch(jnp.asarray(np.tile(ETA, (UPDATES, 1))), task))
        ones = task._replace(reward=np.ones_like(task.reward))
        np.testing.assert_allclose(reward_by_batch(jnp.asarray(np.tile(ETA, (UPDATES, 1))), ones), 2 / 3)
    assert z_scores(earned, exact[1:]).max() < 4
    assert z_scores(earned, exact[:1]).max() > 7  # it learns


def test_pes_is_unbiased_for_the_whole_life_and_es_for_each_window(task):
    whole = derivative(score_of_life(task), UPDATES, SIGMA, ETA)
    pes, es = estimates("pes"), estimates("es")
    assert z_scores(pes, whole).max() < 4
    assert np.any(np.abs(whole) > 7 * pes.std(axis=0, ddof=1) / np.sqrt(LIVES))  # another scale would not pass
    assert z_scores(es, whole).max() > 7
    by_window = sum(
        derivative(score_of_life(task, slice(k + 1, k + 2)), UPDATES, SIGMA, ETA, moved=k) for k in range(UPDATES)
    )
    assert z_scores(es, by_window).max() < 4


def test_finite_differences_are_each_windows_own(task):
    """With each coordinate and each window moved in turn, what came before taken as it was."""
    exact = np.zeros(len(ETA))
    with jax.enable_x64(True):
        for k, i in itertools.product(range(UPDATES), range(len(ETA))):
            step = np.zeros((UPDATES, len(ETA)))
            step[k, i] = SIGMA
            score = score_of_life(task, slice(k + 1, k + 2))
            exact[i] += (score(jnp.asarray(ETA + step)) - score(jnp.asarray(ETA - step))) / (2 * SIGMA)
    found = estimates("finite_differences")
    assert z_scores(found, exact).max() < 4
    assert np.all(np.abs(exact) > 7 * found.std(axis=0, ddof=1) / np.sqrt(LIVES))
