"""Verdicts on claims, by intervals over seeds."""

import numpy as np
import pytest
from scipy import stats

from scripts.intervals import Interval, difference
from scripts.studies.verdicts import is_above, is_equal, is_not_below, is_same, is_slope

AROUND = np.array([-0.1, 0.0, 0.1])  # its 95 % interval is ±0.25


@pytest.mark.parametrize(
    "difference, same, not_below",
    [
        (0.0, "agree", "agree"),
        (0.2, "undecided", "agree"),  # a part of its interval lies above the margin
        (-0.2, "undecided", "undecided"),
        (0.6, "disagree", "agree"),
        (-0.6, "disagree", "disagree"),
    ],
)
def test_what_is_the_same_is_neither_above_nor_below(difference, same, not_below):
    value, reference = 5.0 + AROUND + difference, np.full(3, 5.0)
    assert is_same("", value, reference, 0.3).verdict == same
    assert is_not_below("", value, reference, 0.3).verdict == not_below


def test_of_several_claims_each_has_a_wider_interval():
    value, reference = 5.0 + AROUND, np.full(3, 5.0)
    assert is_same("", value, reference, 0.3).verdict == is_not_below("", value, reference, 0.3).verdict == "agree"
    assert is_same("", value, reference, 0.3, claims=2).verdict == "undecided"  # ±0.36
    assert is_not_below("", value, reference, 0.3, claims=2).verdict == "undecided"


def test_arms_that_share_nothing_are_compared_by_their_means():
    """Values that run against each other by chance, seed by seed: pairs make the interval wider than it is."""
    high, low = np.arange(10.0) + 3.5, np.arange(10.0)[::-1]
    spread = np.sqrt(2 * high.var(ddof=1) / 10)  # of equal variances: 18 degrees of freedom
    half = stats.t.ppf(0.975, 18) * spread
    np.testing.assert_allclose(difference(high, low), (3.5, 3.5 - half, 3.5 + half), rtol=1e-12)
    assert is_above("", high, low, paired=False).verdict == is_above("", high, low[::-1]).verdict == "agree"
    assert is_above("", high, low).verdict == "undecided"
    assert is_above("", low, high, paired=False).verdict == "disagree"
    assert is_above("", high[:1], low[:1], paired=False).verdict == "undecided"


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-1.05, -0.95, "agree"),
        (-0.99, -0.71, "undecided"),
        (-2.0, 0.0, "undecided"),
        (-0.8, -0.7, "disagree"),
        (-1.4, -1.2, "disagree"),
    ],
)
def test_a_slope_is_refused_only_where_its_whole_interval_is_elsewhere(low, high, verdict):
    assert is_slope("", Interval((low + high) / 2, low, high), -1.0, "").verdict == verdict


def test_equal_to_exact_means_at_one_per_cent_for_all_points_together():
    """Of 1000 tables with the right means one in a hundred is turned down; a mean three errors off nearly always is."""
    rng, exact = np.random.default_rng(3), np.array([1.0, -2.0, 0.5])
    verdicts = [is_equal("", exact + rng.normal(size=(20, 3)), exact).verdict for _ in range(1000)]
    assert 0.002 < verdicts.count("disagree") / 1000 < 0.022  # three standard errors about 0.01
    off = exact + np.array([6.0 / np.sqrt(20), 0.0, 0.0])
    assert is_equal("", off + rng.normal(size=(20, 3)), exact).verdict == "disagree"
    few = is_equal("", off + rng.normal(size=(4, 3)), exact)
    assert (few.measured, few.verdict) == ("n = 4, fewer than 5", "undecided")
    assert is_equal("", exact + rng.normal(size=(5, 3)), exact).measured.startswith("largest |t| of 3 points ")
