"""Estimates of one life against the truth: what is told of one life, and its squared error over many."""

import numpy as np
import pytest
from matplotlib.figure import Figure

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


def test_a_gain_is_the_ratio_of_squared_errors():
    """Over 1000 studies the interval of its logarithm holds what the means say, and λ = 0 gains nothing over itself."""
    bias, variance = DIRECT + 0.3 * CORRECTION - DERIVATIVE, 0.7**2 + 4 * 0.3**2
    gain = np.log10((bias**2 + variance / WINDOWS) / ((DIRECT - DERIVATIVE) ** 2 + 1.0 / WINDOWS))
    rng = np.random.default_rng(2)
    found = np.array([still._gain(looked_at(rng), 0.3) for _ in range(1000)])
    assert 0.92 < np.mean((found[:, 1] < gain) & (gain < found[:, 2])) < 0.98
    none = still._gain(looked_at(rng), 0.0)
    assert none.low == none.mean == none.high == 0.0


def test_a_variant_may_be_nearer_and_yet_overstate_by_more():
    rng = np.random.default_rng(3)
    means = {"plain": (3.0, 1.0), "variant": (1.0, 0.2)}
    rows = [
        {"cell": cell, "parameter": "gamma", "direct": direct + noise, "truth": truth + noise}
        for cell, (direct, truth) in means.items()
        for noise in 0.05 * rng.normal(size=LIVES)
    ]
    nearer, factor = still.judge_variant(rows, "plain", "variant", "gamma")
    assert nearer.verdict == "agree" and factor.verdict == "disagree"


@pytest.mark.parametrize(
    "inside, ticks", [(0.07, [0.05, 0.1, 1.0, 10.0]), (0.25, [0.2, 1.0, 10.0]), (2.5, [2.0, 10.0])]
)
def test_a_bias_axis_has_few_ticks_with_short_labels(inside, ticks):
    axes = Figure().add_subplot()
    axes.plot([0, 1], [-inside, 12.0])
    still._symlog(axes, inside)
    axes.figure.canvas.draw()
    labels = [f"{tick:g}" for tick in ticks]
    shown = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in axes.get_yticklabels()]
    assert [label for label in shown if not label.startswith("-")] == ["0", *labels]
    assert set(shown) == {"0", *labels, *(f"-{label}" for label in labels)}
