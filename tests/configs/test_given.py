"""What is given and read by nothing, through the command line."""

import jax
import pytest

from agents.make import agent_names
from agents.networks_meta import rule_network
from agents.rules import save_rule
from configs.tree import ConfigError
from configs.validate import AGENTS
from scripts.parse import parse_train


@pytest.fixture(scope="module")
def rule(tmp_path_factory):
    """A rule's file."""
    path = tmp_path_factory.mktemp("rules") / "rule.npz"
    save_rule(path, rule_network(4, predictions=3, hidden=4, embedding=2).init(jax.random.key(0)))
    return str(path)


def refused(*words):
    with pytest.raises(ConfigError) as told:
        parse_train(list(words))
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    "preset, refused, taken",
    [
        ("atari_stac", "--inner.value-weight 0.3", "--inner.rho-clip 2"),
        ("atari_mgrl", "--inner.trace-lambda 0.9", "--inner.value-weight 0.3"),
        ("atari_impala", "", "--inner.gamma 0.9"),
        (
            "atari_stac",
            "--inner.gamma 0.9 --self-tuned.parameters gamma",
            "--inner.alpha 0.5 --self-tuned.parameters gamma",
        ),
    ],
)
def test_a_fixed_value_of_what_is_tuned_is_refused(preset, refused, taken):
    assert parse_train([preset, *taken.split()])
    if refused:
        with pytest.raises(ConfigError, match=r"--inner\.\S+: 0\.\d has no effect .* born as --meta-init\."):
            parse_train([preset, *refused.split()])


@pytest.mark.parametrize("words", ["--window 5", "--meta-optimizer.learning-rate 0", "--meta-init.gamma 3"])
def test_what_tunes_is_refused_where_nothing_is_tuned(words):
    with pytest.raises(ConfigError, match=f"{words.split()[0]} has no effect with --agent impala"):
        parse_train(["atari_impala", *words.split()])


@pytest.mark.parametrize(
    "words, agent",
    [
        ("--intrinsic.weight 0.1", "lirpg"),
        ("--intrinsic.reward-weight 0", "lirpg"),
        ("--lpg.hidden 8", "lpg"),
        ("--bandit.early 1", "bandit"),
    ],
)
def test_settings_of_one_agent_are_refused_beside_another(words, agent):
    key = words.split()[0]
    for other in set(AGENTS) - {agent, "stacx", "maml", "bandit"}:  # which ask for other settings first
        preset = {"lirpg": "atari_lirpg", "lpg": "catch_lpg"}.get(other, f"atari_{other}")
        assert refused(preset, *words.split()) == f"{key} has no effect with --agent {other}; use --agent {agent}"


def test_settings_of_one_agent_are_taken_by_it():
    assert parse_train(["atari_lirpg", "--intrinsic.reward-weight", "0"]).intrinsic.reward_weight == 0
    assert parse_train(["catch_lpg", "--lpg.hidden", "8"]).lpg.hidden == 8
    assert refused("atari_lirpg", "--intrinsic.weight", "0", "--intrinsic.reward-weight", "0").startswith(
        "--intrinsic.reward-weight: 0 is not allowed with --intrinsic.weight 0"
    )


@pytest.mark.parametrize("surrogate", ["lvc", "loaded_dice"])
def test_second_derivatives_that_nothing_reads_are_refused(surrogate):
    given = ["--inner.surrogate", surrogate]
    expected = f"--inner.surrogate: {surrogate} has no effect with --window 1; use --window 2 or more"
    assert refused("atari_stac", *given).startswith(expected)
    assert refused("atari_lirpg", *given, "--meta-gradient.objective", "all").startswith(expected)
    assert refused("atari_impala", *given).endswith("--agent impala, which tunes nothing; leave it out")
    assert parse_train(["atari_stac", *given, "--window", "2"])
    assert parse_train(["atari_stac", *given, "--meta-gradient.differentiation", "trace"])
    assert parse_train(["atari_stac", "--inner.surrogate", "off_policy"])  # whose gradient is another one at a lag


def test_our_agents_are_there():
    """What was added to them (docs/new_agent.md) may read what it likes."""
    assert set(AGENTS) <= set(agent_names())


@pytest.mark.parametrize(
    "words, why",
    [
        ("--lpg.predictions 8", "whose file says how large it is"),
        ("--lpg.hidden 8", "whose file says how large it is"),
        ("--lpg.embedding 8", "whose file says how large it is"),
        ("--lpg.prediction-entropy 0.1", "which tunes nothing"),
        ("--lpg.direction-penalty 0.1", "which tunes nothing"),
        ("--lpg.target-penalty 0.1", "which tunes nothing"),
        ("--window 3", "which tunes nothing"),
    ],
)
def test_what_a_rules_file_decides_or_a_rule_held_still_does_not_read_is_refused(words, why, rule):
    given = ["atari_impala", "--agent", "lpg", *words.split()]
    assert parse_train(given)
    told = refused(*given, "--rule", rule)
    assert told.startswith(f"{words.split()[0]} has no effect with") and why in told
    assert parse_train([*given[:3], "--lpg.prediction-weight", "0.7", "--rule", rule])


def test_presets_take_a_rule_with_the_settings_that_the_page_names(rule):
    """docs/agents.md, "A learned rule": without them these presets are refused."""
    taken = ("atari_impala", "atari_mgrl", "atari_stac", "atari_lirpg", "two_colors_stac", "catch_lpg")
    needed = {
        "smoke": "--correction 0",
        "atari_stacx": "--inner.auxiliary-heads 0",
        "atari_bmg": "--inner.auxiliary-heads 0",
        "two_colors_bmg": "--self-tuned.parameters --self-tuned.form scalar",
    }
    for name in (*taken, *needed):
        words = [name, "--agent", "lpg", "--rule", rule]
        if name in needed:
            assert refused(*words).startswith(needed[name].split()[0])
        assert parse_train([*words, *needed.get(name, "").split()]).lpg.rule == rule
