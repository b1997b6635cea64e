"""What the studies of No DICE share."""

import numpy as np
import pytest

from configs.tree import override
from scripts.studies.bias_variance import Problem, estimator
from scripts.studies.nodice import (
    CORRECTED,
    ESTIMATORS,
    LIVES_OF_A_SEED,
    UPDATES,
    Learning,
    bandit,
    learn,
    mean_rewards,
)
from scripts.studies.nodice_fig5 import _is_short, _rises_somewhere
from scripts.studies.nodice_plane import (
    GROUPS,
    LAMBDAS,
    REFERENCE,
    Summary,
    _summary,
    at_variance,
    is_biased,
    is_more_biased,
    no_bias,
    summaries,
)


def test_learning_descends_the_mean_of_the_estimators_meta_gradients():
    """One update of shared lives, against the estimator's own lives of the same seeds."""
    settings, start = ESTIMATORS[CORRECTED] | {"meta_optimizer.learning_rate": 0.5}, (1.0, 3.0)
    config = {"bandit.early_updates": 1}
    learning = Learning(
        settings | config, (start,), seeds=2, updates=2, lives=30, points=2, looks=40, judges=60, life=3
    )
    told: list[float] = []
    rows = learn(learning, told.append)
    assert [(row["seed"], row["update"]) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert told == [0.25, 0.5, 0.75, 1.0]
    problem = Problem(override(bandit(), {"window": 3} | config))
    gradients = estimator(problem, ESTIMATORS[CORRECTED])({"early": 1.0, "late": 3.0}, 30)
    moved = [rows[1]["early"] - 1.0, rows[1]["late"] - 3.0]
    np.testing.assert_allclose(moved, 0.5 * gradients.mean(axis=0), rtol=1e-3, atol=1e-6)
    assert np.abs(moved).min() > 1e-4
    # Points are looked at by lives that did not teach, others for each seed.
    looked = mean_rewards([start], 1, 40, 3)
    assert looked.mean() == rows[3]["reward"] != rows[0]["reward"] and learning.lives < LIVES_OF_A_SEED // 2
    assert mean_rewards([(rows[2]["early"], rows[2]["late"])], 0, 60, 3).mean() == rows[2]["reward"]
    # A second start learns by lives of its own, as a second seed does, and is judged by those of its seed.
    rates = [(row["early"], row["late"]) for row in rows]
    again = learn(learning._replace(starts=(start, start), seeds=1), told.append)
    assert [(row["early"], row["late"]) for row in again] == rates and rates[1] != rates[4]
    assert again[5]["reward"] == mean_rewards([rates[5]], 0, 60, 3).mean()


@pytest.mark.slow
def test_the_bandit_pays_what_it_should():
    """0.242 at (2, 2), by another implementation; and what a uniform policy earns where nothing is learned."""
    points = [(-30.0, -30.0), (2.0, 2.0), (15.0, 15.0)]
    still, learned, diverged = mean_rewards(points, 0, 4_000, UPDATES).mean(axis=1)
    error = 0.4 / np.sqrt(4_000)  # deviation of a life's mean reward, at most
    assert abs(still - np.e / 101) < 4 * error
    assert abs(learned - 0.242) < 4 * error and abs(diverged - 0.116) < 4 * error


def test_squared_bias_is_what_noise_leaves():
    """The jackknife's mean: unbiased for the squared distance, where the spread of groups alone would add to it."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(GROUPS, 4, 2))
    bias = np.array([0.3, 0.0])
    found = [
        Summary(truth + bias + rng.normal(size=truth.shape), truth, np.ones(GROUPS), None).squared_bias.mean()
        for _ in range(400)
    ]
    assert abs(np.mean(found) - 0.045) < 4 * np.std(found) / np.sqrt(400)
    same = Summary(2 * truth, truth, np.ones(GROUPS), None)
    np.testing.assert_allclose(same.cosine.mean(), 1.0, rtol=1e-6)


def _lives(bias, rng, late=0.0, noise=3.0):
    """The rows of a naive estimate, a corrected one with this bias and the truth, of 2,000 lives at one point of η."""
    truth = rng.normal(1.0, 0.2, (2_000, 2))
    noise = rng.normal(0.0, noise, truth.shape)
    values = {REFERENCE: truth, "naive": 0.5 * truth, "corrected": truth + noise + bias}
    split = {name: np.array_split(value, GROUPS) for name, value in values.items()}
    return values, [
        {"estimator": name, "early": 0.0, "late": late, "group": group} | _summary(part, split[REFERENCE][group])
        for name, parts in split.items()
        for group, part in enumerate(parts)
    ]


def test_a_bias_is_measured_by_the_spread_over_lives():
    rng = np.random.default_rng(0)
    values, rows = _lives(0.0, rng)
    found = summaries(rows)
    spread = (values["corrected"] - values[REFERENCE]).std(axis=0, ddof=1) / np.sqrt(2_000)
    np.testing.assert_allclose(found["corrected"].error, [spread], rtol=0.01)  # groups have means of their own
    assert no_bias("none", found["corrected"], found["naive"]).verdict == "agree"
    assert is_biased("some", found["corrected"], found["naive"]).verdict == "disagree"
    biased = summaries(_lives(0.4, rng)[1])
    assert is_biased("some", biased["corrected"], biased["naive"]).verdict == "agree"
    assert no_bias("one of six standard errors", biased["corrected"], biased["naive"]).verdict == "disagree"


def test_a_bias_is_told_apart_from_the_controls_at_every_point_of_its_own():
    """Where one point is as noisy as its control is biased, that no bias is seen there says nothing."""
    rng = np.random.default_rng(0)
    _, clear = _lives(0.0, rng)
    verdicts = []
    for noise in (3.0, 15.0):
        found = summaries(clear + _lives(0.0, rng, late=1.0, noise=noise)[1])
        verdicts.append(no_bias("none", found["corrected"], found["naive"]))
    assert [verdict.verdict for verdict in verdicts] == ["agree", "undecided"]
    assert "without correction 4 biases are significant" in verdicts[1].measured
    assert "one as large would be here, too, in 2 of them" in verdicts[1].measured


def _summary_of(bias, variance, rng, truth=1.0, points=2):
    """An estimate at points of η, biased by as much, whose groups' means spread by 0.01."""
    truths = np.full((GROUPS, points, 2), truth)
    mean = truths + bias + rng.normal(0.0, 0.01, truths.shape)
    return Summary(mean, truths, np.full(GROUPS, variance), None)


@pytest.mark.parametrize(("bias", "expected"), [(0.7, "agree"), (0.5, "undecided"), (0.3, "disagree")])
def test_bias_is_compared_with_that_of_the_lambda_of_the_same_variance(bias, expected):
    """Bias λ - 1 and variance 1 + λ + λ²: at 1.75 λ is 0.5."""
    rng = np.random.default_rng(0)
    none = _summary_of(-1.0, 1.0, rng)
    found = {
        f"T=3 λ={weight:g}": none._replace(mean=none.mean + weight, variance=none.variance * (1 + weight + weight**2))
        for weight in LAMBDAS
    }
    other = _summary_of(-bias, 1.75, rng)
    assert is_more_biased("more", found | {"other": other}, "other", 3).verdict == expected
    variances = [(weight, 1 + weight + weight**2) for weight in LAMBDAS]
    same = at_variance(found["T=3 λ=0"], found["T=3 λ=1"], variances, 1.75)
    np.testing.assert_allclose(same.mean, none.mean + 0.5, rtol=1e-9)


def test_a_norm_is_told_from_a_tenth_and_a_rise_from_falls():
    rng = np.random.default_rng(0)
    norms = {0.2: "agree", 0.6: "disagree"}
    assert {part: _is_short(_summary_of(part - 1.0, 1.0, rng)).verdict for part in norms} == norms
    falls = {f"T={window} λ=0": _summary_of(bias, 1.0, rng) for window, bias in ((1, 0.9), (2, 0.6), (3, 0.3))}
    assert _rises_somewhere(falls, [1, 2, 3]).verdict == "disagree"
    # At one of two points the longest window has more than the second, though less on average.
    bias = np.array([[0.1], [0.7]])
    assert _rises_somewhere(falls | {"T=3 λ=0": _summary_of(bias, 1.0, rng)}, [1, 2, 3]).verdict == "agree"
    flat = falls | {"T=3 λ=0": _summary_of(0.6, 1.0, rng)}
    assert _rises_somewhere(flat, [1, 2, 3]).verdict == "undecided"
