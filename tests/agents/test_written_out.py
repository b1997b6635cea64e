"""Losses of the agents that learn more than numbers, against the papers' equations written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import (
    AgentSettings,
    InnerLossConfig,
    IntrinsicConfig,
    LPGConfig,
    MetaInitConfig,
    NetworkConfig,
    OuterLossConfig,
    SelfTunedConfig,
)
from agents.make import make_agent
from agents.types import EnvironmentSpec, NetworkOutput, Trajectory

STATES, ACTIONS, PREDICTIONS, STEPS, STREAMS = 3, 2, 4, 5, 2
SPEC = EnvironmentSpec("toy", (STATES,), np.float32, num_actions=ACTIONS, frame_stack=1, frames_per_step=1)
INNER = InnerLossConfig(gamma=0.7, trace_lambda=0.6, value_weight=0.4, reward_clip=1.0, reduction="mean")
OUTER = OuterLossConfig(0.9, 0.8, 0.6, 0.5, 0.2, kl_weight=0.0)
RNG = np.random.default_rng(0)
STEP_TYPE = np.ones((STEPS + 1, STREAMS), np.int8)
STEP_TYPE[0], STEP_TYPE[2, 0], STEP_TYPE[3, 0] = 0, 2, 0  # an episode of stream 0 ends with its second transition
REAL = STEP_TYPE[:-1] != 2
DISCOUNT = np.ones((STEPS, STREAMS), np.float32)
DISCOUNT[1, 0] = 0.0
TRAJECTORY = Trajectory(
    observation=np.eye(STATES, dtype=np.float32)[RNG.integers(0, STATES, (STEPS + 1, STREAMS))],
    step_type=STEP_TYPE,
    action=RNG.integers(0, ACTIONS, (STEPS, STREAMS)).astype(np.int32),
    behaviour_logits=RNG.normal(size=(STEPS, STREAMS, ACTIONS)).astype(np.float32),
    reward=(2 * RNG.normal(size=(STEPS, STREAMS))).astype(np.float32),
    discount=DISCOUNT,
    core_state=(),
    params_version=np.zeros(STREAMS, np.int32),
)
NAMES = ("gamma", "trace_lambda", "alpha", "policy_weight", "value_weight", "entropy_weight")
CLIPPED = np.clip(TRAJECTORY.reward, -1.0, 1.0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def linear(layer, x):
    return x @ np.asarray(layer["w"]) + np.asarray(layer["b"])


def make(name, **groups):
    settings = {"network": NetworkConfig("table"), "inner": INNER, "outer": OUTER} | groups
    return make_agent(name, SPEC, AgentSettings(**settings))


def plain(inner):
    """The actor-critic with these fixed numbers, which other tests write out: (output, trajectory) -> [B]."""
    agent = make("impala", inner=inner)
    return lambda output, trajectory: agent.inner_loss({}, output, trajectory)[0]


def critic(output, trajectory, value):
    """The value loss at the outer discount and λ, with the inner loss's weight."""
    fixed = InnerLossConfig(OUTER.gamma, OUTER.trace_lambda, 1.0, 0.0, INNER.value_weight, 0.0, reduction="mean")
    return plain(fixed)(output._replace(value=value), trajectory)


def assert_same_values_and_gradients(one, other, output):
    for a, b in zip(
        *(jax.tree.leaves((f(output), jax.grad(lambda x, f=f: jnp.sum(f(x)))(output))) for f in (one, other)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def lpg():
    config = LPGConfig(PREDICTIONS, hidden=3, embedding=2, prediction_weight=0.7, prediction_entropy=0.3)
    agent = make("lpg", lpg=config)
    meta = jax.tree.map(lambda x: x + 0.5 * normal(*x.shape), agent.init_meta(jax.random.key(0)))
    heads = {"prediction": normal(STEPS + 1, STREAMS, PREDICTIONS)}
    output = NetworkOutput(normal(STEPS + 1, STREAMS, ACTIONS), normal(STEPS + 1, STREAMS), heads=heads)
    return agent, meta, jax.tree.map(jnp.asarray, output), config


def rule(meta, output):
    """Oh et al. 2020: a backward LSTM on r, the discount, γ, π(a|s), φ(y(s)) and φ(y(s')) -> π̂ [T, B] and ŷ logits."""

    def embed(y):
        return linear(meta["embed/~/linear_1"], np.maximum(linear(meta["embed/~/linear_0"], y), 0.0))

    y = softmax(np.asarray(output.heads["prediction"]))
    policy = softmax(np.asarray(output.logits))[:-1]
    taken = np.take_along_axis(policy, TRAJECTORY.action[..., None], axis=-1)
    numbers = np.stack([CLIPPED, DISCOUNT, np.full_like(DISCOUNT, OUTER.gamma)], axis=-1)
    x = np.concatenate([numbers, taken, embed(y[:-1]), embed(y[1:])], axis=-1)
    direction, target = np.zeros((STEPS, STREAMS)), np.zeros((STEPS, STREAMS, PREDICTIONS))
    for b in range(STREAMS):
        h = c = np.zeros(3)
        for t in reversed(range(STEPS)):
            if STEP_TYPE[t + 1, b] == 2:
                h = c = np.zeros(3)
            i, g, f, o = np.split(linear(meta["lstm/linear"], np.concatenate([x[t, b], h])), 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)  # haiku's LSTM
            h = sigmoid(o) * np.tanh(c)
            direction[t, b], target[t, b] = linear(meta["policy"], h)[0], linear(meta["target"], h)
    return direction, target


def test_lpg_goes_where_its_rule_says(lpg):
    """-π̂ log π(a|s) + α_y KL(y ‖ ŷ), π̂ and ŷ constant in θ, and a critic of the outer discount."""
    agent, meta, output, config = lpg
    direction, target = rule(meta, output)
    log_target = np.log(softmax(target))

    def expected(output):
        log_policy = jax.nn.log_softmax(output.logits[:-1])
        taken = jnp.take_along_axis(log_policy, TRAJECTORY.action[..., None], axis=-1)[..., 0]
        log_y = jax.nn.log_softmax(output.heads["prediction"][:-1])
        kl = jnp.sum(jnp.exp(log_y) * (log_y - log_target), axis=-1)
        step = -direction * taken + config.prediction_weight * kl
        return jnp.mean(step * REAL, axis=0) + critic(output, TRAJECTORY, output.value)

    assert_same_values_and_gradients(lambda x: agent.inner_loss(meta, x, TRAJECTORY)[0], expected, output)


def test_lpg_is_scored_by_the_policy_gradient_and_keeps_its_predictions_apart(lpg):
    agent, _, output, config = lpg
    numbers = (OUTER.policy_weight, OUTER.value_weight, OUTER.entropy_weight)
    own = plain(InnerLossConfig(OUTER.gamma, OUTER.trace_lambda, 1.0, *numbers, reduction="mean"))

    def expected(output):
        y = jax.nn.softmax(output.heads["prediction"][:-1])
        entropy = -jnp.sum(y * jnp.log(y), axis=-1) * REAL
        return own(output, TRAJECTORY) - config.prediction_entropy * jnp.mean(entropy, axis=0)

    assert_same_values_and_gradients(lambda x: agent.outer_loss(x, TRAJECTORY, None)[0], expected, output)


def test_lpg_charges_its_rule_for_large_directions_and_sure_targets(lpg):
    agent, meta, output, config = lpg
    direction, target = rule(meta, output)
    squares = config.direction_penalty * direction**2 + config.target_penalty * (softmax(target) ** 2).sum(axis=-1)
    np.testing.assert_allclose(agent.meta_penalty(meta, output, TRAJECTORY), (squares * REAL).mean(axis=0), rtol=2e-5)


@pytest.mark.parametrize("of_the_games", [1.0, 0.4, 0.0])
def test_lirpg_adds_its_reward_to_the_inner_loss_and_keeps_it_from_the_second_critic(of_the_games):
    """c r + β tanh(r_in(s, a)) at the state where a was taken; both critics, each of its own discount."""
    outer = OuterLossConfig(OUTER.gamma, OUTER.trace_lambda, separate_critic=True)
    agent = make("lirpg", outer=outer, intrinsic=IntrinsicConfig(0.3, of_the_games))
    meta = jax.tree.map(lambda x: normal(*x.shape), agent.init_meta(jax.random.key(0)))
    (table,) = jax.tree.leaves(meta)
    heads = {"outer_value": jnp.asarray(normal(STEPS + 1, STREAMS, 1))}
    output = NetworkOutput(
        jnp.asarray(normal(STEPS + 1, STREAMS, ACTIONS)), jnp.asarray(normal(STEPS + 1, STREAMS)), heads=heads
    )
    of_actions = np.tanh(TRAJECTORY.observation[:-1] @ table)
    learned = 0.3 * np.take_along_axis(of_actions, TRAJECTORY.action[..., None], axis=-1)[..., 0]
    mixed = TRAJECTORY._replace(reward=of_the_games * CLIPPED + learned)
    unclipped = plain(InnerLossConfig(0.7, 0.6, value_weight=0.4, reward_clip=0.0, reduction="mean"))

    def expected(output):
        return unclipped(output, mixed) + critic(output, TRAJECTORY, output.heads["outer_value"][..., 0])

    assert_same_values_and_gradients(lambda x: agent.inner_loss(meta, x, TRAJECTORY)[0], expected, output)


@pytest.mark.parametrize("entropy_bound", [0.7, 0.1])  # above the outer weight, and below it
def test_hyperparameters_of_states_are_read_where_they_act_and_teach_the_torso_nothing(entropy_bound):
    """γ and λ say what is made of s_(t+1), so they are its; the others are of s_t."""
    start = MetaInitConfig(0.3, -0.2, 0.5, 0.1, 0.4, -0.6)
    tuned = SelfTunedConfig(form="state", hidden=(5,), entropy_bound=entropy_bound)
    agent = make("stac", network=NetworkConfig("mlp", (4,)), meta_init=start, self_tuned=tuned)
    meta = jax.tree.map(lambda x: x + normal(*x.shape), agent.init_meta(jax.random.key(0)))
    features = normal(STEPS + 1, STREAMS, 4)
    output = NetworkOutput(normal(STEPS + 1, STREAMS, ACTIONS), normal(STEPS + 1, STREAMS), features)
    hidden = np.maximum(linear(meta["meta/~/linear_0"], features), 0.0)
    raw = linear(meta["~"], hidden)
    bounds = (1.0, 1.0, 1.0, OUTER.policy_weight, OUTER.value_weight, tuned.entropy_bound)
    _, logs = agent.inner_loss(meta, output, TRAJECTORY)
    for i, (name, bound) in enumerate(zip(NAMES, bounds, strict=True)):
        at = slice(1, None) if name in ("gamma", "trace_lambda") else slice(None, -1)
        np.testing.assert_allclose(logs[f"meta/{name}"], bound * sigmoid(raw[at, :, i]).mean(), rtol=1e-5)
    taught = jax.grad(lambda f: jnp.sum(agent.inner_loss(meta, output._replace(features=f), TRAJECTORY)[0]))(features)
    np.testing.assert_array_equal(taught, 0.0)


def test_stacx_adds_up_its_heads_losses_each_of_its_own_hyperparameters():
    inner = InnerLossConfig(reward_clip=1.0, reduction="mean", auxiliary_heads=2)
    agent = make("stacx", inner=inner, meta_init=MetaInitConfig(0.3, -0.2, 0.5, 0.1, 0.4, -0.6))
    meta = jax.tree.map(lambda x: x + normal(*x.shape), agent.init_meta(jax.random.key(0)))
    values = {name: float(value) for name, value in agent.meta_values(meta).items()}
    logits, value = normal(STEPS + 1, STREAMS, 3, ACTIONS), normal(STEPS + 1, STREAMS, 3)  # of the main head, then two
    auxiliary = {
        "auxiliary_policy": logits[..., 1:, :].reshape(STEPS + 1, STREAMS, -1),
        "auxiliary_value": value[..., 1:],
    }
    output = NetworkOutput(logits[..., 0, :], value[..., 0], heads=auxiliary)
    expected = 0.0
    for head, suffix in enumerate(("", "_1", "_2")):
        own = [values[name + suffix] for name in NAMES]
        numbers = InnerLossConfig(*own, reward_clip=1.0, reduction="mean")
        expected += plain(numbers)(NetworkOutput(logits[..., head, :], value[..., head]), TRAJECTORY)
    np.testing.assert_allclose(agent.inner_loss(meta, output, TRAJECTORY)[0], expected, rtol=2e-5)
