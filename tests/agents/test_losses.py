"""The actor-critic loss against hand numbers; what it must not depend on; where its gradients go."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import losses
from agents.returns import leaky_vtrace
from agents.types import FIRST, LAST, MID, NetworkOutput, Trajectory

pytestmark = pytest.mark.usefixtures("float64")

HYPERPARAMETERS = {
    "gamma": 0.9,
    "trace_lambda": 0.8,
    "alpha": 0.6,
    "policy_weight": 0.7,
    "value_weight": 0.4,
    "entropy_weight": 0.3,
}
STEPS, STREAMS, ACTIONS = 6, 2, 3


@functools.partial(jax.jit, static_argnames=("reward_clip", "rho_clip"))
def loss(hyperparameters, output, trajectory, reward_clip=0.0, rho_clip=1.0):
    return losses.actor_critic_loss(hyperparameters, output, trajectory, rho_clip=rho_clip, reward_clip=reward_clip)


def experience(seed=0):
    """Stream 0 is reset at step 3 after a termination, stream 1 at step 3 after a truncation."""
    rng = np.random.default_rng(seed)
    step_type = np.full((STEPS + 1, STREAMS), MID)
    step_type[3], step_type[4] = LAST, FIRST
    discount = np.ones((STEPS, STREAMS))
    discount[2, 0] = 0.0
    trajectory = Trajectory(
        observation=np.zeros((STEPS + 1, STREAMS, 1)),
        step_type=step_type,
        action=rng.integers(0, ACTIONS, (STEPS, STREAMS)).astype(np.int32),
        behaviour_logits=rng.normal(size=(STEPS, STREAMS, ACTIONS)),
        reward=2 * rng.normal(size=(STEPS, STREAMS)),
        discount=discount,
        core_state=(),
        params_version=np.zeros(STREAMS, np.int32),
    )
    logits = rng.normal(size=(STEPS + 1, STREAMS, ACTIONS))
    return NetworkOutput(logits, rng.normal(size=(STEPS + 1, STREAMS))), trajectory


def piece(output, trajectory, start, stop):
    """Steps `start` to `stop`, with the observation behind them."""
    cut = {name: getattr(trajectory, name)[start:stop] for name in ("action", "behaviour_logits", "reward", "discount")}
    cut |= {name: getattr(trajectory, name)[start : stop + 1] for name in ("observation", "step_type")}
    return NetworkOutput(*(part[start : stop + 1] for part in output)), trajectory._replace(**cut)


def test_two_steps_by_hand():
    """Uniform policy over two actions, half of the behaviour's probability at step 0 and twice at step 1."""
    trajectory = Trajectory(
        observation=None,
        step_type=np.array([[FIRST], [MID], [MID]]),
        action=np.array([[0], [1]], np.int32),
        # Behaviour: the first action is sure (ρ = 1/2), then the second has 1/4 (ρ = 2, clipped to 1).
        behaviour_logits=np.array([[[0.0, -800.0]], [[math.log(3.0), 0.0]]]),
        reward=np.array([[1.0], [2.0]]),
        discount=np.array([[1.0], [1.0]]),
        core_state=(),
        params_version=np.zeros(1, np.int32),
    )
    output = NetworkOutput(np.zeros((3, 1, 2)), np.array([[0.5], [0.4], [1.0]]))
    hyperparameters = HYPERPARAMETERS | {"gamma": 0.5, "trace_lambda": 1.0, "alpha": 1.0}
    # δ1 = 2 + 0.5·1 - 0.4 = 2.1; v1 = 2.5; δ0 = ½ (1 + 0.5·0.4 - 0.5) = 0.35; v0 = 0.5 + 0.35 + 0.5·½·2.1 = 1.375
    # A0 = ½ (1 + 0.5·2.5 - 0.5) = 0.875; A1 = 2.1; -log π = log 2
    policy = math.log(2) * (0.875 + 2.1) / 2
    value = 0.5 * (0.875**2 + 2.1**2) / 2
    entropy = math.log(2)
    per_stream, parts = loss(hyperparameters, output, trajectory)
    np.testing.assert_allclose(per_stream, [0.7 * policy + 0.4 * value - 0.3 * entropy], rtol=1e-12)
    expected = {"policy": policy, "value": value, "entropy": entropy, "rho": 1.25}
    assert parts.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(parts[name], number, rtol=1e-12)
    np.testing.assert_allclose(losses.stream_score(output, trajectory), [-2 * math.log(2)], rtol=1e-12)


def test_reset_transitions_contribute_nothing():
    output, trajectory = experience()
    action, logits, reward = trajectory.action.copy(), trajectory.behaviour_logits.copy(), trajectory.reward.copy()
    action[3], logits[3], reward[3] = (action[3] + 1) % ACTIONS, 5.0 * logits[3], 100.0
    policy = output.logits.copy()
    policy[3] *= -3.0
    other_output = output._replace(logits=policy)
    other = trajectory._replace(action=action, behaviour_logits=logits, reward=reward)
    a, _ = loss(HYPERPARAMETERS, output, trajectory)
    b, _ = loss(HYPERPARAMETERS, other_output, other)
    np.testing.assert_array_equal(a, b)
    for score in (losses.stream_score, lambda o, t: losses.kl_to_anchor(o, np.zeros_like(policy), t)):
        np.testing.assert_array_equal(score(output, trajectory), score(other_output, other))
    real = trajectory._replace(step_type=np.full_like(trajectory.step_type, MID))
    assert not np.allclose(losses.stream_score(output, trajectory), losses.stream_score(output, real))


def test_loss_and_gradients_equal_those_of_the_separate_episodes():
    output, trajectory = experience()

    def total(hyperparameters, output):
        return STEPS * jnp.sum(loss(hyperparameters, output, trajectory)[0])

    def apart(hyperparameters, output):
        pieces = (piece(output, trajectory, *span) for span in ((0, 3), (4, 6)))
        return sum(t.reward.shape[0] * jnp.sum(loss(hyperparameters, o, t)[0]) for o, t in pieces)

    (a, whole), (b, split) = (
        jax.value_and_grad(f, argnums=(0, 1))(HYPERPARAMETERS, jax.tree.map(jnp.asarray, output))
        for f in (total, apart)
    )
    np.testing.assert_allclose(a, b, rtol=1e-12)
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_the_textbook():
    """In logits g_p (-A) ∇log π - g_e ∇H, in values -g_v (target - V): targets, advantages, ratios are constants."""
    output, trajectory = experience()
    real = (trajectory.step_type[:-1] != LAST).astype(float)
    policy = np.exp(output.logits[:-1]) / np.exp(output.logits[:-1]).sum(axis=-1, keepdims=True)
    behaviour = np.exp(trajectory.behaviour_logits) / np.exp(trajectory.behaviour_logits).sum(axis=-1, keepdims=True)
    chosen = np.eye(ACTIONS)[trajectory.action]
    targets = leaky_vtrace(
        output.value,
        trajectory.reward,
        0.9 * trajectory.discount,
        real * (policy * chosen).sum(axis=-1) / (behaviour * chosen).sum(axis=-1),
        trace_lambda=0.8,
        alpha=0.6,
        rho_clip=1.0,
    )
    entropy = -(policy * np.log(policy)).sum(axis=-1, keepdims=True)
    of_policy = -targets.advantage[..., None] * (chosen - policy)
    of_entropy = -policy * (np.log(policy) + entropy)
    by_logits = (0.7 * of_policy - 0.3 * of_entropy) * real[..., None] / STEPS
    by_value = -0.4 * (targets.value - output.value[:-1]) * real / STEPS
    gradient = jax.grad(lambda o: jnp.sum(loss(HYPERPARAMETERS, o, trajectory)[0]))(jax.tree.map(jnp.asarray, output))
    np.testing.assert_allclose(gradient.logits[:-1], by_logits, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient.value[:-1], by_value, rtol=1e-9, atol=1e-12)
    assert not np.any(gradient.logits[-1]) and not np.any(gradient.value[-1])


def test_exact_values_leave_no_advantage_and_no_value_loss():
    output, trajectory = experience()
    value = np.array(output.value)
    for t in reversed(range(STEPS)):
        if t != 3:
            value[t] = trajectory.reward[t] + 0.9 * trajectory.discount[t] * value[t + 1]
    _, parts = loss(HYPERPARAMETERS, output._replace(value=value), trajectory)
    assert abs(parts["policy"]) < 1e-12 and parts["value"] < 1e-12 and parts["entropy"] > 0.1


def test_hyperparameters_of_each_stream_are_those_of_all_when_alike():
    output, trajectory = experience()
    by_stream = {name: np.full(STREAMS, value) for name, value in HYPERPARAMETERS.items()}
    a, _ = loss(HYPERPARAMETERS, output, trajectory)
    b, _ = loss(by_stream, output, trajectory)
    np.testing.assert_allclose(a, b, rtol=1e-14)
    by_stream["gamma"][1] = 0.3
    c, _ = loss(by_stream, output, trajectory)
    assert c[0] == b[0] and c[1] != b[1]


def test_rewards_are_clipped_inside_the_loss_only():
    output, trajectory = experience()
    before = trajectory.reward.copy()
    clipped = trajectory._replace(reward=np.clip(before, -1.0, 1.0))
    assert (before != clipped.reward).any()
    a, _ = loss(HYPERPARAMETERS, output, trajectory, reward_clip=1.0)
    b, _ = loss(HYPERPARAMETERS, output, clipped)
    np.testing.assert_array_equal(a, b)
    assert np.all(a != loss(HYPERPARAMETERS, output, trajectory)[0])
    np.testing.assert_array_equal(trajectory.reward, before)


@pytest.mark.parametrize("name", ["policy_weight", "value_weight", "entropy_weight"])
def test_a_term_of_weight_zero_leaves_no_trace(name):
    """Loss and gradients are those of the others, even where the term itself is not a number."""
    output, trajectory = experience()
    rest = HYPERPARAMETERS | {name: 0.0}
    if name == "entropy_weight":  # an action that nobody takes is impossible
        trajectory = trajectory._replace(action=np.minimum(trajectory.action, 1))
        output = output._replace(logits=output.logits.copy())
        output.logits[..., 2] = -np.inf
    elif name == "value_weight":  # its square overflows; so would advantages, which are left out as well
        rest["policy_weight"] = 0.0
        output = output._replace(value=np.full_like(output.value, 1e200))
    else:
        trajectory = trajectory._replace(reward=np.full_like(trajectory.reward, 1e308))
        rest |= {"value_weight": 0.0, "gamma": 0.99, "trace_lambda": 1.0}

    def mean_loss(output):
        loss, parts = losses.actor_critic_loss(rest, output, trajectory, rho_clip=1.0, reward_clip=0.0)
        return jnp.mean(loss), parts

    (found, parts), gradient = jax.value_and_grad(mean_loss, has_aux=True)(output)
    if name == "entropy_weight":
        others = rest["policy_weight"] * parts["policy"] + rest["value_weight"] * parts["value"]
        assert np.isnan(parts["entropy"]) and np.isfinite(found)
        np.testing.assert_allclose(found, others, rtol=1e-12)
        assert np.all(np.isfinite(gradient.logits[..., :2])) and np.any(gradient.logits[..., :2])
        return
    log_policy = jax.nn.log_softmax(output.logits[:-1])
    entropy = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)
    real = trajectory.step_type[:-1] != LAST
    np.testing.assert_allclose(found, -rest["entropy_weight"] * jnp.mean(entropy * real), rtol=1e-12)
    assert not np.any(gradient.value) and np.all(np.isfinite(gradient.logits))


def test_kl_is_of_the_new_policy_to_the_anchor():
    _, trajectory = experience()
    trajectory = trajectory._replace(step_type=np.full_like(trajectory.step_type, MID))
    new, old = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    output = NetworkOutput(np.tile(np.log(new), (STEPS + 1, STREAMS, 1)), None)
    anchor = np.tile(np.log(old), (STEPS + 1, STREAMS, 1))
    np.testing.assert_allclose(
        losses.kl_to_anchor(output, anchor, trajectory), np.sum(new * np.log(new / old)), rtol=1e-12
    )

    def total(logits, anchor):
        return jnp.sum(losses.kl_to_anchor(NetworkOutput(logits, None), anchor, trajectory))

    at_anchor, of_anchor = jax.grad(total, argnums=(0, 1))(output.logits, output.logits)
    np.testing.assert_allclose(at_anchor, 0.0, atol=1e-15)
    assert not np.any(of_anchor)
    away, of_anchor = jax.grad(total, argnums=(0, 1))(output.logits, anchor)
    assert np.all(np.abs(away[:-1]) > 1e-3) and not np.any(of_anchor)  # the anchor is a constant


def test_reductions():
    _, trajectory = experience()
    assert losses.reduction_scale(trajectory, "sum") == STEPS * STREAMS
    assert losses.reduction_scale(trajectory, "mean") == 1.0
