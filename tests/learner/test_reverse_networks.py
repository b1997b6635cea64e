"""The adjoint sweep where η is a network, or one of several kinds at once, against autodiff through the window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import LPGConfig, OuterLossConfig, SelfTunedConfig
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.window import Correction
from tests.learner import problems
from tests.learner.test_reverse import unrolled_objective

pytestmark = pytest.mark.usefixtures("float64")

CRITIC = OuterLossConfig(separate_critic=True)
RULE = LPGConfig(predictions=3, hidden=3, embedding=2, direction_penalty=0.0, target_penalty=0.0)
# agent, its settings, objective, λ
AGENTS = {
    "a rule": ("lpg", {"lpg": RULE}, "next", 0.0),
    "a reward and γ": ("lirpg", {"outer": CRITIC, "self_tuned": SelfTunedConfig(("gamma",))}, "same", 0.0),
    "hyperparameters by state": ("stac", {"self_tuned": SelfTunedConfig(form="state", hidden=(3,))}, "next", 0.7),
}


@pytest.mark.parametrize("keep", [False, True], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("name", AGENTS)
def test_sweep_equals_autodiff_in_every_leaf(name, keep):
    kind, groups, objective, weight = AGENTS[name]
    agent, config = problems.agent(kind, **groups), problems.optimizer("sgd")
    trajectories = [problems.trajectory(agent, k, k) for k in range(3)]
    learner = problems.learner(
        agent,
        2,
        weight,
        optimizer=config,
        meta_gradient=MetaGradientConfig(objective=objective),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0, max_grad_norm=0.0),  # its step: the gradient
        keep=keep,
    )
    state, rng = learner.init(jax.random.key(1)), np.random.default_rng(0)
    away = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), state.meta.params)  # from weights that are zero
    state = learner.init(jax.random.key(1), state.meta._replace(params=away))
    for trajectory in trajectories:
        state, _ = learner.step(state, trajectory)
    assert state.meta_updates == 1
    swept = jax.tree.map(jnp.subtract, away, state.meta.params)
    update, correction = problems.inner_update(agent, config), Correction(weight, 1.0, False, (0,))
    exact = jax.grad(unrolled_objective)(away, agent, update, trajectories, objective, correction)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(exact))
    for one, other in zip(jax.tree.leaves(swept), jax.tree.leaves(exact), strict=True):
        assert np.any(other != 0)
        np.testing.assert_allclose(one, other, atol=1e-9 * scale)
