"""IMPALA, MGRL and STAC as the learner meets them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import InnerLossConfig, MetaInitConfig, NetworkConfig, OuterLossConfig
from agents.make import SELF_TUNED, make_agent
from agents.types import EnvironmentSpec, Trajectory

SPEC = EnvironmentSpec("toy", (3,), np.float32, num_actions=2, frame_stack=1, frames_per_step=1)
STEPS, STREAMS = 4, 2
OUTER = OuterLossConfig()
START = MetaInitConfig(1.0, 0.5, 0.2, 0.3, -0.4, 0.6)


def make(name, inner=None, outer=OUTER):
    return make_agent(
        name, SPEC, network=NetworkConfig("mlp", (4,)), inner=inner or InnerLossConfig(), outer=outer, meta_init=START
    )


@pytest.fixture(scope="module")
def trajectory():
    rng = np.random.default_rng(0)
    step_type = np.ones((STEPS + 1, STREAMS), np.int8)
    step_type[0], step_type[2, 0], step_type[3, 0] = 0, 2, 0
    return Trajectory(
        observation=rng.normal(size=(STEPS + 1, STREAMS, 3)).astype(np.float32),
        step_type=step_type,
        action=rng.integers(0, 2, (STEPS, STREAMS)).astype(np.int32),
        behaviour_logits=rng.normal(size=(STEPS, STREAMS, 2)).astype(np.float32),
        reward=(3 * rng.normal(size=(STEPS, STREAMS))).astype(np.float32),
        discount=np.ones((STEPS, STREAMS), np.float32),
        core_state=(),
        params_version=np.zeros(STREAMS, np.int32),
    )


@pytest.fixture(scope="module")
def params():
    return make("impala").init(jax.random.key(0))


def inner_loss(agent, meta, params, trajectory):
    return jnp.mean(agent.inner_loss(meta, agent.unroll(params, trajectory), trajectory)[0])


@pytest.mark.parametrize("name", ["stac", "mgrl"])
def test_held_still_a_self_tuning_agent_is_impala_bit_for_bit(name, trajectory, params):
    agent = make(name)
    values = {name: float(value) for name, value in agent.meta_values(agent.init_meta()).items()}
    impala = make("impala", InnerLossConfig(**values))
    a, b = (jax.value_and_grad(inner_loss, argnums=2)(x, x.init_meta(), params, trajectory) for x in (agent, impala))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", sorted(SELF_TUNED))
def test_everything_learns_and_no_input_is_changed(name, trajectory, params):
    """Each leaf of θ gets an inner gradient, each leaf of η a meta-gradient through one plain step."""
    agent = make(name)
    meta = agent.init_meta()
    before = jax.tree.map(np.array, (meta, params, trajectory))

    def after_a_step(meta):
        gradient = jax.grad(inner_loss, argnums=2)(agent, meta, params, trajectory)
        new = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
        anchor = agent.unroll(params, trajectory).logits
        return jnp.mean(agent.outer_loss(agent.unroll(new, trajectory), trajectory, anchor)[0]), gradient

    meta_gradient, gradient = jax.grad(after_a_step, has_aux=True)(meta)
    assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert meta_gradient.keys() == meta.keys()
    assert all(np.abs(leaf) > 1e-7 for leaf in meta_gradient.values())
    jax.tree.map(np.testing.assert_array_equal, before, (meta, params, trajectory))


def test_losses_are_sums_or_means_over_the_batch(trajectory, params):
    summed, averaged = (make("stac", InnerLossConfig(reduction=reduction)) for reduction in ("sum", "mean"))
    output = summed.unroll(params, trajectory)
    pairs = [
        [agent.inner_loss(agent.init_meta(), output, trajectory)[0] for agent in (summed, averaged)],
        [agent.outer_loss(output, trajectory, 0 * output.logits)[0] for agent in (summed, averaged)],
        [agent.stream_return(trajectory) for agent in (summed, averaged)],
    ]
    for total, mean in pairs:
        assert total.shape == mean.shape == (STREAMS,)
        np.testing.assert_allclose(total, STEPS * STREAMS * mean, rtol=1e-6)


def test_outer_loss_is_impalas_with_its_own_numbers_and_a_kl(trajectory, params):
    outer = OuterLossConfig(0.8, 0.7, 0.9, 0.6, 0.2, kl_weight=3.0)
    agent = make("stac", outer=outer)
    plain = make("impala", InnerLossConfig(0.8, 0.7, 1.0, 0.9, 0.6, 0.2))
    output = agent.unroll(params, trajectory)
    at_anchor, logs = agent.outer_loss(output, trajectory, output.logits)
    np.testing.assert_allclose(at_anchor, plain.inner_loss({}, output, trajectory)[0], rtol=1e-6)
    np.testing.assert_allclose(logs["kl"], 0.0, atol=1e-7)
    away, logs = agent.outer_loss(output, trajectory, output.logits * 2 + jnp.array([0.3, 0.0]))
    assert logs["kl"] > 1e-3
    np.testing.assert_allclose(jnp.mean(away - at_anchor), STEPS * STREAMS * 3.0 * logs["kl"], rtol=1e-4)


def test_stream_return_is_the_clipped_reward_of_real_steps_in_the_losss_units(trajectory):
    agent = make("stac", InnerLossConfig(reward_clip=1.0, reduction="mean"), OuterLossConfig(policy_weight=0.5))
    reward = np.clip(trajectory.reward, -1.0, 1.0) * (trajectory.step_type[:-1] != 2)
    assert np.any(trajectory.reward[2, 0] != reward[2, 0])
    np.testing.assert_allclose(agent.stream_return(trajectory), 0.5 * reward.mean(axis=0), rtol=1e-6)
