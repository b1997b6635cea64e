"""The learner's book-keeping: windows, versions, skipped updates, saved states, devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import SelfTunedConfig
from learner.checkpoint import Checkpointer
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState
from learner.meta_gradients import base
from learner.window import Correction, outer_weights, score_coefficients
from tests.learner import problems


def live(learner, trajectories, state=None):
    """States and metrics after each batch."""
    state = learner.init(jax.random.key(1)) if state is None else state
    states, metrics = [], []
    for trajectory in trajectories:
        state, now = learner.step(state, trajectory)
        states.append(state)
        metrics.append(now)
    return states, metrics


def meta_gradient(metrics):
    return {name.removeprefix("meta_grad/of_"): float(value) for name, value in metrics.items() if "/of_" in name}


def assert_same(a, b):
    """Bit for bit, NaN equal to NaN."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(x, y, equal_nan=True), jax.tree_util.keystr(path)


@pytest.fixture
def small():
    """An agent that compiles quickly, with a core state: what matters here is when things happen."""
    agent = problems.smooth_agent()

    def unroll(params, trajectory):
        hidden, cell = trajectory.core_state
        return agent.unroll(params | {"b": params["b"] + hidden * cell}, trajectory)

    return agent._replace(
        unroll=unroll, initial_state=lambda streams: (jnp.zeros((streams, 3)), jnp.ones((streams, 3)))
    )


@pytest.mark.parametrize("objective", ["same", "all"])
@pytest.mark.parametrize("window", [1, 3])
def test_what_the_tape_keeps_is_known_before_there_is_any(small, window, objective):
    config = MetaGradientConfig(objective=objective)
    learner = problems.learner(small, window, meta_gradient=config, keep=True)
    batch = jax.tree.map(lambda x: np.float32(x) if x.dtype == np.float64 else x, problems.trajectory(small, 0, 0))
    size = learner.kept_bytes(jax.eval_shape(lambda: batch))
    states, _ = live(learner, [batch] * window)
    kept = [leaf for entry in states[-1].tape for leaf in jax.tree.leaves(entry.kept)]
    assert size == sum(leaf.nbytes for leaf in kept) > 0
    assert problems.learner(small, window, meta_gradient=config).kept_bytes(batch) == 0


@pytest.mark.usefixtures("float64")
def test_each_batch_moves_theta_once_and_eta_moves_once_a_window(small, window=2):
    """Against a replay in which batch K closes a window and then, with the new η, opens the next one."""
    config = problems.optimizer("adam")
    learner = problems.learner(small, window, optimizer=config, meta_optimizer=MetaOptimizerConfig(learning_rate=0.1))
    trajectories = [problems.trajectory(small, k, k) for k in range(2 * window + 2)]
    states, metrics = live(learner, trajectories)
    assert [state.meta_updates for state in states] == [0, 0, 1, 1, 2, 2]
    assert [len(state.tape) for state in states] == [1, 2, 1, 2, 1, 2]
    assert [bool(meta_gradient(now)) for now in metrics] == [False, False, True, False, True, False]
    update = jax.jit(problems.inner_update(small, config).__call__)
    params = small.init(jax.random.key(1))
    replayed = InnerState(params, jax.tree.map(jnp.zeros_like, {"mu": params, "nu": params}))
    meta = small.init_meta(jax.random.key(1))
    for k, (state, trajectory) in enumerate(zip(states, trajectories, strict=True)):
        if k and k % window == 0:
            assert all(np.any(state.meta.params[name] != value) for name, value in meta.items())
            meta = state.meta.params
        assert_same(state.meta.params, meta)  # still inside the window
        entry = state.tape[-1]
        assert int(entry.count) == k == state.inner_updates - 1
        assert_same(entry.trajectory.reward, jnp.asarray(trajectory.reward))
        replayed, _, _ = update(meta, replayed, trajectory, jnp.asarray(k, float))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), state.inner, replayed)


@pytest.mark.usefixtures("float64")
def test_scores_belong_to_the_versions_that_acted(small, window=3):
    """Free-running actors: streams of one batch acted by this version, the one before, or one from another window."""
    still = {"meta_optimizer": MetaOptimizerConfig(name="sgd", learning_rate=0.0)}
    either = problems.learner(small, window, 1.0, lags=(0, 1), **still)
    behind = problems.learner(small, window, 1.0, lags=(1,), **still)

    def correction(learner, *lags):
        """The meta-gradient, less what it is where no version that acted is in the window."""
        out = []
        for chosen in (lags, (None,) * 3):
            versions = [[-9 if lag is None else k - lag for lag in chosen] for k in range(window + 1)]
            batches = [
                problems.trajectory(small, k, 0)._replace(params_version=np.array(now, np.int32))
                for k, now in enumerate(versions)
            ]
            _, metrics = live(learner, batches)
            out.append(np.array(list(meta_gradient(metrics[-1]).values())))
            if set(chosen) == {None}:
                assert metrics[-1]["meta_grad/correction_norm"] == 0.0
        return out[0] - out[1]

    by_stream = [correction(either, 0, None, None), correction(either, None, 1, None)]
    assert all(np.abs(part).max() > 1e-3 for part in by_stream)
    np.testing.assert_allclose(correction(either, 0, 1, None), sum(by_stream), rtol=1e-9)
    np.testing.assert_allclose(correction(either, 1, 1, 1), correction(behind, 1, 1, 1), rtol=1e-9)
    assert np.abs(correction(either, 0, 0, 0) - correction(either, 1, 1, 1)).max() > 1e-3


def poisoned(trajectory):
    reward = np.array(trajectory.reward)
    reward[1, 2] = np.nan
    return trajectory._replace(reward=reward)


@pytest.mark.usefixtures("float64")
def test_bad_batches_are_skipped_and_the_window_goes_on(small, window=3, weight=0.7):
    config = problems.optimizer("adam")
    learner = problems.learner(
        small, window, weight, optimizer=config, meta_gradient=MetaGradientConfig(objective="next")
    )
    trajectories = [problems.trajectory(small, k, k) for k in range(3 * window + 1)]
    trajectories[1] = poisoned(trajectories[1])  # inside the first window
    trajectories[2 * window] = poisoned(trajectories[2 * window])  # scores the second
    states, metrics = live(learner, trajectories)

    assert_same(states[1].inner, states[0].inner)
    assert [state.inner_updates for state in states] == list(range(1, 3 * window + 2))
    assert [int(state.skipped.inner) for state in states] == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [int(state.skipped.inner_run) for state in states] == [0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert not np.any(metrics[0]["skipped/leaves"]) and np.all(metrics[1]["skipped/leaves"])
    assert learner.leaf_names == ["['b']", "['w']"]
    assert np.isfinite(states[-1].baseline.value) and states[1].baseline == states[0].baseline

    # The sweep over the first window is autodiff through it with the identity for the second update.
    update, correction = problems.inner_update(small, config), Correction(weight, 1.0, False, (0,))
    returns = jnp.stack([small.stream_return(t) for t in trajectories[: window + 1]])
    coefficients = score_coefficients(
        returns.at[1].set(0.0), jnp.stack([state.baseline.value for state in states])[jnp.array([0, 0, 1, 2])],
        outer_weights("next", window), correction,
    )  # fmt: skip

    def unrolled(meta):
        params = small.init(jax.random.key(1))
        state = start = InnerState(params, update.optimizer.init(params))
        total = 0.0
        for j in range(window):
            if j != 1:  # the skipped batch neither updates nor scores
                if j:
                    score = base.score(
                        small, small.unroll(state.params, trajectories[j]), trajectories[j], jnp.asarray(j, float)
                    )
                    total -= jnp.vdot(coefficients[j], score)
                state, _, _ = update(meta, state, trajectories[j], jnp.asarray(j, float))
        anchor = base.anchor_logits(small, start.params, trajectories[window])
        return total + jnp.mean(base.outer_loss(small, state.params, trajectories[window], anchor)[0])

    exact = jax.jit(jax.grad(unrolled))(small.init_meta(jax.random.key(1)))
    for name, value in meta_gradient(metrics[window]).items():
        np.testing.assert_allclose(value, exact[name], rtol=1e-9, atol=1e-15)
    assert not metrics[window]["skipped/meta"]

    # η's step at the second window's end is skipped, and only that one.
    assert metrics[2 * window]["skipped/meta"] and not metrics[3 * window]["skipped/meta"]
    assert_same(states[2 * window].meta, states[2 * window - 1].meta)
    assert [(int(s.skipped.meta), int(s.skipped.meta_run)) for s in states[2 * window - 1 :: window]] == [
        (0, 0),
        (1, 1),
    ]
    last = states[3 * window]
    assert (int(last.skipped.meta), int(last.skipped.meta_run), last.meta_updates) == (1, 0, 3)
    assert all(np.any(last.meta.params[n] != v) for n, v in states[2 * window].meta.params.items())


def test_a_gradient_that_cannot_be_squared_is_skipped(small):
    """In Adam's second moment its square would be infinite for the rest of the life."""
    learner = problems.learner(small, 1, 0.0)
    state = learner.init(jax.random.key(0))
    huge = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e25), state.meta.params)
    meta, skipped, was, _ = learner._meta_step(state.meta, huge, state.skipped)
    assert was and int(skipped.meta) == 1
    assert_same(meta, state.meta)
    large = jax.tree.map(lambda leaf: leaf * 1e-10, huge)
    meta, _, was, _ = learner._meta_step(state.meta, large, state.skipped)
    assert not was and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(meta))


@pytest.mark.usefixtures("float64")
def test_trace_gets_over_a_bad_batch(small, window=2):
    learner = problems.learner(small, window, 0.7, meta_gradient=MetaGradientConfig(differentiation="trace"))
    trajectories = [problems.trajectory(small, k, k) for k in range(4 * window + 1)]
    trajectories[0] = poisoned(trajectories[0])  # a life's first return, with no baseline yet
    blind = np.array(trajectories[3].observation)
    blind[2] = np.nan
    trajectories[3] = trajectories[3]._replace(observation=blind)
    states, metrics = live(learner, trajectories)
    assert int(states[-1].skipped.inner) == 2 and int(states[-1].skipped.meta_run) == 0
    assert np.isfinite(list(meta_gradient(metrics[-1]).values())).all()
    assert np.isfinite(metrics[-1]["meta_grad/correction_norm"])


@pytest.mark.parametrize("differentiation", ["reverse", "kept", "trace", "history"])
def test_restored_life_goes_on_bit_for_bit(small, tmp_path, differentiation):
    """Saved in the middle of a window, with core states on the tape, linearisations, or a context of past rewards."""
    keep, objective = differentiation == "kept", "all" if differentiation == "kept" else "same"
    if differentiation == "history":
        small = problems.agent(self_tuned=SelfTunedConfig(form="history", hidden=(3,), history=4))
    differentiation = "trace" if differentiation == "trace" else "reverse"
    learner = problems.learner(
        small,
        3,
        0.1,
        optimizer=problems.optimizer("adam"),
        meta_gradient=MetaGradientConfig(differentiation=differentiation, objective=objective),
        keep=keep,
    )
    before, after = ([problems.trajectory(small, k, k) for k in span] for span in (range(5), range(5, 9)))
    states, _ = live(learner, before)
    assert len(states[-1].tape) == 2
    checkpointer = Checkpointer(tmp_path)
    assert checkpointer.save(5, {"learner": learner.saved(states[-1])}, blocking=True)
    step, plain = checkpointer.restore()
    checkpointer.close()
    restored = learner.restore(plain["learner"])
    assert step == restored.inner_updates == 5
    assert_same(restored, states[-1])
    whole, parts = live(learner, after, states[-1]), live(learner, after, restored)
    assert_same(parts, whole)
    assert any("meta_grad/norm" in now for now in whole[1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("differentiation", ["reverse", "trace"])
def test_what_eta_is_charged_for_joins_the_meta_gradient(small, differentiation, window=2):
    """Its gradient at the window's end, on the batch that ends it; θ's share of it is none of η's business."""
    charged = small._replace(
        meta_penalty=lambda meta, output, trajectory: jnp.mean(meta["weight"] ** 2 * output.value[:-1] ** 2, axis=0)
    )
    trajectories = [problems.trajectory(small, k, k) for k in range(window + 1)]
    settings = {"meta_gradient": MetaGradientConfig(differentiation=differentiation)}
    (_, free), (states, dear) = (
        live(problems.learner(agent, window, **settings), trajectories) for agent in (small, charged)
    )
    end, weight = states[window - 1].inner.params, small.init_meta(jax.random.key(1))["weight"]
    square = jnp.mean(small.unroll(end, trajectories[-1]).value[:-1] ** 2)
    before, after = meta_gradient(free[-1]), meta_gradient(dear[-1])
    np.testing.assert_allclose(dear[-1]["outer_loss/penalty"], weight**2 * square, rtol=1e-12)
    np.testing.assert_allclose(after["weight"] - before["weight"], 2 * weight * square, rtol=1e-9)
    assert after["scale"] == before["scale"]
    np.testing.assert_allclose(dear[-1]["meta_grad/norm"], np.linalg.norm(list(after.values())), rtol=1e-9)


def test_agent_without_meta_parameters_only_learns():
    agent = problems.agent("impala", hidden=())
    states, metrics = live(problems.learner(agent, 2), [problems.trajectory(agent, k, k) for k in range(3)])
    assert all(state.tape == () and state.meta_updates == 0 for state in states)
    assert not any(name.startswith("meta_grad") for now in metrics for name in now)
    assert np.any(states[0].inner.params["policy"]["w"] != states[2].inner.params["policy"]["w"])


MANY_DEVICES = """
import sys

import jax
import numpy as np

from learner.checkpoint import Checkpointer
from learner.mesh import Mesh
from tests.learner import problems

agent, lines = problems.agent(hidden=()), {1: [], 4: []}
batches = [problems.trajectory(agent, k, k, streams=4) for k in range(4)]
for devices in lines:
    learner = problems.learner(agent, 2, 0.5, streams=4, mesh=Mesh(jax.local_devices()[:devices]))
    state = learner.init(jax.random.key(1))
    for batch in batches:
        before, (state, metrics) = state, learner.step(state, batch)
        lines[devices].append(metrics)
    assert len(state.inner.params["policy"]["w"].sharding.device_set) == devices
    assert len(state.tape[-1].trajectory.reward.sharding.device_set) == devices

checkpointer = Checkpointer(sys.argv[1])
checkpointer.save(3, before, blocking=True)
restored = learner.restore(checkpointer.restore()[1])
checkpointer.close()
assert len(restored.tape) == 1
for a, b in zip(*map(jax.tree.leaves, (learner.step(restored, batches[-1]), (state, metrics))), strict=True):
    assert np.array_equal(a, b, equal_nan=True)

for one, four in zip(lines[1], lines[4], strict=True):
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=2e-4, atol=1e-6, err_msg=name)
assert lines[1][2]["meta_grad/correction_norm"] > 0.01 * lines[1][2]["meta_grad/direct_norm"]
"""


@pytest.mark.slow
def test_four_devices_give_what_one_gives(tmp_path):
    """In a process of its own: the number of devices is decided when JAX starts. A restored life too, bit for bit."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", MANY_DEVICES, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


HELD_STILL = """
import jax
import numpy as np

from agents.config import InnerLossConfig
from learner.config import MetaOptimizerConfig
from tests.learner import problems
from tests.learner.test_learner import assert_same, live

stac = problems.agent("stac")
values = {name: float(value) for name, value in stac.meta_values(stac.init_meta(jax.random.key(1))).items()}
impala = problems.agent("impala", inner=InnerLossConfig(**values))
settings = {"optimizer": problems.optimizer("rmsprop"), "meta_optimizer": MetaOptimizerConfig(learning_rate=0.0)}
batches = [
    jax.tree.map(lambda x: np.float32(x) if x.dtype == np.float64 else x, problems.trajectory(stac, k, k))
    for k in range(5)
]

theirs, _ = live(problems.learner(impala, 2, **settings), batches)
assert theirs[-1].meta_updates == 0
for keep in (False, True):
    ours, _ = live(problems.learner(stac, 2, **settings, keep=keep), batches)
    assert ours[-1].meta_updates == 2
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one.inner, other.inner)
"""


@pytest.mark.slow
def test_held_still_stac_lives_impalas_life_bit_for_bit():
    """η frozen by a learning rate of 0 at what IMPALA has fixed: the same θ after every update.

    In a process of its own, compiled as users' programs are: two programs that do the same owe it to the compiler
    that they do it in the same order.
    """
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # of conftest.py
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run([sys.executable, "-c", HELD_STILL], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
