import numpy as np
import pytest

from scripts.studies.statistics import Interval, is_not_below, is_same, is_slope

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
