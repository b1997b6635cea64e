"""Verdicts on claims, by intervals over seeds."""

import numpy as np
from scipy import stats

from scripts.intervals import Interval, difference, interval
from scripts.studies.base import Verdict

RUNS_TO_AGREE = 5  # with fewer, `is_equal` has hardly any power


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
