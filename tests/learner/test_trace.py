"""The forward trace: a second route to the meta-gradient."""

import jax
import numpy as np
import pytest

from agents.config import OuterLossConfig
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from tests.learner import problems

pytestmark = pytest.mark.usefixtures("float64")


def meta_gradients(agent, updates, window, weight=0.0, **meta_gradient):
    """The meta-gradients of all windows in a life of `updates` updates, η held still."""
    learner = problems.learner(
        agent,
        window,
        weight,
        0.9,
        optimizer=problems.optimizer("adam"),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=0.0),
        meta_gradient=MetaGradientConfig(diagnostics=0, **meta_gradient),
    )
    state, out = learner.init(jax.random.key(1)), []
    for k in range(updates + 1):
        state, metrics = learner.step(state, problems.trajectory(agent, k, k))
        if "meta_grad/norm" in metrics:
            out.append(np.array([v for name, v in sorted(metrics.items()) if "/of_" in name]))
    return out


@pytest.mark.parametrize("objective, weight, lstm", [("same", 0.7, 0), ("next", 0.0, 3), ("all", 0.7, 0)])
def test_exact_trace_equals_the_untruncated_sweep(objective, weight, lstm):
    agent = problems.agent(lstm=lstm)
    (swept,) = meta_gradients(agent, 4, 4, weight, objective=objective)
    (traced,) = meta_gradients(agent, 4, 4, weight, objective=objective, differentiation="trace")
    np.testing.assert_allclose(traced, swept, rtol=1e-9, atol=1e-9 * np.abs(swept).max())


def test_exact_trace_crosses_window_borders(weight=0.7):
    """With η still, the second window of two updates ends where one window of four does; only reverse truncates."""
    agent = problems.agent(outer=OuterLossConfig(kl_weight=0.0))  # the anchors, at the windows' starts, differ
    (whole,) = meta_gradients(agent, 4, 4, weight, objective="next")
    _, truncated = meta_gradients(agent, 4, 2, weight, objective="next")
    _, traced = meta_gradients(agent, 4, 2, weight, objective="next", differentiation="trace")
    np.testing.assert_allclose(traced, whole, rtol=1e-9)
    assert np.abs(truncated - whole).max() > 1e-3 * np.abs(whole).max()


def test_trace_without_memory_is_the_one_step_window():
    agent = problems.agent()
    swept = meta_gradients(agent, 3, 1, objective="next")
    traced = meta_gradients(agent, 3, 1, objective="next", differentiation="trace", trace_decay=0.0)
    assert len(traced) == len(swept) == 3
    np.testing.assert_allclose(traced, swept, rtol=1e-9)
