import dataclasses

import pytest

from configs.experiment import ExperimentConfig
from configs.tree import ConfigError, from_text, help_texts, leaves, nearest, override


def test_leaves_name_every_setting_as_it_is_typed():
    flags = {setting.flag: setting.value for setting in leaves(ExperimentConfig())}
    assert flags["--network.lstm"] == 0
    assert flags["--correction-discount"] == 1.0
    assert flags["--meta-gradient.trace-decay"] == 1.0
    assert len(flags) == len(list(leaves(ExperimentConfig())))


def test_every_setting_has_one_line_of_help():
    texts = help_texts(ExperimentConfig)
    assert set(texts) == {setting.path for setting in leaves(ExperimentConfig())}
    for path, text in texts.items():
        assert text.endswith("."), path
        assert 10 < len(text) <= 160, path


def test_override_checks_the_whole_at_once():
    # Either change alone would be refused: 3 actors do not divide 32 streams, and 33 streams want an odd number.
    config = override(
        ExperimentConfig(actors=2), {"actors": 3, "streams": 33, "network.lstm": 8, "network.torso": "mlp"}
    )
    assert (config.actors, config.streams, config.network.lstm, config.network.torso) == (3, 33, 8, "mlp")
    assert config.network.hidden == ExperimentConfig().network.hidden
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(int, "1_000", 1000), (float, "1e-3", 0.001), (bool, "false", False), (bool, "True", True), (str, "a b", "a b")],
)
def test_from_text(kind, text, value):
    assert from_text("x", kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (int, "many", "--a.b-c: 'many' is not an integer"),
        (int, "2e3", "--a.b-c: '2e3' is not an integer (write 2000)"),
        (int, "2.5", "--a.b-c: '2.5' is not an integer"),
        (int, "inf", "--a.b-c: 'inf' is not an integer"),
        (float, "fast", "--a.b-c: 'fast' is not a number"),
        (bool, "maybe", "--a.b-c: 'maybe' is not True or False"),
    ],
)
def test_from_text_refuses(kind, text, message):
    with pytest.raises(ConfigError) as error:
        from_text("a.b_c", kind, text)
    assert str(error.value) == message


def test_nearest():
    assert nearest("Stacc", ("impala", "mgrl", "stac")) == "; did you mean stac?"
    assert nearest("zzz", ("impala", "mgrl", "stac")) == ""
