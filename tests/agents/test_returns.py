"""V-trace and leaky V-trace against sums over products written from the papers' definitions, and against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.returns import leaky_vtrace

pytestmark = pytest.mark.usefixtures("float64")

STEPS, STREAMS = 7, 3


def experience(seed=0, spread=0.7):
    """Values, rewards, environment discounts (some 0) and importance ratios on both sides of 1."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(STEPS + 1, STREAMS))
    reward = rng.normal(size=(STEPS, STREAMS))
    discount = (rng.random((STEPS, STREAMS)) > 0.15).astype(float)
    rho = np.exp(spread * rng.normal(size=(STEPS, STREAMS)))
    return values, reward, discount, rho


def by_definition(values, reward, discount, rho, trace_lambda, alpha, rho_clip):
    """Zahavy et al. 2020's leaky V-trace, every product from scratch: O(T²) and float64.

    v_s = V_s + Σ_{t≥s} (Π_{i=s}^{t-1} γ_i c_i) ρ'_t (r_t + γ_t V_{t+1} - V_t). The advantage's bootstrap is the
    λ-weighted mix of the next target and the next value, so that λ = 0 is one-step and λ = 1 is IMPALA's.
    """
    steps, streams = reward.shape
    trace_lambda, alpha = np.broadcast_to(trace_lambda, reward.shape), np.broadcast_to(alpha, reward.shape)
    target, advantage = np.zeros_like(reward), np.zeros_like(reward)
    for b in range(streams):
        leaky = [alpha[t, b] * min(rho_clip, rho[t, b]) + (1 - alpha[t, b]) * rho[t, b] for t in range(steps)]
        c = [
            trace_lambda[t, b] * (alpha[t, b] * min(1.0, rho[t, b]) + (1 - alpha[t, b]) * rho[t, b])
            for t in range(steps)
        ]
        v, r, g = values[:, b], reward[:, b], discount[:, b]
        for s in range(steps):
            terms = [
                np.prod([g[i] * c[i] for i in range(s, t)]) * leaky[t] * (r[t] + g[t] * v[t + 1] - v[t])
                for t in range(s, steps)
            ]
            target[s, b] = v[s] + sum(terms)
        for s in range(steps):
            mix = trace_lambda[s, b]
            ahead = v[s + 1] if s == steps - 1 else mix * target[s + 1, b] + (1 - mix) * v[s + 1]
            advantage[s, b] = leaky[s] * (r[s] + g[s] * ahead - v[s])
    return target, advantage


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "gamma, trace_lambda, alpha, rho_clip",
    [(0.97, 0.9, 0.6, 1.0), (0.9, 1.0, 1.0, 1.0), (1.0, 0.3, 0.0, 1.0), (0.8, 0.0, 0.5, 1.0), (0.95, 0.95, 0.7, 1.4)],
)
def test_targets_and_advantages_are_the_papers_sums(gamma, trace_lambda, alpha, rho_clip):
    values, reward, discount, rho = experience()
    out = leaky_vtrace(values, reward, gamma * discount, rho, trace_lambda=trace_lambda, alpha=alpha, rho_clip=rho_clip)
    target, advantage = by_definition(values, reward, gamma * discount, rho, trace_lambda, alpha, rho_clip)
    close(out.value, target)
    close(out.advantage, advantage)


def test_hyperparameters_may_differ_between_streams():
    values, reward, discount, rho = experience(1)
    gamma, trace_lambda, alpha = np.array([0.9, 0.99, 0.5]), np.array([1.0, 0.4, 0.8]), np.array([0.0, 1.0, 0.3])
    out = leaky_vtrace(values, reward, gamma * discount, rho, trace_lambda=trace_lambda, alpha=alpha, rho_clip=1.0)
    target, advantage = by_definition(values, reward, gamma * discount, rho, trace_lambda, alpha, 1.0)
    close(out.value, target)
    close(out.advantage, advantage)


def test_on_policy_without_decay_it_is_the_n_step_return():
    values, reward, discount, rho = experience()
    out = leaky_vtrace(values, reward, 0.9 * discount, np.ones_like(rho), trace_lambda=1.0, alpha=0.4, rho_clip=1.0)
    expected = values[-1]
    for t in reversed(range(STEPS)):
        expected = reward[t] + 0.9 * discount[t] * expected
        close(out.value[t], expected)
        close(out.advantage[t], expected - values[t])


def test_alpha_one_ignores_how_far_ratios_exceed_one_and_alpha_zero_does_not():
    values, reward, discount, rho = experience()
    above = np.where(rho > 1.0, 2 * rho, rho)
    assert (above != rho).any()
    for alpha, same in ((1.0, True), (0.0, False)):
        a, b = (
            leaky_vtrace(values, reward, 0.9 * discount, r, trace_lambda=1.0, alpha=alpha, rho_clip=1.0).value
            for r in (rho, above)
        )
        assert bool(jnp.allclose(a, b)) == same


def test_a_cut_inside_equals_separate_trajectories():
    """Steps 0-2, a reset transition at 3 (ρ = 0), steps 4-6; streams end by truncation, termination, truncation."""
    values, reward, _, rho = experience(2)
    discount = np.ones((STEPS, STREAMS))
    discount[2, 1] = 0.0
    rho[3] = 0.0
    dials = {"trace_lambda": 0.9, "alpha": 0.6, "rho_clip": 1.0}
    whole = leaky_vtrace(values, reward, 0.9 * discount, rho, **dials)
    before = leaky_vtrace(values[:4], reward[:3], 0.9 * discount[:3], rho[:3], **dials)
    after = leaky_vtrace(values[4:], reward[4:], 0.9 * discount[4:], rho[4:], **dials)
    for name in whole._fields:
        close(getattr(whole, name)[:3], getattr(before, name))
        close(getattr(whole, name)[4:], getattr(after, name))
    close(whole.advantage[3], 0.0)
    close(whole.value[3], values[3])  # so that the value loss is zero there, before any mask


def test_exact_values_leave_nothing_to_learn():
    _, reward, discount, rho = experience(3)
    values = np.zeros((STEPS + 1, STREAMS))
    values[-1] = 1.7
    for t in reversed(range(STEPS)):
        values[t] = reward[t] + 0.9 * discount[t] * values[t + 1]
    out = leaky_vtrace(values, reward, 0.9 * discount, rho, trace_lambda=0.8, alpha=0.5, rho_clip=1.0)
    close(out.advantage, 0.0)
    close(out.value, values[:-1])


def weighted(values, reward, discount, rho, dials):
    """A scalar of every target and advantage."""
    gamma, trace_lambda, alpha = dials
    out = leaky_vtrace(values, reward, gamma * discount, rho, trace_lambda=trace_lambda, alpha=alpha, rho_clip=1.0)
    weights = np.random.default_rng(9).normal(size=(2, STEPS, STREAMS))
    return jnp.sum(weights[0] * out.value + weights[1] * out.advantage)


def test_gradients_reach_the_hyperparameters_in_full_and_nothing_else():
    values, reward, discount, rho = experience(4)
    dials = np.array([0.9, 0.8, 0.6])
    by_values, by_rho, by_dials = jax.grad(weighted, argnums=(0, 3, 4))(values, reward, discount, rho, dials)
    assert not np.any(by_values) and not np.any(by_rho)
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        above, below = (weighted(values, reward, discount, rho, dials + sign * step) for sign in (1, -1))
        difference = (above - below) / 2e-6
        assert abs(difference) > 0.1
        np.testing.assert_allclose(by_dials[i], difference, rtol=1e-7)
