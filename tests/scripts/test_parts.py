"""Whole lives of the parts that the training command puts together, and whether linearisations are kept in one."""

import re

import jax
import numpy as np
import pytest

from actors.environments.make import environment_spec
from actors.unroll import trajectory_shapes
from agents.types import VersionedParams
from configs.presets import preset
from configs.tree import override
from scripts.parts import life_too_short, make_actor_from, make_fitting_learner, make_learner


def live(config, updates=14):
    """A life at lag 0: the learner, its last state, and the loss of every batch."""
    learner = make_learner(config, environment_spec(config.game, config.environment))
    actor, losses = make_actor_from(config)(0, 0), []
    state = learner.init(jax.random.key(0))
    for version in range(updates):
        trajectory = actor.unroll(VersionedParams(version, state.inner.params)).trajectory
        state, metrics = learner.step(state, trajectory)
        losses.append(float(metrics["loss/total"]))
    actor.close()
    return learner, state, losses


@pytest.mark.parametrize("agent", ["stac", "mgrl"])
@pytest.mark.parametrize(
    "window, linearization, objective", [(1, "keep", "same"), (3, "keep", "next"), (3, "rebuild", "all")]
)
def test_with_eta_at_rest_a_whole_life_is_impalas_bit_for_bit(agent, window, linearization, objective):
    small = {"game": "catch", "lag": "0", "streams": 4, "unroll": 6, "network.torso": "mlp", "network.hidden": (8,)}
    settings = small | {
        "window": window,
        "meta_gradient.linearization": linearization,
        "meta_gradient.objective": objective,
        "meta_optimizer.learning_rate": 0.0,
    }
    learner, state, losses = live(override(preset(f"atari_{agent}"), settings))
    values = {f"inner.{name}": float(value) for name, value in learner.meta_values(state).items()}
    assert state.meta_updates == 13 // window and len(values) == {"stac": 6, "mgrl": 2}[agent]
    _, other, others_losses = live(override(preset("atari_impala"), small | values))
    assert losses == others_losses
    jax.tree.map(np.testing.assert_array_equal, state.inner, other.inner)


@pytest.mark.parametrize("choice, free, kept", [("auto", 1e12, True), ("auto", 1e6, False), ("keep", 1e6, True)])
def test_linearisations_are_kept_where_they_are_a_small_part_of_the_memory(monkeypatch, choice, free, kept):
    monkeypatch.setattr("learner.mesh.free_bytes", lambda: free)
    config = override(preset("smoke"), {"meta_gradient.linearization": choice})
    spec = environment_spec(config.game, config.environment)
    learner, said = make_fitting_learner(config, spec)
    batch = trajectory_shapes(learner.agent, spec, config.unroll, config.streams)
    assert (learner.kept_bytes(batch) > 0) == kept and ("keeps" if kept else "rebuilds") in said
    one_update = make_fitting_learner(override(config, {"window": 1, "correction": 0.0}), spec)[1]
    assert one_update and one_update != said  # it takes less


@pytest.mark.parametrize(
    "choice, free, reason",
    [
        ("auto", 1e6, "more than 25% of the 1 MB that are free; --meta-gradient.linearization keep "),
        ("auto", 1e12, "and on a CPU more than 0.5 GB is slower; --meta-gradient.linearization keep "),
        ("rebuild", 1e12, "of 1,000 GB that are free"),
    ],
)
def test_why_linearisations_are_not_kept_is_told(monkeypatch, choice, free, reason):
    monkeypatch.setattr("learner.mesh.free_bytes", lambda: free)
    settings = {"window": 2, "correction": 0.0, "network.hidden": (60_000,), "meta_gradient.linearization": choice}
    config = override(preset("smoke"), settings)
    said = make_fitting_learner(config, environment_spec(config.game, config.environment))[1]
    assert re.match(r"the sweep rebuilds linearisations: kept, they would take [\d.]+ GB a window, ", said)
    assert reason in said and "\n" not in said


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"window": 31}, ""),
        ({"window": 32}, "η will not move: the life has about 32 updates, the window 32 (--window 32)"),
        ({"frames": 600}, "η will not move: the life has about 1 update, the window 4 (--window 4)"),
        ({"window": 32, "agent": "impala", "correction": 0.0}, ""),
        (
            {"window": 30, "correction": 0.0, "meta_gradient.objective": "bootstrap", "bootstrap.updates": 3},
            "η will not move: the life has about 32 updates, the window 32 (K + L - 1 of --window 30 and"
            " --bootstrap.updates 3)",
        ),
    ],
)
def test_a_life_that_ends_before_its_first_window_is_told(settings, said):
    config = override(preset("smoke"), {"frames": 20_000} | settings)
    spec = environment_spec(config.game, config.environment)
    assert life_too_short(config, spec, make_learner(config, spec)) == said


@pytest.mark.parametrize("window, network, kept", [(2, 64, True), (2, 60_000, False), (1, 60_000, True)])
def test_on_a_cpu_several_updates_are_kept_where_they_are_small(monkeypatch, window, network, kept):
    monkeypatch.setattr("learner.mesh.free_bytes", lambda: 1e12)
    settings = {"window": window, "correction": 0.0, "network.hidden": (network,)}
    config = override(preset("smoke"), settings)
    said = make_fitting_learner(config, environment_spec(config.game, config.environment))[1]
    assert ("keeps" if kept else "rebuilds") in said


def test_nothing_is_kept_where_nothing_is_swept():
    config = preset("atari_impala")
    assert make_fitting_learner(config, environment_spec(config.game, config.environment))[1] == ""
