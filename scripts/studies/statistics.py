"""Intervals over seeds, how they are drawn, and the verdicts that they give."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from scripts.studies.base import Verdict

RUNS_TO_AGREE = 5  # with fewer, `is_equal` has hardly any power


class Interval(NamedTuple):
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Mean of independent values with its interval by Student's t; without one value more it knows no bounds."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Interval(float(values.mean()), -np.inf, np.inf)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def jackknife(statistic: Callable[[np.ndarray], float], values: np.ndarray, level: float = 0.95) -> Interval:
    """A statistic of the mean over runs of values [runs, ...], with its interval over runs."""
    runs, total = len(values), values.sum(axis=0)
    whole = statistic(total / runs)
    if runs < 2:
        return Interval(whole, -np.inf, np.inf)
    without = [statistic((total - run) / (runs - 1)) for run in values]
    return interval(runs * whole - (runs - 1) * np.array(without), level)


def draw_interval(axes: Any, at: Sequence[float], values: np.ndarray, label: str, **style: Any) -> None:
    """A line through the means of values [points, runs] at x [points], with their 95 % interval where there is one."""
    found = [interval(of_point) for of_point in values]
    (line,) = axes.plot(at, [f.mean for f in found], label=label, **style)
    if len(values[0]) > 1:
        low, high = [f.low for f in found], [f.high for f in found]
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def difference(high: np.ndarray, low: np.ndarray, level: float = 0.95) -> Interval:
    """Of the means of two samples that share nothing, with its interval by Welch's t."""
    found = float(np.mean(high) - np.mean(low))
    if min(len(high), len(low)) < 2:
        return Interval(found, -np.inf, np.inf)
    bounds = stats.ttest_ind(high, low, equal_var=False).confidence_interval(level)
    return Interval(found, float(bounds.low), float(bounds.high))


def seeds_to_tell(high: np.ndarray, low: np.ndarray, claims: int = 1, power: float = 0.8) -> int:
    """How many seeds an arm it takes to tell two arms apart by `difference`, were their means and spreads these."""
    one, other = np.var(high, ddof=1), np.var(low, ddof=1)
    shift, tail = abs(np.mean(high) - np.mean(low)), 0.025 / claims
    least = (stats.norm.isf(tail) + stats.norm.ppf(power)) ** 2 * (one + other) / shift**2

    def has_power(seeds: int) -> bool:
        freedom = (seeds - 1) * (one + other) ** 2 / (one**2 + other**2)
        return stats.nct.sf(stats.t.isf(tail, freedom), freedom, shift / np.sqrt((one + other) / seeds)) >= power

    return next(seeds for seeds in itertools.count(max(2, math.ceil(least))) if has_power(seeds))


def is_above(
    claim: str, high: np.ndarray, low: np.ndarray, unit: str = "", claims: int = 1, paired: bool = True
) -> Verdict:
    """Whether `high` is above `low`, seed by seed: by the 95 % interval of the mean paired difference.

    Where it is one of several `claims` of a kind, the interval is so much wider that 95 % hold for all (Bonferroni).
    Not `paired`: lives of one seed have nothing in common that lasts; the means are compared (Welch).
    """
    level = 1 - 0.05 / claims
    found = interval(high - low, level) if paired else difference(high, low, level)
    verdict = "agree" if found.low > 0 else "disagree" if found.high < 0 else "undecided"
    kind, each = ("paired difference", "") if paired else ("difference", " each")
    measured = f"{interval(high)} against {interval(low)}{unit}; {kind} {found}, n = {len(high)}{each}"
    return Verdict(claim, measured, verdict)


def is_same(
    claim: str, value: np.ndarray, reference: np.ndarray, margin: float, unit: str = "", claims: int = 1
) -> Verdict:
    """Whether `value` is within `margin` of `reference`, above or below: by the interval of the paired difference."""
    one_sided = is_not_below(claim, value, reference, margin, unit, claims)
    found = interval(value - reference, 1 - 0.05 / claims)
    return one_sided._replace(verdict=_is_within(found, -margin, margin))


def is_equal(claim: str, values: np.ndarray, exact: np.ndarray) -> Verdict:
    """Whether values [runs, points] have the exact means [points]: Student's t over runs, two-sided at 1 % for all
    points together (Bonferroni). A few runs would agree with nearly anything, and decide nothing."""
    runs, points = values.shape
    if runs < RUNS_TO_AGREE:
        return Verdict(claim, f"n = {runs}, fewer than {RUNS_TO_AGREE}", "undecided")
    t = np.abs(values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / np.sqrt(runs))
    limit = stats.t.ppf(1 - 0.005 / points, runs - 1)
    measured = f"largest |t| of {points} points {t.max():.2f}, limit {limit:.2f}, n = {runs}"
    return Verdict(claim, measured, "agree" if t.max() < limit else "disagree")


def is_slope(claim: str, slope: Interval, expected: float, measured: str) -> Verdict:
    """Whether a slope of logarithms is the expected one, within 0.1."""
    return Verdict(claim, measured, _is_within(slope, expected - 0.1, expected + 0.1))


def _is_within(found: Interval, low: float, high: float) -> str:
    if found.low > low and found.high < high:
        return "agree"
    return "disagree" if found.high < low or found.low > high else "undecided"


def is_not_below(
    claim: str, value: np.ndarray, reference: np.ndarray, margin: float, unit: str = "", claims: int = 1
) -> Verdict:
    """Whether `value` is no more than `margin` below `reference`: by the interval of the paired difference.

    Of several `claims`: see `is_above`.
    """
    found = interval(value - reference, 1 - 0.05 / claims)
    verdict = "agree" if found.low > -margin else "disagree" if found.high < -margin else "undecided"
    measured = (
        f"{interval(value)} against {interval(reference)}{unit}; paired difference {found}, margin {margin:g},"
        f" n = {len(value)}"
    )
    return Verdict(claim, measured, verdict)
