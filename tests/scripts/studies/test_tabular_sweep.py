"""Metrics of a sweep against plain formulas, on made-up estimates and tables, and verdicts on powers."""

import numpy as np
import pytest
from scipy import stats

from scripts.studies import liu_bounds
from scripts.studies.tabular_sweep import bias_slope, by_task, compare, slopes, squared_bias

SIZES = (4.0, 16.0, 64.0)


def rows_of(column, value, tasks=5):
    """Rows of each size and task, in no order; `value` (size, task) -> what the column holds."""
    rows = [
        {"samples": size, "task": float(task), column: value(size, task)} for size in SIZES for task in range(tasks)
    ]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def test_estimates_are_compared_as_the_formulas_say():
    rng = np.random.default_rng(0)
    exact = np.array([1.0, -0.5, 0.2, 2.0, 0.7])
    estimates = 0.3 * exact + rng.normal(size=(9, 5)) + 0.4
    found, covariance = compare(estimates, exact), np.cov(estimates.T)
    correlations = [np.corrcoef(estimate, exact)[0, 1] for estimate in estimates]
    assert min(correlations) < 0 < max(correlations)
    expected = {
        "correlation": np.mean(correlations),
        "deviations": np.sqrt(np.diag(covariance)).sum(),
        "variance": np.trace(covariance),
        "squared_bias": np.sum((estimates.mean(axis=0) - exact) ** 2) - np.trace(covariance) / 9,
        "squared_norm": np.sum(exact**2),
    }
    assert found == pytest.approx(expected, rel=1e-12)


def test_noise_adds_nothing_to_a_squared_bias():
    rng, bias = np.random.default_rng(0), np.array([0.3, -0.4, 0.0])
    found = np.array([squared_bias(bias + rng.normal(size=(4, 3)) * [1.0, 0.5, 2.0]) for _ in range(10_000)])
    assert abs(found.mean() - 0.25) < 0.053  # three standard errors; the noise would have added 1.31


@pytest.mark.parametrize("power", [-0.5, -1.5])
def test_the_slope_of_a_bias_is_its_power(power):
    """Squares are what is pooled: (1 + task) N^power of each MDP."""
    rows = rows_of("squared_bias", lambda size, task: ((1 + task) * size**power) ** 2)
    np.testing.assert_allclose(bias_slope(rows, "samples"), [power] * 3, rtol=1e-9)


def test_a_bias_that_rests_on_one_mdp_has_no_slope():
    rows = rows_of("squared_bias", lambda size, task: 1.0 if task == 0 else -0.01)
    assert bias_slope(rows, "samples") is None


def test_slopes_are_of_each_mdp_alone():
    """Powers of 0 ... 4 halves: their mean is 1, their standard error √(0.625 / 5)."""
    rows = rows_of("variance", lambda size, task: (1 + task) * size ** (task / 2))
    found = slopes(rows, "samples", "variance")
    half = 2.776445 * np.sqrt(0.625 / 5)  # Student's t with 4 degrees of freedom
    np.testing.assert_allclose(found, [1.0, 1.0 - half, 1.0 + half], atol=1e-6)
    np.testing.assert_allclose(by_task(rows, "variance", samples=16.0), [1, 8, 48, 256, 1280])


def noisy_rows(power, tasks=10):
    """A value that goes as size^power, with noise of its own in each MDP."""
    noise = np.random.default_rng(0).normal(size=(tasks, len(SIZES)))
    return [
        {"size": size, "task": task, "value": size**power * np.exp(0.1 * noise[task, i])}
        for task in range(tasks)
        for i, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize("slope", [slopes, bias_slope])
def test_slopes_of_several_claims_hold_together(slope):
    half = 0.5 if slope is bias_slope else 1.0  # of a squared bias, that of the bias
    one, three = (slope(noisy_rows(-1.0), "size", "value", claims=claims) for claims in (1, 3))
    assert one.mean == three.mean == pytest.approx(-half, abs=0.05)
    widths = [stats.t.ppf(1 - 0.025 / claims, 9) for claims in (1, 3)]
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
