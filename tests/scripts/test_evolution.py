"""Meta-gradients from perturbed copies of a life: against enumeration, and against the same lives lived apart.

The copies act through Gaussian perturbations of η, so what they estimate is the derivative of the reward smoothed by
these. On a bandit whose arms pay without noise both are exact: the reward by the enumeration of every sequence of
pulls, the smoothing by Gauss-Hermite quadrature.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.presets import preset
from configs.tree import override
from scripts.cli import main
from scripts.lives import Lives
from scripts.studies.nodice import bandit
from tests.smoothing import derivative, z_scores

RATES = {"early": 1.0, "late": 0.5}  # raw
ETA = np.array(list(RATES.values()))
UPDATES, WINDOW = 4, 2
SIGMA = 0.5  # where windows follow each other; large, so that truncation shows
LIVES, CHUNK = 100_000, 20_000

TINY = override(
    bandit(),
    {
        "streams": 1,
        "window": WINDOW,
        "environment.arms": 2,
        "environment.noise": 0.0,
        "environment.task": 36,  # pays 0 and about 1.3
        "bandit.early": RATES["early"],
        "bandit.late": RATES["late"],
        "bandit.early_updates": 1,
    },
)


@pytest.fixture(scope="module")
def arms():
    lives = Lives(override(TINY, {"meta_gradient.differentiation": "es"}))
    return np.asarray(lives.start([0]).actor[0].means[0, 0], np.float64)


def reward_by_batch(raw, arms):
    """[UPDATES + 1] E[R_k] where update k uses raw[k] = (early, late): every sequence of pulls, in the open."""
    paths = np.array(list(itertools.product(range(2), repeat=UPDATES + 1)))
    logits, log_probability, expected = jnp.zeros((len(paths), 2)), 0.0, []
    for k in range(UPDATES + 1):
        log_policy = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=1, keepdims=True))
        pulled = np.eye(2)[paths[:, k]]
        log_probability += jnp.sum(pulled * log_policy, axis=1)
        expected.append(jnp.sum(jnp.exp(log_probability) * arms[paths[:, k]]) / 2 ** (UPDATES - k))
        if k < UPDATES:
            rate = jnp.log1p(jnp.exp(raw[k][0 if k < 1 else 1]))
            logits += rate * arms[paths[:, k]][:, None] * (pulled - jnp.exp(log_policy))
    return jnp.stack(expected)


def by_update(etas):
    """[windows, 2] -> [UPDATES, 2]: the η of each update."""
    return jnp.repeat(etas, UPDATES // len(etas), axis=0)


def score_of_life(arms, windows, batches=slice(1, None)):
    """(η of each window, [windows, 2]) -> the life's score as its windows weigh it: each batch once, but the first."""
    return lambda etas: jnp.sum(reward_by_batch(by_update(etas), arms)[batches]) / (UPDATES // windows + 1)


@functools.cache
def estimates(kind, window, sigma=SIGMA, pairs=1, lives=LIVES):
    """[lives, 2] the sum of each life's meta-gradients of its score, η held still; every life has its own seed."""
    settings = {"differentiation": kind, "standard_deviation": sigma, "pairs": pairs}
    config = override(TINY, {f"meta_gradient.{name}": value for name, value in settings.items()} | {"window": window})
    world, parts = Lives(config), []
    for first in range(0, lives, CHUNK):
        _, records = world.run(world.start(range(first, min(first + CHUNK, lives))), UPDATES // window)
        parts.append(np.stack([-np.asarray(records[f"meta_grad/of_{name}"]).sum(axis=1) for name in RATES], axis=-1))
    return np.concatenate(parts).astype(np.float64)


def test_the_smoothed_derivative_is_the_derivative_where_sigma_is_small(arms):
    """The reference of these tests, by two routes: quadrature at a small σ, and plain autodiff."""
    score = score_of_life(arms, 1)
    with jax.enable_x64(True):
        exact = jax.grad(lambda eta: score(eta[None]))(jnp.asarray(ETA))
    np.testing.assert_allclose(derivative(score, 1, 1e-4, ETA), exact, rtol=1e-5)
    assert np.abs(exact).min() > 0.01


def test_with_a_small_sigma_es_and_finite_differences_agree_with_the_derivative(arms):
    exact = derivative(score_of_life(arms, 1), 1, 1e-4, ETA)
    es = estimates("es", UPDATES, sigma=0.1)
    central = estimates("finite_differences", UPDATES, sigma=0.1)
    assert z_scores(es, exact).max() < 4 and z_scores(central, exact).max() < 4
    assert z_scores(es - central, np.zeros(2)).max() < 4
    # Coordinate by coordinate there is no noise of directions.
    assert np.all(central.var(axis=0) < es.var(axis=0))


def test_pes_is_unbiased_for_the_whole_life_and_truncated_es_is_not(arms):
    score = score_of_life(arms, 2)
    whole = derivative(score, 2, SIGMA, ETA)
    assert z_scores(estimates("pes", WINDOW), whole).max() < 4
    truncated = estimates("es", WINDOW)
    assert z_scores(truncated, whole).max() > 7
    # It does give what it can: each window's own derivative, what came before taken as it was.
    first, second = (score_of_life(arms, 2, part) for part in (slice(1, WINDOW + 1), slice(WINDOW + 1, None)))
    by_window = derivative(first, 2, SIGMA, ETA, moved=0) + derivative(second, 2, SIGMA, ETA, moved=1)
    assert z_scores(truncated, by_window).max() < 4


DEVIATION = 2.0  # of the perturbations on worlds with time: large enough to change what is done there


def world(game, kind, **settings):
    """STAC in a short life on a game in JAX that learns in large steps."""
    own = {
        "correction": 0.0,
        "streams": 8,
        "unroll": 30,
        "network.hidden": (),
        "self_tuned.parameters": ("policy_weight", "gamma"),
    }
    own |= {"inner.reward_clip": 0.0, "inner.reduction": "mean", "meta_init.policy_weight": 0.0}
    own |= {"optimizer.name": "sgd", "optimizer.learning_rate": 3.0}
    meta = {"objective": "all", "differentiation": kind, "standard_deviation": DEVIATION}
    own |= {f"meta_gradient.{name}": value for name, value in meta.items()}
    return override(preset("smoke"), own | {"game": game} | settings)


def test_copies_live_as_lives_of_their_own_with_the_same_seeds_do():
    """Finite differences against separate lives at η ± σ, life by life: an environment with time, and lag."""
    config = world("two_colors", "finite_differences", lag="1", window=3)
    lives, seeds = Lives(config), [3, 5]
    _, records = lives.run(lives.start(seeds), 1)
    still = {"window": 1, "meta_optimizer.learning_rate": 0.0}
    reverse = {"meta_gradient.differentiation": "reverse", "meta_gradient.standard_deviation": 0.1}
    apart, eta, moved = Lives(override(config, still | reverse)), lives.eta(), []
    span = lives.learner.span
    assert sorted(eta) == ["gamma", "policy_weight"]
    for name in eta:
        reward = {}
        for sign in (1, -1):
            born = {key: np.full(2, value + DEVIATION * sign * (key == name), np.float32) for key, value in eta.items()}
            _, own = apart.run(apart.start(seeds, born), span + 1)
            reward[sign] = own["reward"][:, 1:].sum(axis=(1, 2)) / (span + 1)  # what θ^1 ... θ^K acted
        expected = -(reward[1] - reward[-1]) / (2 * DEVIATION)
        np.testing.assert_allclose(records[f"meta_grad/of_{name}"][:, 0], expected, rtol=1e-3, atol=1e-5)
        moved.append(np.any(expected != 0))
    assert any(moved)


def test_what_came_before_the_window_is_constant():
    """Windows that begin after the early updates have no early rate to move."""
    kind = {"differentiation": "finite_differences", "standard_deviation": 1.0}
    config = override(TINY, {"window": 1} | {f"meta_gradient.{name}": value for name, value in kind.items()})
    lives = Lives(config, skip=UPDATES - 1)
    start = lives.start(range(200))
    first = np.asarray(start.learner.inner_updates) == 1
    _, records = lives.run(start, 1)
    assert 30 < first.sum() < 70
    assert np.all(records["meta_grad/of_early"][~first] == 0) and np.any(records["meta_grad/of_early"][first] != 0)
    assert np.any(records["meta_grad/of_late"][~first] != 0) and np.all(records["meta_grad/of_late"][first] == 0)


def test_persistent_copies_end_with_their_life():
    config = override(TINY, {"window": 1, "meta_gradient.differentiation": "pes", "meta_gradient.pairs": 3, "lag": "0"})
    lives = Lives(config, shared=True, own_tasks=True, lifetime=2)
    state, seen = lives.start(range(4)), []
    for _ in range(4):
        seen.append((np.asarray(state.copies.gathered), np.asarray(state.copies.lives.learner.inner_updates)))
        state, records = lives.run(state, 1)
        assert records["meta_grad/norm"].shape == (4, 1)
    assert [int(updates.max()) for _, updates in seen] == [0, 1, 0, 1]
    assert all(gathered.shape == (4, 3, 2) and np.any(gathered) == (k % 2) for k, (gathered, _) in enumerate(seen))
    # A new life has new luck, and its copies new perturbations.
    assert not np.any(seen[1][0] == seen[3][0])


def test_lives_with_a_goal_move_eta():
    lives = Lives(world("catch", "pes", **{"lag": "0", "window": 1, "meta_gradient.pairs": 2}))
    state, records = lives.run(lives.start([0, 1]), 2)
    assert np.all(np.isfinite(records["meta_grad/norm"])) and np.any(records["meta_grad/norm"] > 0)
    assert all(np.any(state.learner.meta.params[name] != born) for name, born in lives.eta().items())


@pytest.mark.parametrize(
    "words",
    ["smoke --game catch", "atari_stac", "smoke --runtime ray"],
)
def test_training_from_the_host_refuses_them_in_one_line(capsys, words):
    words = f"train {words} --meta-gradient.differentiation es --meta-gradient.objective all --correction 0"
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert "--meta-gradient.differentiation: es has copies of the agent act in the graph" in err
    assert err.count("\n") == 1
