"""Estimators against finite differences on the bandit of No DICE, through the learner's own code."""

import numpy as np
import pytest

from configs.tree import ConfigError, override
from scripts.studies.bias_variance import Problem, bias_variance, estimator, finite_differences
from scripts.studies.nodice import bandit

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
SAMPLES = 20_000


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


@pytest.mark.slow
def test_a_comparison_names_and_plots_what_it_found(tmp_path):
    found = bias_variance(
        SMALL, {"none": {}, "short": {"window": 2}, "ES": {"meta_gradient.differentiation": "es"}}, 2_000
    )
    assert [row.estimator for row in found.rows] == ["none", "short", "ES"]
    assert all(row.mean.shape == (2,) and row.variance > 0 and -1 <= row.cosine <= 1 for row in found.rows)
    assert str(found).count("\n") == 3 and "ES" in str(found)
    found.plot(tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 1_000
