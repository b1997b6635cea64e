"""The forward trace: a second route to the meta-gradient."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from agents.config import OuterLossConfig
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.meta_gradients import base
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


def test_telling_streams_apart_changes_nothing_but_what_is_told():
    """One gradient and its products with every z, against a tangent of each stream's outer loss along every z."""
    agent, found = problems.agent(), {}
    for diagnostics in (0, 1):
        kind = MetaGradientConfig("all", "trace", diagnostics=diagnostics)
        learner = problems.learner(agent, 2, 0.7, 0.9, meta_gradient=kind)
        state = learner.init(jax.random.key(1))
        for k in range(3):
            state, found[diagnostics] = learner.step(state, problems.trajectory(agent, k, k))
    whole, apart = found[0], found[1]
    assert np.isnan(whole.pop("meta_grad/snr")) and apart.pop("meta_grad/snr") > 0
    for name, value in whole.items():
        np.testing.assert_allclose(apart[name], value, rtol=1e-9, err_msg=name)


def test_trace_without_memory_is_the_one_step_window():
    agent = problems.agent()
    swept = meta_gradients(agent, 3, 1, objective="next")
    traced = meta_gradients(agent, 3, 1, objective="next", differentiation="trace", trace_decay=0.0)
    assert len(traced) == len(swept) == 3
    np.testing.assert_allclose(traced, swept, rtol=1e-9)


def test_decayed_trace_is_its_recursion(decay=0.6):
    """z' = μ A z + B written out with whole Jacobians of an update, over three updates of a loss without stops."""
    agent, config = problems.smooth_agent(), problems.optimizer("adam", max_grad_norm=0.0)
    trajectories = [problems.trajectory(agent, k, k) for k in range(4)]
    learner = problems.learner(
        agent,
        3,
        optimizer=config,
        meta_gradient=MetaGradientConfig(objective="next", differentiation="trace", trace_decay=decay),
    )
    state = learner.init(jax.random.key(1))
    meta, unravel_meta = ravel_pytree(state.meta.params)
    inner, unravel = ravel_pytree(state.inner)
    update = problems.inner_update(agent, config)

    @jax.jit
    def step(meta, inner, trajectory, count):
        return ravel_pytree(update(unravel_meta(meta), unravel(inner), trajectory, count)[0])[0]

    jacobians = jax.jit(jax.jacfwd(step, argnums=(0, 1)))
    trace = np.zeros((len(inner), len(meta)))
    for k, trajectory in enumerate(trajectories):
        if k < 3:
            given = meta, inner, trajectory, np.asarray(k, np.int32)
            by_meta, by_inner = jacobians(*given)
            inner, trace = step(*given), by_inner @ (decay * trace) + by_meta
        state, metrics = learner.step(state, trajectory)
    outer = jax.grad(lambda x: base.outer_loss(agent, unravel(x).params, trajectories[-1], None)[0].mean())(inner)
    expected = unravel_meta(outer @ trace)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[f"meta_grad/of_{name}"], value, rtol=1e-9)
