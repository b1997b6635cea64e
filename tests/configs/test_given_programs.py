"""What is refused as given in vain is what games and programs do not depend on."""

import jax
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval

from actors.config import EnvironmentConfig
from actors.environments.make import JAX_GAMES, environment_spec, make_jax_environment
from actors.unroll import trajectory_shapes
from agents.networks_meta import rule_network
from agents.rules import save_rule
from configs.experiment import ExperimentConfig
from configs.given import check_given
from configs.tree import ConfigError, choices, is_tuple, leaves, override
from learner.mesh import NoMesh
from scripts.parts import make_learner


def takes(config, path):
    try:
        check_given(config, [path])
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("game", JAX_GAMES)
def test_a_games_settings_are_those_that_it_is_made_of(game):
    asked = set()

    class Asked(EnvironmentConfig):
        def __getattribute__(self, name):
            asked.add(name)
            return super().__getattribute__(name)

    make_jax_environment(game, Asked())
    config = override(ExperimentConfig(), {"game": game, "network.torso": "mlp"})
    for setting in leaves(EnvironmentConfig(), "environment."):
        assert takes(config, setting.path) == (setting.path.removeprefix("environment.") in asked), setting.path


TINY = {"game": "catch", "network.torso": "mlp", "network.hidden": (3,), "streams": 2, "unroll": 3, "lag": "0"}
TINY |= {"window": 2, "meta_gradient.objective": "next", "lpg.hidden": 2, "lpg.embedding": 2, "lpg.predictions": 3}
# Written down otherwise, to the same values: these are about second derivatives.
SAME_VALUES = ("inner.surrogate_decay", "optimizer.differentiate_second_moment")


def program(config):
    """What a life of a few batches does, as text: all that its parameters, η and its log lines depend on."""
    spec = environment_spec(config.game, config.environment)
    learner = make_learner(config, spec, mesh=NoMesh())
    batch = trajectory_shapes(learner.agent, spec, config.unroll, config.streams)

    def life(key, batches):
        state, logs = learner.init(key), []
        for batch in batches:
            state, metrics = learner.step(state, batch)
            logs.append(metrics)
        return state.inner, state.meta.params, learner.meta_values(state), logs

    traced = jax.make_jaxpr(life)(jax.random.key(0), 4 * [batch])
    used, _ = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    return str(used), [np.asarray(constant).tolist() for constant in (*traced.consts, *constants(used))]


def constants(jaxpr):
    """Those of the programs inside a program, which its text does not show."""
    for equation in jaxpr.eqns:
        for part in jax.tree.leaves(equation.params):
            if isinstance(part, ClosedJaxpr):
                yield from part.consts
                yield from constants(part.jaxpr)


def another(setting):
    """Another value of a setting, None where there is no telling."""
    if is_tuple(setting.type):
        return (2,) if setting.type == tuple[int, ...] else None
    if isinstance(setting.value, str):
        return next((name for name in choices(setting.type) if name != setting.value), None)
    if isinstance(setting.value, bool | int):
        return not setting.value if isinstance(setting.value, bool) else setting.value + 1
    return setting.value / 2 or 0.5


@pytest.mark.parametrize(
    "values",
    [
        {"agent": "impala"},
        {"agent": "impala", "outer.separate_critic": True, "optimizer.name": "sgd", "network.torso": "table"},
        {"agent": "mgrl", "correction": 0.1, "optimizer.name": "adam"},
        {"agent": "stac", "meta_gradient.differentiation": "trace", "meta_optimizer.name": "rmsprop"},
        {"agent": "stac", "self_tuned.parameters": ("gamma", "value_weight"), "outer.separate_critic": True},
        {"agent": "lirpg", "outer.separate_critic": True, "meta_optimizer.name": "sgd"},
        {"agent": "lpg"},
        {"agent": "lpg", "lpg.rule": "rule.npz"},
        {"agent": "bandit", "game": "bandit", "correction": 0.1, "meta_gradient.baseline": "none"},
    ],
    ids=str,
)
def test_what_is_refused_changes_nothing(values, tmp_path, monkeypatch):
    """All that is refused, at once: the learner's program stays what it is."""
    if "lpg.rule" in values:
        monkeypatch.chdir(tmp_path)
        save_rule(values["lpg.rule"], rule_network(4, predictions=3, hidden=2, embedding=2).init(jax.random.key(0)))
    config = override(ExperimentConfig(), TINY | values)
    changed = config
    for setting in leaves(config):
        if takes(config, setting.path) or setting.path in SAME_VALUES or another(setting) is None:
            continue
        try:
            changed = override(changed, {setting.path: another(setting)})
        except ConfigError:  # goes ill with another that is refused
            continue
    assert changed != config
    assert program(changed) == program(config)
