"""The sampling correction's coefficients, weights and baseline."""

import jax.numpy as jnp
import numpy as np
import pytest

from learner.window import Correction, RunningMean, outer_weights, score_coefficients

pytestmark = pytest.mark.usefixtures("float64")


def by_loops(returns, baselines, weights, correction):
    steps, streams = returns.shape
    out = np.zeros((steps, streams))
    for j in range(steps):
        for e in range(streams):
            for k in range(j + 1, steps):
                other = [returns[k, i] for i in range(streams) if i != e]
                seen = other if correction.others else returns[k]
                gain = sum(seen) / len(seen) - baselines[j]
                if correction.centred:
                    gain = returns[k, e] - sum(other) / len(other) - baselines[j]
                out[j, e] += correction.coefficient * weights[k] * correction.discount ** (k - j) * gain
    return out


@pytest.mark.parametrize("objective", ["same", "next", "all"])
@pytest.mark.parametrize("others, centred", [(False, False), (True, False), (False, True)])
def test_coefficients_are_the_sums_of_later_returns(objective, others, centred):
    rng = np.random.default_rng(0)
    returns, baselines = rng.normal(size=(5, 3)), rng.normal(size=5)
    correction, weights = Correction(0.7, 0.6, others, (0,), centred), outer_weights(objective, 4)
    coefficients = score_coefficients(jnp.asarray(returns), jnp.asarray(baselines), weights, correction)
    np.testing.assert_allclose(coefficients, by_loops(returns, baselines, weights, correction), rtol=1e-12, atol=1e-15)
    assert not np.any(coefficients[-1]) and np.all(coefficients[:-1] != 0)
    assert np.all(coefficients[0] == coefficients[0, 0]) == (not others and not centred)


def test_own_return_does_not_reach_a_streams_score_among_others():
    returns, baselines = np.random.default_rng(1).normal(size=(4, 3)), jnp.zeros(4)
    changed = returns.copy()
    changed[:, 1] += 5.0
    a, b = (
        score_coefficients(jnp.asarray(r), baselines, outer_weights("all", 3), Correction(1.0, 0.9, True, (0,)))
        for r in (returns, changed)
    )
    np.testing.assert_allclose(a[:, 1], b[:, 1], rtol=1e-12)
    assert np.all(np.abs(a[:-1, [0, 2]] - b[:-1, [0, 2]]) > 0.1)


def test_returns_equal_to_the_baseline_leave_nothing():
    coefficients = score_coefficients(
        jnp.full((4, 2), 3.0), jnp.full(4, 3.0), outer_weights("all", 3), Correction(1.0, 1.0, False, (0,))
    )
    np.testing.assert_array_equal(coefficients, 0.0)


def test_returns_without_weight_may_be_missing():
    """A skipped batch inside the window has no finite return; none is asked of it where only the last one counts."""
    returns = np.random.default_rng(2).normal(size=(4, 2))
    gaps = returns.copy()
    gaps[1] = np.nan
    whole, gapped = (
        score_coefficients(jnp.asarray(r), jnp.zeros(4), outer_weights("next", 3), Correction(0.5, 0.9, False, (0,)))
        for r in (returns, gaps)
    )
    np.testing.assert_array_equal(gapped, whole)


def test_outer_weights():
    np.testing.assert_array_equal(outer_weights("same", 2), [0, 0, 1])
    np.testing.assert_array_equal(outer_weights("next", 2), [0, 0, 1])
    np.testing.assert_array_equal(outer_weights("all", 3), [0.25] * 4)


def test_running_mean_forgets_but_is_not_pulled_to_its_start():
    mean, seen = RunningMean(jnp.zeros(()), jnp.zeros(())), []
    assert mean.value == 0.0
    for x in (jnp.nan, 2.0, 3.0, jnp.inf, 7.0, -1.0):
        mean = mean.update(jnp.asarray(x), 0.9)
        seen += [x] if np.isfinite(x) else []
        weights = 0.9 ** np.arange(len(seen))[::-1]
        np.testing.assert_allclose(mean.value, weights @ seen / weights.sum() if seen else 0.0, rtol=1e-12)
