"""The bootstrapped objective against autodiff through the window, and against the meta-gradient it reduces to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import InnerLossConfig, OuterLossConfig, SelfTunedConfig
from learner.config import BootstrapConfig, MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState
from learner.meta_gradients import base
from tests.differences import assert_equals_differences
from tests.learner import problems

pytestmark = pytest.mark.usefixtures("float64")

ALL = BootstrapConfig(match_policy=0.7, match_value=0.4, match_parameters=0.2)


def bootstrap(**settings):
    values = {name: getattr(ALL, name) for name in ("match_policy", "match_value", "match_parameters")} | settings
    return BootstrapConfig(**values)


def swept(agent, trajectories, window, config, optimizer, keep=False):
    learner = problems.learner(
        agent,
        window,
        optimizer=optimizer,
        meta_gradient=MetaGradientConfig(objective="bootstrap"),
        bootstrap=config,
        keep=keep,
    )
    state = learner.init(jax.random.key(1))
    for trajectory in trajectories:
        assert state.meta_updates == 0
        state, metrics = learner.step(state, trajectory)
    assert state.meta_updates == 1 and len(state.tape) == 1
    gradient = {name.removeprefix("meta_grad/of_"): value for name, value in metrics.items() if "/of_" in name}
    return gradient, metrics


def states_of(meta, agent, update, trajectories):
    params = problems.start(agent)
    states, step = [InnerState(params, update.optimizer.init(params))], jax.jit(update.__call__)
    for j, trajectory in enumerate(trajectories[:-1]):
        states.append(step(meta, states[j], trajectory, jnp.asarray(j, float))[0])
    return states


def target_of(agent, update, states, trajectories):
    """One step on the outer loss from the last state."""
    anchor = base.anchor_logits(agent, states[0].params, trajectories[-1])
    gradient = jax.grad(
        lambda params: jnp.mean(base.outer_loss(agent, params, trajectories[-1], anchor)[0])
    )(states[-1].params)  # fmt: skip
    return update.apply(gradient, states[-1], jnp.asarray(len(states) - 1, float)).params


def matching(agent, config, params, target, trajectory, reduction="sum"):
    """μ written out a second time, transition by transition; `reduction` is that of the agent's losses."""
    goal, output = agent.unroll(target, trajectory), agent.unroll(params, trajectory)
    total, (steps, streams) = 0.0, trajectory.reward.shape
    count = steps * streams if reduction == "mean" else 1
    for t in range(steps):
        for b in range(streams):
            if trajectory.step_type[t, b] == 2:
                continue
            p, q = (jax.nn.softmax(x.logits[t, b]) for x in (goal, output))
            kl = jnp.sum(p * jnp.log(p / q))
            value = (goal.value[t, b] - output.value[t, b]) ** 2 / 2
            total += (config.match_policy * kl + config.match_value * value) / count
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, target)
    return total + config.match_parameters * sum(jax.tree.leaves(squares)) / 2


@pytest.mark.parametrize("reduction, keep", [("sum", True), ("mean", False)])  # kept: as the presets have it
@pytest.mark.parametrize("window, length, name", [(1, 1, "sgd"), (1, 3, "rmsprop"), (3, 1, "adam"), (2, 2, "sgd")])
def test_sweep_equals_autodiff_with_the_target_held(window, length, name, reduction, keep):
    """K updates are differentiated through; the L - 1 after them and the target are data."""
    agent, optimizer = problems.agent(inner=InnerLossConfig(reduction=reduction)), problems.optimizer(name)
    config, update = bootstrap(updates=length), problems.inner_update(agent, optimizer)
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + length)]
    meta = agent.init_meta(jax.random.key(1))
    target = target_of(agent, update, states_of(meta, agent, update, trajectories), trajectories)
    gradient, metrics = swept(agent, trajectories, window, config, optimizer, keep)

    def objective(meta):
        params = states_of(meta, agent, update, trajectories)[window].params
        return matching(agent, config, params, target, trajectories[-1], reduction)

    exact = jax.grad(objective)(meta)
    scale = max(abs(float(g)) for g in exact.values())
    assert scale > 1e-7
    for leaf, value in exact.items():
        assert abs(float(gradient[leaf] - value)) < 1e-9 * scale, leaf
    count = trajectories[-1].reward.size if reduction == "sum" else 1  # the log has means
    scales = {"match_policy": count, "match_value": count, "match_parameters": 1}
    parts = [getattr(config, name) * scale * metrics[f"outer_loss/{name}"] for name, scale in scales.items()]
    np.testing.assert_allclose(sum(parts), objective(meta), rtol=1e-9)


def test_sweep_equals_finite_differences_with_the_target_held():
    """On losses without stopped gradients: K = 2, L = 2."""
    agent, optimizer = problems.smooth_agent(), problems.optimizer("sgd", max_grad_norm=0.0)
    config, update = bootstrap(updates=2), problems.inner_update(agent, optimizer)
    trajectories = [problems.trajectory(agent, k, k) for k in range(4)]
    start = agent.init_meta(jax.random.key(1))
    target = jax.jit(lambda: target_of(agent, update, states_of(start, agent, update, trajectories), trajectories))()
    gradient, _ = swept(agent, trajectories, 2, config, optimizer)

    @jax.jit
    def value(meta):
        params = states_of(meta, agent, update, trajectories)[2].params
        return matching(agent, config, params, target, trajectories[-1], "mean")

    assert_equals_differences(value, start, {name: gradient[name] for name in start})


AGENTS = {
    "stacx": ("stacx", {"inner": InnerLossConfig(auxiliary_heads=2)}),
    "stac by history": ("stac", {"self_tuned": SelfTunedConfig(form="history", hidden=(3,), history=4)}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_every_leaf_of_an_agent_is_that_of_differences_with_the_target_held(name):
    """K = 1, where what an agent's inner loss holds constant is constant: L = 2, along one direction for each leaf."""
    kind, groups = AGENTS[name]
    agent, optimizer = problems.agent(kind, **groups), problems.optimizer("sgd", max_grad_norm=0.0)
    config, update = bootstrap(updates=2), problems.inner_update(agent, optimizer)
    rng = np.random.default_rng(0)
    trajectories, context = [], agent.init_context()
    for k in range(3):
        context = agent.next_context(context, problems.trajectory(agent, k, k))
        trajectories.append(problems.trajectory(agent, k, k)._replace(context=context))
    learner = problems.learner(
        agent,
        1,
        optimizer=optimizer,
        meta_gradient=MetaGradientConfig(objective="bootstrap"),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0),  # its step is the meta-gradient
        bootstrap=config,
    )
    state = learner.init(jax.random.key(1))
    away = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), state.meta.params)  # from weights that are zero
    state = learner.init(jax.random.key(1), state.meta._replace(params=away))
    for trajectory in trajectories:
        state, _ = learner.step(state, trajectory)
    start, swept = away, jax.tree.map(jnp.subtract, away, state.meta.params)
    # Without XLA's optimisations (conftest.py) a program of a whole window lacks the last digits.
    jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    target = jit(lambda: target_of(agent, update, states_of(start, agent, update, trajectories), trajectories))()

    @jit
    def value(meta):
        params = states_of(meta, agent, update, trajectories)[1].params
        return matching(agent, config, params, target, trajectories[-1])

    assert len(jax.tree.leaves(start)) == {"stacx": 18, "stac by history": 4}[name]
    assert_equals_differences(value, start, swept)


def test_differentiating_the_target_would_give_something_else():
    """What the sweep must not return: the gradient that flows through the target as well."""
    agent, optimizer = problems.agent(), problems.optimizer("sgd")
    config, update = bootstrap(updates=2), problems.inner_update(agent, optimizer)
    trajectories = [problems.trajectory(agent, k, k) for k in range(4)]
    gradient, _ = swept(agent, trajectories, 2, config, optimizer)

    def through_the_target(meta):
        states = states_of(meta, agent, update, trajectories)
        target = target_of(agent, update, states, trajectories)
        return matching(agent, config, states[2].params, target, trajectories[-1])

    wrong = jax.grad(through_the_target)(agent.init_meta(jax.random.key(1)))
    differences = [abs(float(gradient[leaf] - wrong[leaf])) for leaf in wrong]
    assert max(differences) > 0.1 * max(abs(float(value)) for value in gradient.values())


@pytest.mark.parametrize("window", [1, 3])
def test_matching_parameters_one_step_away_is_the_meta_gradient_of_the_outer_loss(window):
    """L = 1 and the squared metric, with plain SGD: the learning rate times the ordinary meta-gradient."""
    agent = problems.agent(outer=OuterLossConfig(kl_weight=0.0))
    optimizer = problems.optimizer("sgd", anneal=False, max_grad_norm=0.0)
    trajectories = [problems.trajectory(agent, k, k) for k in range(window + 1)]
    config = BootstrapConfig(match_policy=0.0, match_parameters=1.0)
    bootstrapped, _ = swept(agent, trajectories, window, config, optimizer)
    learner = problems.learner(agent, window, optimizer=optimizer, meta_gradient=MetaGradientConfig(objective="next"))
    state = learner.init(jax.random.key(1))
    for trajectory in trajectories:
        state, metrics = learner.step(state, trajectory)
    for leaf, value in bootstrapped.items():
        np.testing.assert_allclose(value, optimizer.learning_rate * metrics[f"meta_grad/of_{leaf}"], rtol=1e-9)
