"""Settings as JSON."""

import copy
import json

import pytest

from configs.experiment import ExperimentConfig, added_since, from_json, to_json
from configs.presets import DEFAULT, PRESETS, preset, summary
from configs.tree import ConfigError, override


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    config = preset(name)
    assert from_json(json.loads(json.dumps(to_json(config), allow_nan=False))) == config
    assert "Source: " in summary(name)


def test_json_keeps_every_bit():
    values = {"inner.gamma": 1 / 3, "outer.gamma": 1e-30, "network.hidden": (), "seed": 2**32 - 1}
    config = override(preset("atari_stac"), {**values, "network.torso": "mlp", "run_dir": "wörk dir"})
    again = from_json(json.loads(json.dumps(to_json(config))))
    assert again == config
    assert again.network.hidden == ()


def test_the_default_preset_is_stac_on_pong_collapsed():
    config = preset(DEFAULT)
    assert (config.agent, config.game, config.runtime) == ("stac", "atari:pong", "collapsed")


def test_unknown_preset():
    with pytest.raises(ConfigError, match=r"preset: 'atari_stak' is unknown; .*did you mean atari_stac\?"):
        preset("atari_stak")


def edited(change):
    data = copy.deepcopy(to_json(ExperimentConfig()))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.pop("agent"), "another version of onelife: missing agent"),
        (lambda data: data["inner"].update(kappa=1), "another version of onelife: unknown inner.kappa"),
        (lambda data: data.update(network=3), "another version of onelife: network should be a group"),
        (lambda data: data.update(window="3"), "--window: '3' is not an integer"),
        (lambda data: data["network"].update(hidden=[1.5]), "--network.hidden: 1.5 is not an integer"),
        (lambda data: data.update(correction=None), "--correction: None is not a number"),
    ],
)
def test_settings_of_another_version_are_told_apart(change, words):
    with pytest.raises(ConfigError) as error:
        from_json(edited(change))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_not_settings_at_all():
    for data in ([], {}):
        with pytest.raises(ConfigError, match="another version"):
            from_json(data)


def test_what_an_older_version_did_not_have_is_the_default_and_is_told():
    data = edited(lambda data: (data.pop("window"), data["network"].pop("lstm"), data.update(seed=7)))
    assert from_json(data) == override(ExperimentConfig(), {"seed": 7})
    told = "settings of an older version of onelife; what it did not have is the default:"
    assert added_since(data) == f"{told} window = 1, network.lstm = {ExperimentConfig().network.lstm}"
    assert added_since(to_json(ExperimentConfig())) == ""
    without_a_group = edited(lambda data: data.pop("inner"))
    assert from_json(without_a_group) == ExperimentConfig()
    assert "inner.gamma = 0.99, " in added_since(without_a_group)
    assert added_since(without_a_group).endswith(" more")
