"""Intervals over seeds, and how they are drawn."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

POWER = 0.8


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


def seeds_to_tell(high: np.ndarray, low: np.ndarray, claims: int) -> int:
    """How many seeds an arm it takes to tell two arms apart by `difference` with a power of 0.8, were their means and
    spreads these and it one of so many claims."""
    one, other = np.var(high, ddof=1), np.var(low, ddof=1)
    shift, tail = abs(np.mean(high) - np.mean(low)), 0.025 / claims
    least = (stats.norm.isf(tail) + stats.norm.ppf(POWER)) ** 2 * (one + other) / shift**2

    def has_power(seeds: int) -> bool:
        freedom = (seeds - 1) * (one + other) ** 2 / (one**2 + other**2)
        return stats.nct.sf(stats.t.isf(tail, freedom), freedom, shift / np.sqrt((one + other) / seeds)) >= POWER

    return next(seeds for seeds in itertools.count(max(2, math.ceil(least))) if has_power(seeds))
