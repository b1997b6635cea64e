"""Slopes over random MDPs and the verdicts on powers that they give."""

import numpy as np
import pytest
from scipy import stats

from scripts.studies import liu_bounds
from scripts.studies.tabular_sweep import bias_slope, slopes

TASKS, SIZES = 10, np.array([4.0, 16.0, 64.0])


def rows(power):
    """A value that goes as size^power, with noise of its own in each MDP."""
    noise = np.random.default_rng(0).normal(size=(TASKS, len(SIZES)))
    return [
        {"size": size, "task": task, "value": size**power * np.exp(0.1 * noise[task, i])}
        for task in range(TASKS)
        for i, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize("slope", [slopes, bias_slope])
def test_slopes_of_several_claims_hold_together(slope):
    half = 0.5 if slope is bias_slope else 1.0  # of a squared bias, that of the bias
    one, three = (slope(rows(-1.0), "size", "value", claims=claims) for claims in (1, 3))
    assert one.mean == three.mean == pytest.approx(-half, abs=0.05)
    widths = [stats.t.ppf(1 - 0.025 / claims, TASKS - 1) for claims in (1, 3)]
    assert (three.high - three.low) / (one.high - one.low) == pytest.approx(widths[1] / widths[0], rel=1e-9)


def test_an_errors_power_is_judged_by_the_theorems_and_ours_are_told_apart():
    """MAML's bias goes as h^K where h is large, LIRPG's as h^(K-1); the theorem says K - 1 of both."""
    steps, rate = 3.0, liu_bounds.RATE
    found = [
        {"agent": agent, "steps": k, "rate": r, "error": h, "task": task, "bias": r * k * (h + 1e-3 * h**own) * spread}
        for agent, own in (("lirpg", steps - 1), ("maml", steps))
        for k in (2.0, steps)
        for r in (rate, 2 * rate)
        for h in (0.5, 4.0, 1e5, 1e6)
        for task, spread in enumerate((1.0, 2.0, 3.0))
    ]
    verdicts = {v.claim: v.verdict for v in liu_bounds._error_verdicts(found) if "K = 3, an error" in v.claim}
    large = f"(± 0.1), h ≥ {liu_bounds.LARGE:g}"
    of_lirpg, of_maml = (
        f"{agent}, K = 3, an error of h in its Hessians: the bias grows as h" for agent in ("LIRPG", "MAML")
    )
    assert verdicts == {
        f"our own: {of_lirpg} (± 0.1), h ≤ 4": "agree",
        f"{of_lirpg}^(K-1) {large}": "agree",
        f"our own: {of_maml} (± 0.1), h ≤ 4": "agree",
        f"{of_maml}^(K-1) {large}": "disagree",
        f"our own: {of_maml}^K {large}": "agree",
    }
