"""Every range at and just past its ends, and every contradiction, through the tree itself."""

import importlib
import math

import pytest

from agents.make import agent_names, self_tuned_by
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.ranges import ANY_NUMBER, RANGES
from configs.tree import ConfigError, choices, is_tuple, item_type, leaves, override
from configs.validate import check_devices

MLP = {"network.torso": "mlp"}
GRAPH = {"game": "catch", **MLP, "window": 2, "meta_gradient.objective": "all"}
SETTINGS = list(leaves(ExperimentConfig()))
NUMBERS = [setting for setting in SETTINGS if item_type(setting.type) in (int, float)]


def set_number(setting, value):
    return override(ExperimentConfig(), {setting.path: (value,) if is_tuple(setting.type) else value})


def test_every_number_has_a_range_or_is_said_to_need_none():
    assert {setting.path for setting in NUMBERS} == set(RANGES) | set(ANY_NUMBER)
    assert not set(RANGES) & set(ANY_NUMBER)


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.path)
def test_numbers_outside_their_range_are_refused(setting):
    wrong = [True, "1"]
    if setting.type is float:
        wrong += [math.nan, math.inf, -math.inf, 1e39]
    else:
        wrong += [1.5]
    allowed = RANGES.get(setting.path)
    if allowed is not None:
        step = 1 if setting.type is not float else 1e-6
        wrong.append(allowed.low if allowed.open_low else allowed.low - step)
        if allowed.high is not None:
            wrong.append(allowed.high if allowed.open_high else allowed.high + step)
    for value in wrong:
        with pytest.raises(ConfigError) as error:
            set_number(setting, value)
        assert str(error.value).startswith(setting.flag + ": ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if choices(s.type)], ids=lambda setting: setting.path)
def test_choices(setting):
    with pytest.raises(ConfigError, match=setting.flag):
        override(ExperimentConfig(), {setting.path: "anything"})


@pytest.mark.parametrize(
    "values",
    [
        {"inner.gamma": 0.0},
        {"inner.gamma": 1.0},
        {"inner.gamma": 1},  # an int where a float belongs
        {"network.hidden": ()},
        {"correction_discount": 1.0},
        {"meta_optimizer.learning_rate": 0.0},
        {"seed": 2**32 - 1},
        {"meta_init.gamma": -4.6},
        {"correction": 0.1, "window": 3},
        {"correction": 0.1, "window": 2, "lag": "0"},
        {"correction": 0.1, "window": 2, "lag": "free"},
        {"correction": 0.1, "window": 1, "lag": "0", "meta_gradient.differentiation": "trace"},
        {"meta_gradient.differentiation": "trace", "meta_gradient.trace_decay": 0.0},
        {**GRAPH, "meta_gradient.differentiation": "pes", "meta_gradient.pairs": 3},
        {"runtime": "ray", "ray.address": "auto"},
        {"streams": 1},
        {"streams": 2, "meta_gradient.score_returns": "others"},
        {"streams": 2, "meta_gradient.baseline": "other_streams"},
        {"actors": 4, "streams": 8},
        {"game": "catch", **MLP},
        {"game": "two_colors", **MLP},
        {"game": "breakout", **MLP},
        {"agent": "impala", "window": 5},
    ],
    ids=str,
)
def test_what_belongs_together_is_taken(values):
    override(ExperimentConfig(), values)


CORRECTED = {"correction": 0.1, "window": 3}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"correction": 0.1},
            "--correction: 0.1 has no effect with --window 1 at --lag 1; use --window 3 or more, or --correction 0",
        ),
        ({"correction": 0.1, "window": 2}, "--correction: 0.1 has no effect with --window 2 at --lag 1"),
        ({"correction": 1.0, "lag": "0"}, "--correction: 1 has no effect with --window 1 at --lag 0; use --window 2"),
        ({"correction": 0.1, "window": 5, "agent": "impala"}, "--correction: 0.1 has no effect with --agent impala"),
        ({"correction_discount": 0.5}, "--correction-discount: 0.5 has no effect with --correction 0"),
        ({"meta_gradient.trace_decay": 0.5}, "--meta-gradient.trace-decay: 0.5 has no effect with"),
        ({"streams": 33, "actors": 2}, "--streams: 33 do not divide over --actors 2; nearest: 32 or 34"),
        ({"streams": 2, "actors": 5}, "--streams: 2 do not divide over --actors 5; nearest: 5"),
        ({"streams": 5000}, "--streams: 5000 are more than 4096 for each of --actors 1; use at least 2 actors"),
        ({"streams": 1, "meta_gradient.score_returns": "others"}, "--meta-gradient.score-returns: others needs"),
        ({"streams": 1, "meta_gradient.baseline": "other_streams"}, "--meta-gradient.baseline: other_streams needs"),
        (
            CORRECTED | {"meta_gradient.baseline": "other_streams", "meta_gradient.score_returns": "others"},
            "--meta-gradient.baseline: other_streams needs --meta-gradient.score-returns all",
        ),
        (
            CORRECTED | {"meta_gradient.baseline": "other_streams", "meta_gradient.differentiation": "trace"},
            "--correction: 0.1 with --meta-gradient.differentiation trace needs --lag 0, not 1 and --meta-gr",
        ),
        ({"game": "catch"}, "--network.torso: impala_shallow needs images, which --game catch does not have; use mlp"),
        ({"game": "two_colors", "network.torso": "nature"}, "--network.torso: nature needs images"),
        ({"game": "breakut"}, "--game: unknown game 'breakut'"),
        ({"game": ""}, "--game: unknown game ''"),
        ({"ray.address": "auto"}, "--ray.address: 'auto' has no effect with --runtime collapsed; add --runtime ray"),
        (
            {"game": "two_colors", "environment.switch_steps": 2**30},
            "--environment.switch-steps: 1073741824 is not allowed; it must be in [1, 1073741823]",
        ),
        ({"network.hidden": (64, 0)}, "--network.hidden: 0 is not allowed; it must be 1 or more"),
        ({"network.hidden": 64}, "--network.hidden: 64 is not a list"),
        ({"run_dir": None}, "--run-dir: None is not text"),
        ({"game": 3}, "--game: 3 is not text"),
        ({"network": "mlp"}, "--network: 'mlp' is not a NetworkConfig"),
        (
            {"agent": "Stac"},
            "--agent: 'Stac' is unknown; choose from bandit",
        ),
    ],
)
def test_contradictions(values, message):
    with pytest.raises(ConfigError) as error:
        override(ExperimentConfig(), values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spelling", ["MsPacman", "ms_pacman", "atari:MsPacman"])
def test_a_game_has_one_name_whatever_its_spelling(spelling):
    assert ExperimentConfig(game=spelling) == ExperimentConfig(game="atari:ms_pacman")


@pytest.mark.parametrize("lag, needed", [(0, 2), (1, 3)])
def test_a_correction_without_effect_is_refused(lag, needed):
    override(ExperimentConfig(), {"correction": 0.1, "lag": str(lag), "window": needed})
    with pytest.raises(ConfigError, match=f"use --window {needed} or more"):
        override(ExperimentConfig(), {"correction": 0.1, "lag": str(lag), "window": needed - 1})


def test_devices():
    check_devices(preset("atari_stac"), 8)
    with pytest.raises(ConfigError, match=r"--streams: 32 do not divide over the 5 devices.*nearest: 30 or 35"):
        check_devices(preset("atari_stac"), 5)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"correction": 0.1, "meta_gradient.differentiation": "trace"}, "needs --lag 0"),
        ({"correction": 0.1, "window": 4, "outer.policy_weight": 0.0, "agent": "mgrl"}, "returns do not count"),
        ({"agent": "stacx"}, "use 2, as STACX does"),
        ({"inner.auxiliary_heads": 2}, "use 0, or --agent stacx"),
        ({"self_tuned.parameters": ("gamma", "alpha", "gamma")}, "names one of them twice"),
        ({"self_tuned.parameters": ("gama",)}, "did you mean gamma?"),
        ({"agent": "impala", "self_tuned.parameters": ("gamma",)}, "which tunes no hyperparameters"),
        ({"agent": "impala", "self_tuned.form": "state"}, "has no effect with --agent impala"),
        ({"self_tuned.form": "history", "meta_gradient.differentiation": "trace"}, "use reverse"),
        ({"agent": "lirpg"}, "--outer.separate-critic: False is not allowed"),
        (
            {"agent": "lirpg", "outer.separate_critic": True, "meta_gradient.differentiation": "trace"},
            "whose η is a network",
        ),
        ({"agent": "maml"}, "needs --lag 0"),
        ({"agent": "maml", "lag": "0"}, "use next or all"),
        ({"outer.separate_critic": True, "inner.value_weight": 0.0}, "leaves the critic"),
        ({"inner.surrogate": "dice"}, "needs --lag 0, not 1"),
        ({"inner.surrogate": "lsf"}, "needs --lag 0, not 1"),
        ({"inner.surrogate": "lsf", "lag": "0", "correction": 1.0}, "count the same effect twice"),
        ({"outer.entropy_weight": 0.0}, "which would stay 0"),
        ({"agent": "bandit"}, "is for --game bandit"),
        ({"agent": "lpg", "lpg.rule": "nowhere.npz"}, "nowhere.npz' is missing"),
        ({"lpg.rule": "nowhere.npz"}, "has no effect with --agent stac"),
        ({"optimizer.learning_rate": 1e40}, r"1e\+40 is not allowed; float32 ends at 3.4e\+38"),
        ({"optimizer.learning_rate": 1e-60}, "1e-60 is not allowed; float32 begins at 1.18e-38, next to 0"),
        ({"meta_init.gamma": -1e-39}, "-1e-39 is not allowed; float32 begins at"),
        ({"inner.surrogate_decay": 0.5}, "has no effect with --inner.surrogate plain"),
        ({"inner.surrogate": "lvc", "window": 4, "correction": 0.1}, "count the same effect twice"),
        ({"bootstrap.updates": 3}, "--bootstrap.updates: 3 has no effect with --meta-gradient.objective same"),
        (
            {"meta_gradient.objective": "bootstrap", "meta_gradient.differentiation": "trace"},
            "bootstrap needs --meta-gradient.differentiation reverse",
        ),
        ({"meta_gradient.objective": "bootstrap", "bootstrap.match_policy": 0.0}, "other matching weights are 0, too"),
        ({"meta_gradient.objective": "bootstrap", "window": 5, "correction": 0.1}, "does not score by"),
        ({"outer.value_weight": 0.0}, "which would stay 0"),
        ({**GRAPH, "game": "bandit", "agent": "bandit", "lag": "1"}, "--agent: bandit has no importance ratios"),
        ({"meta_gradient.pairs": 2}, "--meta-gradient.pairs: 2 has no effect with --meta-gradient.differentiation rev"),
        ({**GRAPH, "meta_gradient.differentiation": "finite_differences", "meta_gradient.pairs": 2}, "use es or pes"),
        ({"meta_gradient.standard_deviation": 0.2}, "leave it at 0.1 or use es or pes or finite_differences"),
        ({"meta_gradient.differentiation": "es"}, "which --game atari:pong cannot"),
        ({**GRAPH, "meta_gradient.differentiation": "es", "runtime": "ray"}, "which --runtime ray cannot"),
        ({**GRAPH, "meta_gradient.differentiation": "es", "meta_gradient.objective": "same"}, "use next or all"),
        ({**GRAPH, "meta_gradient.differentiation": "es", "window": 3, "correction": 0.1}, "meet their own data"),
        (
            {**GRAPH, "meta_gradient.differentiation": "finite_differences", "self_tuned.form": "history"},
            "too many parameters for --meta-gradient.differentiation finite_differences",
        ),
    ],
)
def test_settings_that_undo_each_other_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        override(ExperimentConfig(), values)


def test_what_agents_tune_is_what_their_files_say():
    for name in agent_names():
        own = importlib.import_module(f"agents.{name}")
        assert self_tuned_by(name) == tuple(own.SELF_TUNED), name
