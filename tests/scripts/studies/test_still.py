"""Estimates of one life against the truth: what is told of one life, and its squared error over many."""

import numpy as np
import pytest

from scripts.studies import still

WINDOWS, LIVES = 40, 20
DIRECT, CORRECTION, DERIVATIVE = 0.5, -0.2, 0.1  # means; without correction the bias is 0.4


def estimates(rng):
    """[windows] of one life, the correction's noise not independent of the direct part's."""
    common = rng.normal(size=WINDOWS)
    direct = DIRECT + common
    correction = CORRECTION + 2.0 * rng.normal(size=WINDOWS) - common
    return direct, DERIVATIVE + rng.normal(size=WINDOWS), correction


def looked_at(rng):
    rows = [still._looked_at(*estimates(rng)) for _ in range(LIVES)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_a_life_is_told_by_means_and_variances_of_its_windows():
    direct, truth, correction = estimates(np.random.default_rng(0))
    row = still._looked_at(direct, truth, correction)
    for weight in (0.0, 0.3, 1.0):
        mixed = direct + weight * correction
        np.testing.assert_allclose(row["direct"] + weight * row["correction"], mixed.mean(), rtol=1e-12)
        variance = row["direct_variance"] + 2 * weight * row["covariance"] + weight**2 * row["correction_variance"]
        np.testing.assert_allclose(variance, mixed.var(ddof=1), rtol=1e-12)
    assert row["truth"] == truth.mean() and row["windows"] == WINDOWS
    without = still._looked_at(direct, truth, None)
    assert without == {name: row[name] for name in ("windows", "truth", "direct", "direct_variance")}


@pytest.mark.parametrize("weight, held", [(0.0, 0.95), (0.3, 0.95), (1.0, 0.87)])
def test_the_squared_error_counts_no_noise_as_bias(weight, held):
    """Over 1000 studies: its mean is the squared error, and so many 95 % intervals hold it."""
    bias = DIRECT + weight * CORRECTION - DERIVATIVE
    variance = (1 - weight) ** 2 + 4 * weight**2  # of direct + weight · correction
    error = bias**2 + variance / WINDOWS
    rng = np.random.default_rng(1)
    found = np.array([still._error(looked_at(rng), weight) for _ in range(1000)])
    mean, spread = found[:, 0].mean(), found[:, 0].std(ddof=1) / np.sqrt(len(found))
    assert abs(mean - error) < 4 * spread and spread < 0.02 * error
    share = np.mean((found[:, 1] < error) & (error < found[:, 2]))
    assert abs(share - held) < 0.03  # of 1000: three standard errors


def test_less_that_of_another_lambda():
    found = looked_at(np.random.default_rng(2))
    gain = still._error(found, 0.3, 0.0)
    np.testing.assert_allclose(gain.mean, still._error(found, 0.3).mean - still._error(found, 0.0).mean, rtol=1e-12)
    wider = still._error(found, 0.3, 0.0, level=0.99)
    assert wider.low < gain.low < gain.high < wider.high
