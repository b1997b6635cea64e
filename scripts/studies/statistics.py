"""Intervals over seeds."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from scripts.studies.base import Verdict


class Interval(NamedTuple):
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def interval(values: np.ndarray) -> Interval:
    """Mean of independent values with its 95 % bootstrap interval (BCa, 10,000 resamples, fixed seed)."""
    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(float(values.mean()), float(values.mean()), float(values.mean()))
    found = stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0)).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high))


def is_above(claim: str, high: np.ndarray, low: np.ndarray, unit: str = "") -> Verdict:
    """Whether `high` is above `low`, seed by seed: by the 95 % interval of the mean paired difference."""
    difference = interval(high - low)
    verdict = "agree" if difference.low > 0 else "disagree" if difference.high < 0 else "undecided"
    measured = f"{interval(high)} against {interval(low)}{unit}; paired difference {difference}, n = {len(high)}"
    return Verdict(claim, measured, verdict)


def is_not_below(claim: str, value: np.ndarray, reference: np.ndarray, margin: float, unit: str = "") -> Verdict:
    """Whether `value` is no more than `margin` below `reference`: by the interval of the paired difference."""
    difference = interval(value - reference)
    verdict = "agree" if difference.low > -margin else "disagree" if difference.high < -margin else "undecided"
    measured = (
        f"{interval(value)} against {interval(reference)}{unit}; paired difference {difference}, margin {margin:g},"
        f" n = {len(value)}"
    )
    return Verdict(claim, measured, verdict)
