"""Intervals over seeds."""

import numpy as np
from scipy import stats

from scripts.intervals import interval, jackknife, seeds_to_tell


def test_the_jackknife_of_a_mean_is_its_interval_and_of_a_square_has_no_bias():
    values = np.random.default_rng(0).normal(1.0, 2.0, size=9)
    np.testing.assert_allclose(jackknife(float, values), interval(values), rtol=1e-12)
    square = jackknife(np.square, values).mean
    np.testing.assert_allclose(square, values.mean() ** 2 - values.var(ddof=1) / len(values), rtol=1e-12)
    one = jackknife(float, values[:1])
    assert one.mean == values[0] and one.low == -np.inf and one.high == np.inf


def test_with_the_seeds_it_takes_arms_are_told_apart_four_times_in_five():
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.7, 1.0, 12), rng.normal(0.0, 2.0, 12)
    seeds = seeds_to_tell(high, low, claims=8)
    one, other = (rng.normal(of.mean(), of.std(ddof=1), (4_000, seeds)) for of in (high, low))
    told = stats.ttest_ind(one, other, axis=1, equal_var=False).pvalue < 0.05 / 8
    assert abs(told.mean() - 0.8) < 0.02 and seeds > 12  # three standard errors
