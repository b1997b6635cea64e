"""Every agent as the learner meets it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import (
    AgentSettings,
    BanditConfig,
    InnerLossConfig,
    IntrinsicConfig,
    LPGConfig,
    MetaInitConfig,
    NetworkConfig,
    OuterLossConfig,
    SelfTunedConfig,
)
from agents.make import agent_names, make_agent
from agents.rules import save_rule
from agents.types import EnvironmentSpec, Trajectory

SPEC = EnvironmentSpec("toy", (3,), np.float32, num_actions=2, frame_stack=1, frames_per_step=1)
STEPS, STREAMS = 4, 2
OUTER = OuterLossConfig()
START = MetaInitConfig(1.0, 0.5, 0.2, 0.3, -0.4, 0.6)


def make(name, inner=None, outer=OUTER, **groups):
    inner = inner or InnerLossConfig(auxiliary_heads=2 if name == "stacx" else 0)
    settings = AgentSettings(NetworkConfig("mlp", (4,)), inner, outer, START, **groups)
    return make_agent(name, SPEC, settings)


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


with_gradient = jax.jit(jax.value_and_grad(inner_loss, argnums=2), static_argnums=0)


@pytest.mark.parametrize("name", ["stac", "mgrl"])
def test_held_still_a_self_tuning_agent_is_impala_bit_for_bit(name, trajectory, params):
    agent = make(name)
    values = {name: float(value) for name, value in agent.meta_values(agent.init_meta(jax.random.key(1))).items()}
    impala = make("impala", InnerLossConfig(**values))
    a, b = (
        jax.value_and_grad(inner_loss, argnums=2)(x, x.init_meta(jax.random.key(1)), params, trajectory)
        for x in (agent, impala)
    )
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_agent_is_found_by_its_file():
    assert set(agent_names()) >= {"impala", "mgrl", "stac", "stacx", "lirpg", "lpg"}
    assert not {"make", "types", "actor_critic"} & set(agent_names())


@pytest.mark.parametrize("name", [name for name in agent_names() if name != "bandit"])
def test_everything_learns_and_no_input_is_changed(name, trajectory):
    """Each leaf of θ gets an inner gradient, each leaf of η a meta-gradient through one plain step."""
    agent = make(name)
    meta, start = agent.init_meta(jax.random.key(1)), agent.init(jax.random.key(0))
    params = start
    before = jax.tree.map(np.array, (meta, params, trajectory))

    def after_a_step(meta):
        params = meta["params"] if agent.starts_from_meta else start
        gradient = jax.grad(inner_loss, argnums=2)(agent, meta, params, trajectory)
        new = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
        anchor = agent.unroll(params, trajectory).logits
        return jnp.mean(agent.outer_loss(agent.unroll(new, trajectory), trajectory, anchor)[0]), gradient

    meta_gradient, gradient = jax.jit(jax.grad(after_a_step, has_aux=True))(meta)
    assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert jax.tree.structure(meta_gradient) == jax.tree.structure(meta)
    assert all(np.max(np.abs(leaf)) > 1e-7 for leaf in jax.tree.leaves(meta_gradient))
    jax.tree.map(np.testing.assert_array_equal, before, (meta, params, trajectory))


def test_auxiliary_heads_of_no_weight_leave_stac(trajectory):
    """STACX whose auxiliary losses weigh nothing: STAC's loss, and STAC's gradient in all that STAC has."""
    stac, stacx = make("stac"), make("stacx")
    stac_params, params = stac.init(jax.random.key(0)), stacx.init(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, stac_params, {name: params[name] for name in stac_params}))
    meta = stacx.init_meta(jax.random.key(1))
    assert len(meta) == 3 * len(stac.init_meta(jax.random.key(1)))
    off = {name: -jnp.inf if name[:-2].endswith("_weight") else value for name, value in meta.items()}
    own = {name: value for name, value in meta.items() if name[-1] not in "12"}
    loss, gradient = with_gradient(stacx, off, params, trajectory)
    expected, expected_gradient = with_gradient(stac, own, stac_params, trajectory)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for module, leaves in gradient.items():
        for name, leaf in leaves.items():
            reference = expected_gradient[module][name] if module in expected_gradient else np.zeros_like(leaf)
            np.testing.assert_allclose(leaf, reference, rtol=1e-5, atol=1e-6)
    assert np.any(with_gradient(stacx, meta, params, trajectory)[1]["auxiliary_value"]["w"])


@pytest.mark.parametrize("form", ["state", "history"])
def test_a_network_of_hyperparameters_starts_as_the_scalars_do(form, trajectory):
    scalar = make("stac")
    agent = make("stac", self_tuned=SelfTunedConfig(form=form, hidden=(5,)))
    trajectory = trajectory._replace(context=np.arange(10.0) if form == "history" else ())
    params = scalar.init(jax.random.key(0))
    losses = [
        x.inner_loss(x.init_meta(jax.random.key(1)), x.unroll(params, trajectory), trajectory) for x in (agent, scalar)
    ]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-6)
    values = scalar.meta_values(scalar.init_meta(jax.random.key(1)))
    assert {name for name in losses[0][1] if "/" in name} == {f"meta/{name}" for name in values}
    for name, value in values.items():
        np.testing.assert_allclose(losses[0][1][f"meta/{name}"], value, rtol=1e-6)


def test_history_holds_the_mean_rewards_of_real_steps(trajectory):
    agent = make("stac", self_tuned=SelfTunedConfig(form="history", history=3))
    context = agent.init_context()
    for _ in range(2):
        context = agent.next_context(context, trajectory)
    real = trajectory.step_type[:-1] != 2
    np.testing.assert_allclose(context, [0.0, *2 * [trajectory.reward[real].mean()]], rtol=1e-6)


def test_a_learned_rule_sees_only_its_own_episode(trajectory):
    """Stream 0 ends at step 2: what LPG's rule says of its steps 0 and 1 does not depend on what follows."""
    agent = make("lpg", lpg=LPGConfig(predictions=4, hidden=3, embedding=2))
    meta, params = agent.init_meta(jax.random.key(1)), agent.init(jax.random.key(0))
    reward = trajectory.reward.copy()
    reward[3] = -0.2  # inside the clip
    other = trajectory._replace(reward=reward)

    def by_step(trajectory):
        """d loss / d log-probability of each step's action: the rule's direction."""

        def loss(shift):
            output = agent.unroll(params, trajectory)
            action = jax.nn.one_hot(trajectory.action, 2)
            logits = output.logits.at[:-1].add(shift[..., None] * action)
            return jnp.sum(agent.inner_loss(meta, output._replace(logits=logits), trajectory)[0])

        return jax.grad(loss)(jnp.zeros((STEPS, STREAMS)))

    before, after = by_step(trajectory), by_step(other)
    np.testing.assert_array_equal(before[:2, 0], after[:2, 0])
    assert before[2, 0] == 0  # the reset transition
    assert np.all(before[:2, 1] != after[:2, 1])


def test_a_learned_rules_predictions_of_no_weight_leave_no_trace(trajectory):
    """Nothing moves the predictions' own head then, neither the inner loss nor the outer one."""
    weights = LPGConfig(predictions=4, hidden=3, embedding=2, prediction_weight=0.0, prediction_entropy=0.0)
    off, on = make("lpg", lpg=weights), make("lpg", lpg=LPGConfig(predictions=4, hidden=3, embedding=2))
    meta, params = on.init_meta(jax.random.key(1)), on.init(jax.random.key(0))

    def pulls(agent):
        anchor = agent.unroll(params, trajectory).logits
        outer = jax.grad(lambda p: jnp.mean(agent.outer_loss(agent.unroll(p, trajectory), trajectory, anchor)[0]))
        inner = jax.grad(inner_loss, argnums=2)(agent, meta, params, trajectory)
        return [np.any(gradient["prediction"]["w"]) for gradient in (inner, outer(params))]

    assert pulls(on) == [True, True] and pulls(off) == [False, False]


def test_a_rule_from_a_file_is_the_rule_with_nothing_left_to_tune(trajectory, tmp_path):
    sizes = {"predictions": 4, "hidden": 3, "embedding": 2}
    learning = make("lpg", lpg=LPGConfig(**sizes))
    meta, params = learning.init_meta(jax.random.key(1)), learning.init(jax.random.key(0))
    save_rule(tmp_path / "rule.npz", meta)
    frozen = make("lpg", lpg=LPGConfig(rule=str(tmp_path / "rule.npz")))  # its sizes come with it
    assert frozen.init_meta(jax.random.key(1)) == {}
    losses = [inner_loss(x, m, params, trajectory) for x, m in ((learning, meta), (frozen, {}))]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_intrinsic_reward_reaches_the_inner_loss_only(trajectory):
    """At weight 0 LIRPG's inner loss is IMPALA's (with a second critic); its outer loss never sees the reward."""
    outer = OuterLossConfig(separate_critic=True)
    off, on = (make("lirpg", outer=outer, intrinsic=IntrinsicConfig(weight)) for weight in (0.0, 0.5))
    impala = make("impala", outer=outer)
    meta, params = on.init_meta(jax.random.key(1)), on.init(jax.random.key(0))
    output = on.unroll(params, trajectory)
    plain = impala.inner_loss({}, output, trajectory)[0]
    np.testing.assert_array_equal(off.inner_loss(meta, output, trajectory)[0], plain)
    assert not np.allclose(on.inner_loss(meta, output, trajectory)[0], plain, rtol=1e-3)
    outer_losses = [x.outer_loss(output, trajectory, output.logits)[0] for x in (on, impala)]
    np.testing.assert_array_equal(*outer_losses)


def test_the_games_reward_of_no_weight_leaves_the_inner_loss_no_trace(trajectory):
    """LIRPG's policy and inner value learn from η alone then; the outer loss and its critic see the game as ever."""
    outer = OuterLossConfig(separate_critic=True)
    off, on = (make("lirpg", outer=outer, intrinsic=IntrinsicConfig(0.5, weight)) for weight in (0.0, 1.0))
    meta, params = on.init_meta(jax.random.key(1)), on.init(jax.random.key(0))
    output = on.unroll(params, trajectory)
    without = trajectory._replace(reward=np.zeros_like(trajectory.reward))

    def pulls(agent, trajectory):
        """The inner loss's gradient in the network's output, and how that of logits and values bends by η."""

        def gradient(meta):
            return jax.grad(lambda output: jnp.sum(agent.inner_loss(meta, output, trajectory)[0]))(output)

        return gradient(meta), jax.jacobian(lambda meta: gradient(meta)[:2])(meta)

    (pull, bent), (expected, expected_bent) = pulls(off, trajectory), pulls(off, without)
    with_game, _ = pulls(on, trajectory)
    jax.tree.map(np.testing.assert_array_equal, (pull[:2], bent), (expected[:2], expected_bent))
    assert all(np.any(leaf) for leaf in jax.tree.leaves((pull[:2], bent)))
    assert not np.allclose(pull.logits, with_game.logits, rtol=1e-3)
    np.testing.assert_array_equal(pull.heads["outer_value"], with_game.heads["outer_value"])
    assert not np.allclose(pull.heads["outer_value"], expected.heads["outer_value"], rtol=1e-3)
    np.testing.assert_array_equal(*(agent.outer_loss(output, trajectory, output.logits)[0] for agent in (off, on)))
    np.testing.assert_array_equal(*(agent.stream_return(trajectory) for agent in (off, on)))


@pytest.mark.parametrize("name", [name for name in agent_names() if name != "bandit"])  # whose losses are means
def test_losses_are_sums_or_means_over_the_batch_and_the_agent_says_which(name, trajectory):
    heads = 2 if name == "stacx" else 0
    both = [make(name, InnerLossConfig(auxiliary_heads=heads, reduction=reduction)) for reduction in ("sum", "mean")]
    meta, params = both[0].init_meta(jax.random.key(1)), both[0].init(jax.random.key(0))
    output = both[0].unroll(params, trajectory)
    pairs = [
        [agent.inner_loss(meta, output, trajectory)[0] for agent in both],
        [agent.outer_loss(output, trajectory, 0 * output.logits)[0] for agent in both],
        [agent.stream_return(trajectory) for agent in both],
    ]
    for total, mean in pairs:
        assert total.shape == mean.shape == (STREAMS,)
        np.testing.assert_allclose(total, STEPS * STREAMS * mean, rtol=1e-6)
    assert [agent.loss_scale(trajectory) for agent in both] == [STEPS * STREAMS, 1]


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
    # What another policy would have earned: each reward by the ratios of the real actions up to it.
    logits = np.random.default_rng(1).normal(size=(STEPS + 1, STREAMS, 2)).astype(np.float32)
    ratio = [
        np.take_along_axis(policy / policy.sum(axis=-1, keepdims=True), trajectory.action[..., None], axis=-1)[..., 0]
        for policy in map(np.exp, (logits[:-1], trajectory.behaviour_logits))
    ]
    real = trajectory.step_type[:-1] != 2
    assert not real.all()
    reach = np.cumprod(np.where(real, ratio[0] / ratio[1], 1.0), axis=0)
    found = agent.stream_return(trajectory, logits)
    np.testing.assert_allclose(found, 0.5 * (reach * reward).mean(axis=0), rtol=1e-5)


def test_bandit_learner_uses_its_early_rate_and_then_its_late_one(trajectory):
    """Reinforce by hand: the gradient is -softplus(η_i) mean(r (1_a - π))."""
    agent = make("bandit", InnerLossConfig(reward_clip=0.0), bandit=BanditConfig(early=0.3, late=-0.2, early_updates=2))
    meta, params = agent.init_meta(jax.random.key(1)), {"logits": jnp.array([0.5, -0.1])}
    one_hot = jax.nn.one_hot(trajectory.action, 2)
    reinforce = (trajectory.reward[..., None] * (one_hot - jax.nn.softmax(params["logits"]))).mean(axis=(0, 1))
    context, gradients = agent.init_context(), []
    for _ in range(3):
        context = agent.next_context(context, trajectory)
        gradients.append(jax.grad(inner_loss, argnums=2)(agent, meta, params, trajectory._replace(context=context)))
    for gradient, raw in zip(gradients, (0.3, 0.3, -0.2), strict=True):
        np.testing.assert_allclose(gradient["logits"], -jax.nn.softplus(raw) * reinforce, rtol=1e-5)
