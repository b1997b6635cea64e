"""The adjoint sweep, rebuilt and kept, against autodiff through the unrolled window and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents.config import BanditConfig, InnerLossConfig
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState
from learner.meta_gradients import base
from learner.window import Correction, outer_weights, score_coefficients
from tests.learner import problems

pytestmark = pytest.mark.usefixtures("float64")


def run_window(learner, trajectories, state=None):
    """The learner's own path; the meta-gradient of the window that the last trajectory closes."""
    state = learner.init(jax.random.key(1)) if state is None else state
    for trajectory in trajectories:
        state, metrics = learner.step(state, trajectory)
    return {name.removeprefix("meta_grad/of_"): value for name, value in metrics.items() if "/of_" in name}, metrics


def unrolled_objective(meta, agent, update, trajectories, objective, correction):
    """What the window's meta-gradient must be the gradient of: the unrolled window, every term in one graph."""
    window = len(trajectories) - 1
    initial = agent.starts_from_meta
    params = meta["params"] if initial else problems.start(agent)
    states, step = [InnerState(params, update.optimizer.init(params))], jax.jit(update.__call__)
    for j in range(window):
        states.append(step(meta, states[j], trajectories[j], jnp.asarray(j, float))[0])
    weights = outer_weights(objective, window)
    total = 0.0
    for k in range(0 if initial and objective == "all" else 1, window + 1):
        scored = trajectories[k - 1] if objective == "same" else trajectories[k]
        anchor = base.anchor_logits(agent, states[0].params, scored)
        total += weights[k] * jnp.mean(base.outer_loss(agent, states[k].params, scored, anchor)[0])
    if correction.coefficient:
        returns = jnp.stack([agent.stream_return(t) for t in trajectories])
        baselines = [jnp.zeros(())]  # none before the first batch
        for k in range(1, window + 1):
            decay = 0.99 ** np.arange(k)[::-1]
            baselines.append(decay @ returns[:k].mean(axis=1) / decay.sum())
        (lag,) = correction.lags
        if lag:  # what θ^k would have earned
            logits = [agent.unroll(state.params, t).logits for state, t in zip(states, trajectories, strict=True)]
            returns = [agent.stream_return(t, own) for t, own in zip(trajectories, logits, strict=True)]
            returns = jax.lax.stop_gradient(jnp.stack(returns))
        coefficients = score_coefficients(returns, jnp.stack(baselines), weights, correction)
        for j in range(0 if initial else 1, window):
            version = max(j - lag, 0)
            if version or initial:  # θ^0 is a constant elsewhere
                score = base.score(
                    agent,
                    agent.unroll(states[version].params, trajectories[j]),
                    trajectories[j],
                    jnp.asarray(version, float),
                )
                total -= jnp.vdot(coefficients[j], score)
    return total


CASES = [
    # objective, K, optimiser, λ, α, lag, others, lstm, second moment, kept
    ("same", 1, "rmsprop", 0.0, 1.0, 0, False, 0, False, True),
    ("next", 2, "sgd", 0.7, 0.9, 0, False, 3, True, True),
    ("all", 2, "adam", 0.7, 1.0, 0, True, 0, False, True),
    ("same", 5, "adam", 0.7, 0.8, 0, False, 0, True, False),
    ("next", 5, "sgd", 0.0, 1.0, 0, False, 0, False, True),
    ("all", 5, "rmsprop", 0.7, 0.9, 1, True, 3, True, False),
]


@pytest.mark.parametrize("objective, window, name, weight, discount, lag, others, lstm, second, kept", CASES)
def test_sweep_equals_autodiff_through_the_window(
    objective, window, name, weight, discount, lag, others, lstm, second, kept
):
    agent = problems.agent(lstm=lstm)
    config = problems.optimizer(name, differentiate_second_moment=second)
    correction = Correction(weight, discount, others, (lag,))
    trajectories = [problems.trajectory(agent, k, max(k - lag, 0)) for k in range(window + 1)]
    learner = problems.learner(
        agent,
        window,
        weight,
        discount,
        (lag,),
        optimizer=config,
        meta_gradient=MetaGradientConfig(objective=objective, score_returns="others" if others else "all"),
        keep=kept,
    )
    update = problems.inner_update(agent, config)
    # Not jitted as a whole: compiling the unrolled window takes longer than running it once.
    exact = jax.grad(unrolled_objective)(
        agent.init_meta(jax.random.key(1)), agent, update, trajectories, objective, correction
    )
    scale = max(abs(float(g)) for g in exact.values())
    assert scale > 1e-6
    norm = np.sqrt(sum(float(g) ** 2 for g in exact.values()))
    swept, metrics = run_window(learner, trajectories)
    for leaf, value in exact.items():
        assert abs(float(swept[leaf] - value)) < 1e-9 * scale, leaf
    np.testing.assert_allclose(metrics["meta_grad/norm"], norm, rtol=1e-9)
    if weight:
        assert metrics["meta_grad/correction_norm"] > 1e-3 * metrics["meta_grad/direct_norm"]


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("objective", ["same", "all"])
def test_sweep_equals_finite_differences(name, objective):
    """On a loss without stopped gradients, through the optimiser's second moment too, and without clipping."""
    agent, window = problems.smooth_agent(), 5
    config = problems.optimizer(name, differentiate_second_moment=True, max_grad_norm=0.0)
    update = problems.inner_update(agent, config)
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
    learner = problems.learner(agent, window, optimizer=config, meta_gradient=MetaGradientConfig(objective=objective))
    swept, _ = run_window(learner, trajectories)
    objective_ = jax.jit(
        lambda meta: unrolled_objective(meta, agent, update, trajectories, objective, Correction(0, 1, False, (0,)))
    )
    start, eps = agent.init_meta(jax.random.key(1)), 1e-5
    for leaf in start:
        above, below = (objective_(start | {leaf: start[leaf] + sign * eps}) for sign in (1, -1))
        difference = (above - below) / (2 * eps)
        assert abs(difference) > 1e-5
        np.testing.assert_allclose(swept[leaf], difference, rtol=1e-6)


def test_every_leaf_of_a_start_is_that_of_finite_differences():
    """MAML: η is θ^0; along one random direction for each leaf."""
    inner, window = problems.smooth_agent(), 3
    fixed = inner.init_meta(jax.random.key(1))
    agent = inner._replace(
        init_meta=lambda key: {"params": inner.init(key)},
        meta_values=lambda meta: {},
        inner_loss=lambda meta, output, trajectory: inner.inner_loss(fixed, output, trajectory),
        starts_from_meta=True,
    )
    config = problems.optimizer("adam", differentiate_second_moment=True, max_grad_norm=0.0)
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
    learner = problems.learner(
        agent,
        window,
        optimizer=config,
        meta_gradient=MetaGradientConfig(objective="next"),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0),  # its step is the meta-gradient
    )
    state = learner.init(jax.random.key(1))
    start = state.meta.params
    for trajectory in trajectories:
        state, _ = learner.step(state, trajectory)
    swept = jax.tree.map(jnp.subtract, start, state.meta.params)
    update, none, rng = problems.inner_update(agent, config), Correction(0, 1, False, (0,)), np.random.default_rng(0)
    value = jax.jit(lambda meta: unrolled_objective(meta, agent, update, trajectories, "next", none))
    for name, leaf in swept["params"].items():
        direction, eps = rng.normal(size=leaf.shape), 1e-5
        above, below = (
            value({"params": start["params"] | {name: start["params"][name] + sign * eps * direction}})
            for sign in (1, -1)
        )
        difference = (above - below) / (2 * eps)
        assert abs(difference) > 1e-5
        np.testing.assert_allclose(jnp.vdot(leaf, direction), difference, rtol=1e-6)


def test_the_bandits_two_rates_are_those_of_finite_differences():
    """No DICE's learner stops no gradient, so that its whole window can be differenced."""
    agent, window = problems.agent("bandit", bandit=BanditConfig(early=1.0, late=0.5, early_updates=2)), 4
    config = problems.optimizer("sgd", learning_rate=1.0, anneal=False, max_grad_norm=0.0)
    trajectories = [
        problems.trajectory(agent, k, k)._replace(context=jnp.asarray(k + 1, jnp.int32)) for k in range(window + 1)
    ]
    learner = problems.learner(agent, window, optimizer=config, meta_gradient=MetaGradientConfig(objective="all"))
    swept, _ = run_window(learner, trajectories)
    update, none = problems.inner_update(agent, config), Correction(0, 1, False, (0,))
    value = jax.jit(lambda meta: unrolled_objective(meta, agent, update, trajectories, "all", none))
    start, eps = agent.init_meta(jax.random.key(1)), 1e-5
    assert set(start) == {"early", "late"}
    for name in start:
        above, below = (value(start | {name: start[name] + sign * eps}) for sign in (1, -1))
        difference = (above - below) / (2 * eps)
        assert abs(difference) > 1e-5
        np.testing.assert_allclose(swept[name], difference, rtol=1e-6)


def test_undivided_sweep_gives_the_same_meta_gradient():
    agent, window = problems.agent(), 3
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
    together, apart = (
        run_window(
            problems.learner(agent, window, 0.7, meta_gradient=MetaGradientConfig(diagnostics=int(flag))),
            trajectories,
        )
        for flag in (False, True)
    )
    for leaf, value in together[0].items():
        np.testing.assert_allclose(apart[0][leaf], value, rtol=1e-10)
    assert "meta_grad/direct_norm" in apart[1] and "meta_grad/direct_norm" not in together[1]


def test_stream_shares_sum_to_the_meta_gradient_and_snr_is_their_ratio():
    """With every stream alike there is no noise between them; with unlike ones the ratio is finite."""
    agent = problems.agent()
    trajectories = [problems.trajectory(agent, k, k) for k in range(2)]
    alike = [
        jax.tree.map(lambda x: np.repeat(x[..., :1], 3, -1) if x.ndim == 1 else np.repeat(x[:, :1], 3, 1), t)
        for t in trajectories
    ]
    learner = problems.learner(agent, 1)
    _, noisy = run_window(learner, trajectories)
    _, quiet = run_window(learner, alike)
    assert 0 < noisy["meta_grad/snr"] < 100
    assert quiet["meta_grad/snr"] > 1e6


@pytest.mark.parametrize(
    "objective, window, name, weight, discount, surrogate",
    [
        ("next", 1, "sgd", 0.0, 1.0, "plain"),
        ("next", 1, "sgd", 1.0, 1.0, "plain"),
        ("all", 3, "adam", 0.7, 0.9, "plain"),
        ("same", 2, "rmsprop", 0.0, 1.0, "dice"),
    ],
)
def test_where_eta_is_the_start_the_sweep_goes_all_the_way(objective, window, name, weight, discount, surrogate):
    """MAML and E-MAML, against autodiff through the window from θ^0 on: every leaf."""
    agent = problems.agent("maml", inner=InnerLossConfig(surrogate=surrogate))
    config, correction = problems.optimizer(name), Correction(weight, discount, False, (0,))
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
    learner = problems.learner(
        agent,
        window,
        weight,
        discount,
        optimizer=config,
        meta_gradient=MetaGradientConfig(objective=objective),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0),  # its step is the meta-gradient
    )
    state = learner.init(jax.random.key(1))
    meta = state.meta.params
    jax.tree.map(np.testing.assert_array_equal, meta["params"], state.inner.params)
    for trajectory in trajectories:
        state, metrics = learner.step(state, trajectory)
    swept = jax.tree.map(jnp.subtract, meta, state.meta.params)
    exact = jax.grad(unrolled_objective)(
        meta, agent, problems.inner_update(agent, config), trajectories, objective, correction
    )
    norm = float(optax.tree.norm(exact))
    assert norm > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * norm), swept, exact)
    np.testing.assert_allclose(metrics["meta_grad/norm"], norm, rtol=1e-9)
    assert (metrics["meta_grad/correction_norm"] > 0) == (weight > 0)


@pytest.mark.parametrize("surrogate", ["lvc", "loaded_dice", "dice", "off_policy", "off_policy_dice", "lsf"])
def test_sweep_differentiates_every_surrogate(surrogate):
    """What the window's later updates pull back through are second derivatives, in which all of them differ."""
    window, config = 2, problems.optimizer("sgd")

    def sweep(name):
        agent = problems.agent(inner=InnerLossConfig(surrogate=name, surrogate_decay=0.8))
        trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
        swept, _ = run_window(problems.learner(agent, window, optimizer=config), trajectories)
        return agent, trajectories, swept

    agent, trajectories, swept = sweep(surrogate)
    exact = jax.grad(unrolled_objective)(
        agent.init_meta(jax.random.key(1)),
        agent,
        problems.inner_update(agent, config),
        trajectories,
        "same",
        Correction(0, 1, False, (0,)),
    )
    scale = max(abs(float(g)) for g in exact.values())
    for leaf, value in exact.items():
        assert abs(float(swept[leaf] - value)) < 1e-9 * scale, leaf
    if surrogate in ("lvc", "loaded_dice"):  # whose first derivatives are the plain ones, off-policy too
        plain = sweep("plain")[2]
        assert max(abs(float(swept[leaf] - plain[leaf])) for leaf in plain) > 1e-3 * max(map(abs, plain.values()))


def test_sweep_in_the_graph_is_that_on_the_host():
    """In the graph a loop does the later updates, on the host one call each."""
    agent, window, lag = problems.agent(), 3, 1
    trajectories = [problems.trajectory(agent, k, max(k - lag, 0)) for k in range(window + 1)]
    config = MetaGradientConfig(objective="all")
    learner = problems.learner(
        agent, window, 0.7, 0.9, (lag,), optimizer=problems.optimizer("adam"), meta_gradient=config
    )
    state = learner.init(jax.random.key(1))
    on_host, metrics = run_window(learner, trajectories, state)
    assert metrics["meta_grad/correction_norm"] > 1e-3 * metrics["meta_grad/direct_norm"]
    # As one program and without any optimisation (see conftest.py) it would lose digits, loop or not.
    optimised = {"xla_backend_optimization_level": 1}
    in_graph = jax.jit(lambda given: run_window(learner, given, state)[0], compiler_options=optimised)(trajectories)
    for leaf, value in on_host.items():
        np.testing.assert_allclose(in_graph[leaf], value, rtol=1e-9)
