"""Whether linearisations are kept: by the memory that there is."""

import pytest

from actors.environments.make import environment_spec
from actors.unroll import trajectory_shapes
from configs.presets import preset
from configs.tree import override
from scripts.parts import make_fitting_learner


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
