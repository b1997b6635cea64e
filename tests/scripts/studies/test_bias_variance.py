"""Estimators against finite differences, through the learner's own code: No DICE's bandit, and large η elsewhere."""

import numpy as np
import pytest

from configs.presets import preset
from configs.tree import ConfigError, override
from scripts.studies.bias_variance import (
    Problem,
    _jackknife,
    _statistics,
    bias_variance,
    estimator,
    finite_differences,
)
from scripts.studies.nodice import bandit
from scripts.studies.tabular import tabular

# Two arms that pay 0 and about 1.3, and a short life with large steps: what λ corrects for stands out of the noise.
SMALL = Problem(
    override(
        bandit(),
        {
            "window": 3,
            "environment.arms": 2,
            "environment.noise": 0.3,
            "environment.task": 36,
            "bandit.early": 1.0,
            "bandit.late": 1.0,
            "bandit.early_updates": 1,
        },
    ),
    own_tasks=False,
)
SAMPLES = 20_000  # for their time; tests/learner/test_bandit_estimators.py has 100,000 of the same estimators


@pytest.fixture(scope="module")
def truth():
    return finite_differences(SMALL, 0.2)(None, SAMPLES)


def z_scores(a, b):
    """Of the difference of two means over the same lives, by coordinate."""
    difference = a - b
    return np.abs(difference.mean(axis=0)) / (difference.std(axis=0, ddof=1) / np.sqrt(len(difference)))


@pytest.mark.slow
def test_the_full_correction_agrees_with_finite_differences_and_none_does_not(truth):
    none, full = (estimator(SMALL, {"correction": weight})(None, SAMPLES) for weight in (0.0, 1.0))
    assert z_scores(full, truth).max() < 4
    assert z_scores(none, truth).max() > 7
    assert np.abs(truth.mean(axis=0)).min() > 0.02
    half = estimator(SMALL, {"correction": 0.5})(None, 1_000)
    np.testing.assert_allclose(half, ((none + full) / 2)[:1_000], atol=1e-5)  # linear in λ, life by life


@pytest.mark.slow
def test_pes_sums_over_a_lifes_windows(truth):
    pes = {"meta_gradient.differentiation": "pes", "meta_gradient.standard_deviation": 0.2, "window": 1}
    estimates = estimator(SMALL, pes)(None, SAMPLES)
    assert z_scores(estimates, truth).max() < 4
    error = estimates.std(axis=0, ddof=1) / np.sqrt(SAMPLES)
    assert np.any(truth.mean(axis=0) > 5 * error)  # so that a sum of another scale would not pass
    with pytest.raises(ConfigError, match="--window: 2 does not divide the 3 updates of a life"):
        estimator(SMALL, pes | {"window": 2})
    last = Problem(override(SMALL.config, {"meta_gradient.objective": "next"}))
    with pytest.raises(ConfigError, match="--window: 1 is scored by its own last batch"):
        estimator(last, pes)


def test_copies_of_a_life_and_lives_apart_have_the_same_finite_differences():
    copies = {"meta_gradient.differentiation": "finite_differences", "meta_gradient.standard_deviation": 0.1}
    apart = finite_differences(SMALL, 0.2)(None, 50, 7)
    np.testing.assert_allclose(estimator(SMALL, copies)(None, 50, 7), apart, atol=1e-5)
    assert np.abs(apart).max() > 0.1
    # Along a direction: what its coordinates say together.
    turned = finite_differences(SMALL, 0.02, np.array([[0.6, 0.8]]))(None, 500)
    np.testing.assert_allclose(
        turned[:, 0].mean(), finite_differences(SMALL, 0.02)(None, 500).mean(axis=0) @ [0.6, 0.8], atol=0.02
    )


# One MDP of two states, whose values nobody learns, so that returns are what the outer loss stands for.
TINY_MDP = {
    "streams": 4,
    "unroll": 3,
    "environment.mdp_states": 2,
    "environment.mdp_actions": 2,
    "environment.mdp_horizon": 2,
    "environment.mdp_concentration": 1.0,
    "environment.task": 3,
    "optimizer.learning_rate": 10.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("agent, own", [("maml", {}), ("lirpg", {"window": 2, "inner.value_weight": 1e-6})])
def test_a_large_eta_is_looked_at_along_directions(agent, own):
    """η a table of logits, or a reward's: with λ = 1 the derivative of what lives earn, without it something else.

    10,000 lives, for their time: z-tests of 100,000 are in test_maml_unbiased.py and test_lirpg_unbiased.py.
    """
    problem = Problem(override(tabular(agent), TINY_MDP | own), own_tasks=False)
    found = bias_variance(problem, {"none": {}, "full": {"correction": 1.0}}, 10_000, eps=0.2, directions=0)
    none, full = found.rows
    assert found.coordinates == ("direction 1", "direction 2")
    noise = np.linalg.norm(np.hypot(full.error, found.reference_error))
    assert full.statistics.bias < 3.5 * noise and full.statistics.cosine > 0.97
    assert none.statistics.bias > 5 * noise and none.statistics.variance < full.statistics.variance
    assert "values in place of rewards" in str(found) and "--outer" not in str(found)


@pytest.mark.parametrize(
    "settings, own, words",
    [
        ({"agent": "maml"}, {"window": 1}, "--window: 1 does not lie within a life of 2 updates; use 2"),
        ({"agent": "stac"}, {"window": 3}, "--window: 3 does not lie within a life of 2 updates; use 2"),
        ({"agent": "impala"}, {}, "--agent: impala tunes nothing"),
        ({"agent": "stac", "meta_gradient.objective": "same"}, {}, "--meta-gradient.objective: same weighs no return"),
        ({"agent": "stac"}, {"correctoin": 1.0}, "'correctoin' .1.0. is no setting; did you mean correction"),
        ({"agent": "stac"}, {"meta_gradient.objective": "next"}, "'meta_gradient.objective' .* belongs to the problem"),
        ({"agent": "stac"}, {"streams": 2}, "'streams' .2. belongs to the problem"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(settings, own, words):
    config = override(
        preset("smoke"), {"window": 2, "correction": 0.0, "lag": "0", "meta_gradient.objective": "all"} | settings
    )
    with pytest.raises(ConfigError, match=words):
        bias_variance(Problem(config), {"own": own}, 2)


@pytest.mark.parametrize("lives, of_reference", [(400, 400), (400, 2_000), (2_000, 400)])
def test_standard_errors_are_the_spread_over_experiments(lives, of_reference):
    """Each number's, by jackknife, against what it comes to in 400 experiments, where lives of one seed are alike."""
    rng = np.random.default_rng(0)
    truth = np.array([1.0, 0.5])
    found, errors = [], []
    for _ in range(400):
        common = rng.normal(size=(max(lives, of_reference), 2))
        reference = truth + common[:of_reference]
        estimates = 0.6 * truth + np.array([0.0, 0.4]) + common[:lives] + 0.3 * rng.normal(size=(lives, 2))
        found.append(_statistics(estimates, reference))
        errors.append(_jackknife(estimates, reference))
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors), axis=0)), np.std(found, axis=0, ddof=1), rtol=0.1)


def test_one_life_has_no_spread():
    with pytest.raises(ConfigError, match="samples: 1 lives have no spread; at least 2"):
        bias_variance(SMALL, {"none": {}}, 1)


def test_a_reference_that_nothing_moved_is_told(recwarn):
    """Steps of η below float32's resolution change no action, as small ones do where few lives act by their η."""
    found = bias_variance(SMALL, {"none": {}}, 40, eps=1e-12)
    (row,) = found.rows
    assert not found.reference.any() and not found.reference_error.any()
    assert np.isnan(row.statistics.cosine) and row.statistics.bias == pytest.approx(np.linalg.norm(row.mean))
    table, *notes = str(found).split("\nnote: ")
    assert notes == [
        "the reference is 0 along early, late: ± 5e-13 there never changed what any of 40 lives earned; raise eps"
        " (1e-12) or the number of lives"
    ]
    assert table.splitlines()[1].split()[4] == "-" and "nan" not in table
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]
    assert bias_variance(SMALL, {"none": {}}, 40, eps=0.2).notes == ()


def test_a_penalty_on_eta_is_no_bias():
    """It is no part of what an estimator estimates: with penalties and without, LPG's estimates are the same."""
    settings = {"window": 1, "correction": 0.0, "lag": "0", "meta_gradient.objective": "all", "streams": 2}
    config = override(preset("catch_lpg"), settings | {"unroll": 5, "frames": 100})
    none = override(config, {"lpg.direction_penalty": 0.0, "lpg.target_penalty": 0.0})
    with_them, without = (estimator(Problem(own), {})(None, 2) for own in (config, none))
    np.testing.assert_array_equal(with_them, without)
    assert np.abs(without).max() > 0


@pytest.mark.slow
def test_a_comparison_names_and_plots_what_it_found(tmp_path):
    found = bias_variance(
        SMALL, {"none": {}, "short": {"window": 2}, "ES": {"meta_gradient.differentiation": "es"}}, 2_000
    )
    assert [row.estimator for row in found.rows] == ["none", "short", "ES"]
    assert all(
        row.mean.shape == (2,) and row.statistics.variance > 0 and -1 <= row.statistics.cosine <= 1
        for row in found.rows
    )
    assert all(0 < error < np.inf for row in found.rows for error in row.errors)
    assert str(found).count("\n") == 4 and "ES" in str(found) and "early, late" in str(found)
    found.plot(tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 1_000
