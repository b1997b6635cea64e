"""Lives in the graph against the same life lived by the training command's own parts."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from actors.environments.make import environment_spec
from agents.types import VersionedParams, real_transitions
from configs.presets import preset
from configs.tree import ConfigError, override
from learner.window import outer_weights
from scripts.lives import Lives
from scripts.parts import make_actor_from, make_learner

SMALL = {"streams": 4, "unroll": 6, "window": 2, "network.hidden": (8,), "frames": 4_000}


def outside(config, seed, updates):
    """The life with `config`, batch after batch on the host; η after each update; rewards and returns of batches."""
    config = override(config, {"seed": seed})
    spec = environment_spec(config.game, config.environment)
    learner, actor = make_learner(config, spec), make_actor_from(config)(0, 0)
    state = learner.init(jax.random.fold_in(jax.random.key(seed), 0))
    published = [VersionedParams(0, state.inner.params)]
    meta, reward, returned = [], [], []
    for k in range(updates):
        trajectory = actor.unroll(published[max(k - int(config.lag), 0)]).trajectory
        state, _ = learner.step(state, trajectory)
        published.append(VersionedParams(state.inner_updates, state.inner.params))
        meta.append({name: float(value) for name, value in learner.meta_values(state).items()})
        real = real_transitions(trajectory.step_type)
        reward.append(float((trajectory.reward * real).sum() / max(real.sum(), 1)))
        returned.append(float(learner.agent.stream_return(trajectory).mean()))
    actor.close()
    return state, meta, reward, returned


@pytest.mark.parametrize(
    "settings",
    [
        {"game": "catch", "lag": "0"},
        {
            "game": "two_colors",
            "lag": "1",
            "window": 3,
            "correction": 0.5,
            "meta_gradient.objective": "all",
            "meta_gradient.diagnostics": 0,
        },
    ],
    ids=lambda settings: settings["game"] + settings["lag"] + settings.get("meta_gradient.objective", ""),
)
def test_a_life_in_the_graph_is_the_one_outside(settings):
    config = override(preset("smoke"), SMALL | {"correction": 0.01} | settings)
    lives, windows = Lives(config), 4
    state, records = lives.run(lives.start([3, 5]), windows)
    updates = 1 + windows * lives.learner.span
    weights = outer_weights(config.meta_gradient.objective, lives.learner.span)
    earned = lives.earned([3, 5])  # before any step of η acts, at lag 1 too
    for i, seed in enumerate((3, 5)):
        expected, meta, reward, returned = outside(config, seed, updates)
        np.testing.assert_allclose(records["reward"][i].reshape(-1), reward[1:], atol=1e-6)
        acted = returned[int(config.lag) :][: len(weights)]  # by θ^0 ... θ^K
        np.testing.assert_allclose(earned[i], weights[1:] @ acted[1:], atol=1e-5)
        for name in meta[-1]:
            of_windows = [m[name] for m in meta[lives.learner.span :: lives.learner.span]]
            np.testing.assert_allclose(records[f"meta/{name}"][i], of_windows, rtol=1e-4)
        own = jax.tree.map(lambda x, i=i: x[i], state.learner.inner.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), own, expected.inner.params)


@pytest.mark.parametrize("differentiation", ["reverse", "trace"])
def test_lives_with_different_corrections_in_one_program_are_those_apart(differentiation):
    own = {"game": "catch", "lag": "0", "meta_gradient.objective": "all", "meta_gradient.diagnostics": 0}
    own |= {"meta_gradient.differentiation": differentiation, "self_tuned.parameters": ("gamma",)}

    def vectors(correction, seeds, scales=None):
        lives = Lives(override(preset("smoke"), SMALL | own | {"correction": correction}), record_gradient=True)
        return np.asarray(lives.run(lives.start(seeds, None, scales), 4)[1]["meta_grad/vector"])

    together = vectors(2.0, [3, 3, 3], [0.0, 0.25, 1.0])
    for found, correction in zip(together, (0.0, 0.5, 2.0), strict=True):
        np.testing.assert_allclose(found, vectors(correction, [3])[0], rtol=2e-3)
    assert len({*together[:, -1].ravel()}) == 3


def test_shared_lives_follow_the_mean_of_their_meta_gradients():
    """With plain SGD on η, the first step of shared lives is the mean of the steps of separate ones."""
    config = override(
        preset("smoke"),
        SMALL
        | {
            "lag": "0",
            "window": 1,
            "correction": 0.0,
            "meta_optimizer.name": "sgd",
            "meta_optimizer.learning_rate": 1.0,
        },
    )
    values = {}
    for shared in (False, True):
        lives = Lives(config, shared=shared)
        state, _ = lives.run(lives.start([0, 1, 2]), 1)
        values[shared] = state.learner.meta.params
    for name, value in values[True].items():
        assert np.ptp(value) == 0
        np.testing.assert_allclose(value[0], values[False][name].mean(), rtol=1e-5)
    assert any(np.ptp(value) > 0 for value in values[False].values())


def test_lives_end_and_begin_anew_with_the_same_eta_and_another_task():
    config = override(preset("smoke"), SMALL | {"game": "grid", "lag": "0", "window": 1, "correction": 0.0})
    lives = Lives(config, shared=True, own_tasks=True, lifetime=3)
    state = lives.start([0, 1])
    tasks, updates = [], []
    for _ in range(4):
        tasks.append(np.asarray(state.actor[0].task.objects))
        before = jax.tree.map(np.asarray, state.learner.meta.params)
        state, records = lives.run(state, 1)
        updates.append(np.asarray(state.learner.inner_updates).tolist())
        moved = jax.tree.map(lambda a, b: np.any(a != b), before, state.learner.meta.params)
        assert any(jax.tree.leaves(moved))
    assert updates == [[2, 2], [3, 3], [1, 1], [2, 2]]
    assert np.array_equal(tasks[0], tasks[2]) and not np.array_equal(tasks[0], tasks[3])
    assert not np.array_equal(tasks[0][0], tasks[0][1])
    assert np.all(tasks[0] == tasks[0][:, :1])  # the streams of a life share its task
    assert records["meta_grad/norm"].shape == (2, 1)
    assert all(np.array_equal(leaf[0], leaf[1]) for leaf in jax.tree.leaves(state.learner.meta.params))
    staggered = Lives(config, shared=True, own_tasks=True, lifetime=3, staggered=True).start(range(12))
    assert set(np.asarray(staggered.learner.meta_updates).tolist()) == {0, 1, 2}
    assert set(np.asarray(staggered.learner.inner_updates).tolist()) == {1}


def test_mamls_lives_are_windows_from_eta():
    """Every life, on a task of its own, begins at the η that all share, which moves once a window."""
    settings = {"game": "catch", "agent": "maml", "lag": "0", "window": 1, "meta_gradient.objective": "next"}
    lives = Lives(override(preset("smoke"), SMALL | settings), shared=True, own_tasks=True)
    state, eta = lives.start([0, 1]), []
    for _ in range(2):
        eta.append(np.asarray(state.learner.meta.params["params"]["policy"]["w"]))
        state, records = lives.run(state, 1)
        np.testing.assert_array_equal(state.learner.inner_updates, [1, 1])
        start = jax.tree.map(np.asarray, (state.learner.tape[0].state.params, state.learner.meta.params["params"]))
        jax.tree.map(np.testing.assert_array_equal, *start)
    assert np.all(eta[0][0] == eta[0][1]) and np.all(eta[1][0] == eta[1][1]) and np.any(eta[0] != eta[1])
    assert np.all(records["meta_grad/correction_norm"] > 0)


@pytest.mark.parametrize("settings", [{"game": "atari:pong"}, {"lag": "free"}, {"actors": 2}])
def test_what_cannot_live_in_the_graph_is_refused(settings):
    network = {"network.torso": "impala_shallow"} if "game" in settings else {}
    with pytest.raises(ConfigError, match="cannot live in the graph"):
        Lives(override(preset("smoke"), {"correction": 0.0} | network | settings))


ON_DEVICES = """
import json, sys
import jax
from configs.presets import preset
from configs.tree import override
from scripts.lives import Lives
from tests.scripts.test_lives import SMALL

settings = {"game": "bandit", "agent": "bandit", "lag": "0", "correction": 1.0, "meta_optimizer.name": "sgd"}
config = override(preset("smoke"), SMALL | {"inner.reduction": "mean"} | settings)
lives = Lives(config, shared=True, own_tasks=True, lifetime=2)
state, records = lives.run(lives.start(range(6)), 3)
used = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)}
print(json.dumps([sorted(used), {name: value.tolist() for name, value in records.items()}]))
"""


@pytest.mark.slow
def test_lives_are_the_same_on_several_devices():
    """Six lives that share η: with four devices on two of them."""
    found = {}
    for count in (1, 4):
        flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        done = subprocess.run(
            [sys.executable, "-c", ON_DEVICES], env=os.environ | flags, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = json.loads(done.stdout.splitlines()[-1])
    assert [used for used, _ in found.values()] == [[1], [2]]
    assert found[1][1].keys() == found[4][1].keys() and "meta_grad/norm" in found[1][1]
    for name, value in found[1][1].items():
        np.testing.assert_allclose(found[4][1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
