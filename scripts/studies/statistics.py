"""Intervals over seeds, how they are drawn, and the verdicts that they give."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from scripts.studies.base import Verdict


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


def is_above(claim: str, high: np.ndarray, low: np.ndarray, unit: str = "", claims: int = 1) -> Verdict:
    """Whether `high` is above `low`, seed by seed: by the 95 % interval of the mean paired difference.

    Where it is one of several `claims` of a kind, the interval is so much wider that 95 % hold for all (Bonferroni).
    """
    difference = interval(high - low, 1 - 0.05 / claims)
    verdict = "agree" if difference.low > 0 else "disagree" if difference.high < 0 else "undecided"
    measured = f"{interval(high)} against {interval(low)}{unit}; paired difference {difference}, n = {len(high)}"
    return Verdict(claim, measured, verdict)


def is_same(claim: str, value: np.ndarray, reference: np.ndarray, margin: float, unit: str = "") -> Verdict:
    """Whether `value` is within `margin` of `reference`, above or below: by the interval of the paired difference."""
    one_sided = is_not_below(claim, value, reference, margin, unit)
    return one_sided._replace(verdict=_is_within(interval(value - reference), -margin, margin))


def is_equal(claim: str, values: np.ndarray, exact: np.ndarray) -> Verdict:
    """Whether values [runs, points] have the exact means [points]: Student's t over runs, two-sided at 1 % for all
    points together (Bonferroni)."""
    runs, points = values.shape
    if runs < 2:
        return Verdict(claim, "one run has no standard error", "undecided")
    t = np.abs(values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / np.sqrt(runs))
    limit = stats.t.ppf(1 - 0.005 / points, runs - 1)
    measured = f"largest |t| {t.max():.2f} of {points}, limit {limit:.2f}, n = {runs}"
    return Verdict(claim, measured, "agree" if t.max() < limit else "disagree")


def is_slope(claim: str, slope: Interval, expected: float, measured: str) -> Verdict:
    """Whether a slope of logarithms is the expected one, within 0.1."""
    return Verdict(claim, measured, _is_within(slope, expected - 0.1, expected + 0.1))


def _is_within(found: Interval, low: float, high: float) -> str:
    if found.low > low and found.high < high:
        return "agree"
    return "disagree" if found.high < low or found.low > high else "undecided"


def is_not_below(claim: str, value: np.ndarray, reference: np.ndarray, margin: float, unit: str = "") -> Verdict:
    """Whether `value` is no more than `margin` below `reference`: by the interval of the paired difference."""
    difference = interval(value - reference)
    verdict = "agree" if difference.low > -margin else "disagree" if difference.high < -margin else "undecided"
    measured = (
        f"{interval(value)} against {interval(reference)}{unit}; paired difference {difference}, margin {margin:g},"
        f" n = {len(value)}"
    )
    return Verdict(claim, measured, verdict)
