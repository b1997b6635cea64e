import numpy as np
import pytest

from scripts.studies.statistics import Interval, interval, is_equal, is_not_below, is_same, is_slope, jackknife

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


def test_the_jackknife_of_a_mean_is_its_interval_and_of_a_square_has_no_bias():
    values = np.random.default_rng(0).normal(1.0, 2.0, size=9)
    np.testing.assert_allclose(jackknife(float, values), interval(values), rtol=1e-12)
    square = jackknife(np.square, values).mean
    np.testing.assert_allclose(square, values.mean() ** 2 - values.var(ddof=1) / len(values), rtol=1e-12)
    one = jackknife(float, values[:1])
    assert one.mean == values[0] and one.low == -np.inf and one.high == np.inf


def test_equal_to_exact_means_at_one_per_cent_for_all_points_together():
    """Of 1000 tables with the right means one in a hundred is turned down; a mean three errors off nearly always is."""
    rng, exact = np.random.default_rng(3), np.array([1.0, -2.0, 0.5])
    verdicts = [is_equal("", exact + rng.normal(size=(20, 3)), exact).verdict for _ in range(1000)]
    assert 0.002 < verdicts.count("disagree") / 1000 < 0.022  # three standard errors about 0.01
    off = exact + np.array([6.0 / np.sqrt(20), 0.0, 0.0])
    assert is_equal("", off + rng.normal(size=(20, 3)), exact).verdict == "disagree"
    assert is_equal("", exact[None], exact).verdict == "undecided"
